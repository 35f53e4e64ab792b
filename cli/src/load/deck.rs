//! The frames of a load, ready to be marked: one for each group and size.

use linerate::FlowSpec;

use crate::failure::Failure;
use crate::groups::MAX_GROUPS;
use crate::meeting;
use crate::probe::{Kind, Mark, Origin, Stencil, any_number};
use crate::sizes::Sizes;
use crate::values::Mac;

/// Most memory for frames that are ready.
const MOST_BYTES: usize = 512 << 20;

/// Deals frames: the groups in turn, and for each group the sizes in turn.
#[derive(Debug)]
pub(crate) struct Deck {
    groups: Vec<Group>,
    /// Which of a group's stencils its frames use, in turn.
    cycle: Vec<usize>,
    at: usize,
    stream: u8,
}

#[derive(Debug)]
struct Group {
    stencils: Vec<Stencil>,
    next: u32,
    turn: usize,
}

impl Deck {
    /// Frames of these sizes to these flows.
    pub(crate) fn new(
        flows: &[FlowSpec],
        sizes: &Sizes,
        origin: &Origin,
        dst_mac: Option<Mac>,
    ) -> Result<Self, Failure> {
        let distinct = sizes.distinct();
        let bytes = distinct.iter().sum::<usize>() * flows.len();
        if flows.len() > MAX_GROUPS || bytes > MOST_BYTES {
            return Err(Failure::usage(format!(
                "{} groups of {} sizes are too many",
                flows.len(),
                distinct.len()
            ))
            .remedy(format!("use at most {MAX_GROUPS} groups, or fewer sizes")));
        }
        let src_port = 0x8000 | any_number() as u16;
        let group = |flow: &FlowSpec| -> Result<Group, Failure> {
            let Some(to) = meeting::destination(flow) else {
                return Err(Failure::usage(format!("{flow} is no destination")));
            };
            let stencil = |len: &usize| Stencil::new(*len, origin, src_port, to, dst_mac);
            let stencils = distinct.iter().map(stencil).collect::<Result<_, _>>()?;
            Ok(Group { stencils, next: 0, turn: 0 })
        };
        let place = |len: &usize| distinct.iter().position(|one| one == len).unwrap_or(0);
        Ok(Self {
            groups: flows.iter().map(group).collect::<Result<_, _>>()?,
            cycle: sizes.bytes.iter().map(place).collect(),
            at: 0,
            stream: any_number() as u8,
        })
    }

    /// Numbers begin at 0 again, as another stream.
    pub(crate) fn begin_anew(&mut self) {
        self.stream = self.stream.wrapping_add(1);
        for group in &mut self.groups {
            (group.next, group.turn) = (0, 0);
        }
        self.at = 0;
    }

    /// Tells this sender's frames from others'.
    pub(crate) fn stream(&self) -> u8 {
        self.stream
    }

    /// The frame at hand, due at `time_ns`. The same again until [`step`](Self::step).
    #[inline]
    pub(crate) fn frame(&mut self, time_ns: u64) -> &[u8] {
        let group = &mut self.groups[self.at];
        let mark = Mark { kind: Kind::Load, stream: self.stream, seq: group.next, time_ns };
        group.stencils[self.cycle[group.turn]].marked(&mark)
    }

    /// On to the next frame.
    #[inline]
    pub(crate) fn step(&mut self) {
        let group = &mut self.groups[self.at];
        group.next = group.next.wrapping_add(1);
        group.turn = if group.turn + 1 == self.cycle.len() { 0 } else { group.turn + 1 };
        self.at = if self.at + 1 == self.groups.len() { 0 } else { self.at + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate::packet::Headers;

    #[test]
    fn groups_and_sizes_take_turns_and_each_group_counts_for_itself() {
        let flows = meeting::groups(&["239.1.1.1:5000+2".into()]).unwrap();
        let sizes: Sizes = "60,100".parse().unwrap();
        let mut deck = Deck::new(&flows, &sizes, &Origin::of(None), None).unwrap();
        let mut seen = Vec::new();
        for _ in 0..6 {
            let frame = deck.frame(1_790_000_000_000_000_000).to_vec();
            let mark = Mark::of_frame(&frame, 1_790_000_000_000_000_000).unwrap();
            let to = Headers::parse(&frame).unwrap().addresses.unwrap().1.to_string();
            seen.push((to, frame.len(), mark.seq));
            deck.step();
        }
        let expected = [(1, 60, 0), (2, 60, 0), (1, 100, 1), (2, 100, 1), (1, 60, 2), (2, 60, 2)];
        let expected = expected.map(|(g, len, seq)| (format!("239.1.1.{g}"), len, seq));
        assert_eq!(seen, expected);
    }
}
