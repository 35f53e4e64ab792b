//! Counting a load by its numbers.

use hdrhistogram::Histogram;
use linerate::clock::now_ns;
use linerate::{FlowSpec, RxFrame};

use crate::groups::Groups;
use crate::histogram;
use crate::probe::{Follow, Kind, Mark, Unmarked};

/// Senders to one group that are followed apart.
const SENDERS: usize = 16;

/// What came in on one group, or on all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Numbers that were jumped over and did not come.
    pub(crate) missing: u64,
    /// Times that numbers were jumped over.
    pub(crate) gaps: u64,
    /// Frames behind a higher number.
    pub(crate) reordered: u64,
    /// Frames whose number had come before.
    pub(crate) duplicates: u64,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.missing += other.missing;
        self.gaps += other.gaps;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
    }
}

#[derive(Debug, Clone, Default)]
struct Group {
    frames: u64,
    bytes: u64,
    senders: Vec<Follow>,
}

impl Group {
    fn totals(&self) -> Totals {
        let mut totals = Totals { frames: self.frames, bytes: self.bytes, ..Totals::default() };
        for follow in &self.senders {
            totals.missing += follow.missing();
            totals.gaps += follow.gaps;
            totals.reordered += follow.reordered;
            totals.duplicates += follow.duplicates;
        }
        totals
    }
}

/// What has come in.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    lookup: Groups,
    groups: Vec<Group>,
    /// Only this sender's frames count, if one is named.
    only: Option<u8>,
    pub(crate) damaged: u64,
    /// Frames that are not of a load, or of another sender.
    pub(crate) foreign: u64,
    /// From due to handled, in ns.
    pub(crate) handled: Histogram<u64>,
    /// From due to the port's own stamp.
    pub(crate) stamped: Histogram<u64>,
    /// Frames that came before they were sent: the clocks differ.
    pub(crate) early: u64,
}

impl Tally {
    /// For these groups and addresses.
    pub(crate) fn new(flows: &[FlowSpec]) -> Self {
        Self {
            lookup: Groups::new(flows, None),
            groups: vec![Group::default(); flows.len()],
            only: None,
            damaged: 0,
            foreign: 0,
            handled: histogram::of_ns(),
            stamped: histogram::of_ns(),
            early: 0,
        }
    }

    /// For the frames of one sender alone.
    pub(crate) fn only(mut self, stream: u8) -> Self {
        self.only = Some(stream);
        self
    }

    /// Takes note of a frame.
    #[inline]
    pub(crate) fn see(&mut self, frame: &RxFrame<'_>) {
        let now = now_ns();
        let mark = match Mark::of_frame(frame.bytes, now) {
            Ok(mark) if mark.kind == Kind::Load => mark,
            Ok(_) | Err(Unmarked::Foreign) => return self.foreign += 1,
            Err(Unmarked::Damaged) => return self.damaged += 1,
        };
        let wire_len = u64::from(frame.meta.wire_len);
        let group = self.lookup.count(frame.bytes, wire_len);
        // Addresses are no groups: with one flow alone there is no doubt.
        let group = group.or((self.groups.len() == 1).then_some(0));
        let Some(group) = group.and_then(|i| self.groups.get_mut(i)) else {
            return self.foreign += 1;
        };
        if self.only.is_some_and(|stream| stream != mark.stream) {
            return self.foreign += 1;
        }
        group.frames += 1;
        group.bytes += wire_len;
        let known = group.senders.iter().position(|f| f.stream() == Some(mark.stream));
        let at = known.unwrap_or_else(|| {
            if group.senders.len() < SENDERS {
                group.senders.push(Follow::default());
            }
            group.senders.len() - 1
        });
        group.senders[at].see(mark.stream, mark.seq);
        match now.checked_sub(mark.time_ns) {
            Some(ns) => self.handled.saturating_record(ns),
            None => self.early += 1,
        }
        if let Some(ns) = frame.meta.timestamp().and_then(|ts| ts.checked_sub(mark.time_ns)) {
            self.stamped.saturating_record(ns);
        }
    }

    /// Each group's counts, in the order of the flows.
    pub(crate) fn groups(&self) -> Vec<Totals> {
        self.groups.iter().map(Group::totals).collect()
    }

    /// All groups together.
    pub(crate) fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.groups().iter().for_each(|totals| sum.add(totals));
        sum
    }

    /// Frames so far: cheap.
    pub(crate) fn frames(&self) -> u64 {
        self.groups.iter().map(|group| group.frames).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Deck;
    use crate::meeting;
    use crate::probe::Origin;
    use linerate::RxMeta;

    #[test]
    fn what_a_deck_deals_is_counted_where_it_belongs() {
        let flows = meeting::groups(&["239.1.1.1:5000+3".into()]).unwrap();
        let mut deck =
            Deck::new(&flows, &"60,900".parse().unwrap(), &Origin::of(None), None).unwrap();
        let mut tally = Tally::new(&flows);
        let mut see = |bytes: &[u8]| {
            tally.see(&RxFrame { bytes, meta: RxMeta::plain(bytes.len()) });
        };
        for n in 0..300 {
            let mut frame = deck.frame(now_ns()).to_vec();
            deck.step();
            match n {
                30 => {}                                // lost: the 11th of the first group
                61 => (0..2).for_each(|_| see(&frame)), // the second group, twice
                92 => {
                    frame[45] ^= 1; // the third group, damaged
                    see(&frame);
                }
                _ => see(&frame),
            }
        }
        see(&[0; 60]);
        let groups = tally.groups();
        let of = |i: usize| (groups[i].frames, groups[i].missing, groups[i].duplicates);
        assert_eq!([of(0), of(1), of(2)], [(99, 1, 0), (101, 0, 1), (99, 1, 0)]);
        assert_eq!((tally.damaged, tally.foreign, tally.totals().missing), (1, 1, 2));
        assert_eq!(tally.handled.len() + tally.early, 299);
    }
}
