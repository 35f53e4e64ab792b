//! How a capture ended.

use linerate::RxStats;
use serde::Serialize;

use super::receive::Counts;
use super::table::{GroupLine, group_table};
use crate::failure::Failure;
use crate::format::{bps, bytes, per_second, plural, pps, wire_bits};
use crate::interface::Bracket;
use crate::json::{Identity, Line, Volume};
use crate::ledger::{Ledger, LedgerFields};
use crate::output::{Output, Paint};

/// The ledger of a capture. `lost` is what the writer could not write.
///
/// Whatever counted the frames, it is not what says where they went, so that the remainder means
/// something: a queue's own counter is held against what the handler and the writer counted, and
/// the interface's counter against all of these.
pub(crate) fn ledger(
    counts: &Counts,
    queue: &RxStats,
    bracket: Option<&Bracket>,
    delivered: u64,
    lost: Option<(&'static str, u64)>,
) -> Ledger {
    let at_queue = (queue.frames + queue.lost()).saturating_sub(counts.surplus);
    let mut ledger = Ledger::new(at_queue, "counted by the queue: this capture's flows", delivered);
    ledger.drop_all(queue.losses());
    ledger.drop("writer_queue_full", counts.refused);
    if let Some((name, n)) = lost {
        ledger.drop(name, n);
    }
    // Where the kernel merged frames, the interface counted others than came here.
    if let Some(bracket) = bracket.filter(|_| counts.merged == 0) {
        let seen = at_queue + bracket.missed();
        if let Some(wire) = bracket.wire(seen) {
            ledger.drop("card_missed", bracket.missed());
            ledger.wire = wire;
            ledger.wire_is = "counted by the interface: all that came in";
        }
    }
    ledger
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) seconds: f64,
    pub(crate) counts: &'a Counts,
    /// Frames that arrived cut or damaged and were kept.
    pub(crate) flagged: u64,
    pub(crate) ledger: &'a Ledger,
    pub(crate) groups: Option<Vec<GroupLine>>,
    /// Name, number of files, bytes.
    pub(crate) file: Option<(&'a str, u64, u64)>,
    pub(crate) failure: Option<&'a Failure>,
}

#[derive(Serialize)]
struct Final<'a> {
    #[serde(flatten)]
    ledger: LedgerFields<'a>,
    merged: u64,
    flagged: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a [GroupLine]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Summary<'_> {
    /// In the voice asked for.
    pub(crate) fn print(&self, out: &Output) {
        if out.is_json() {
            let volume = Volume {
                seconds: self.seconds,
                frames: self.counts.frames,
                bytes: self.counts.bytes,
                pps: per_second(self.counts.frames as f64, self.seconds),
            };
            let last = Final {
                ledger: self.ledger.fields(),
                merged: self.counts.merged,
                flagged: self.flagged,
                groups: self.groups.as_deref(),
                file: self.file.map(|(name, ..)| name),
                files: self.file.map(|(_, files, _)| files),
                file_bytes: self.file.map(|(.., bytes)| bytes),
                error: self.failure.map(ToString::to_string),
            };
            out.json(&Line::last(self.identity, volume, last));
        } else {
            out.text(&self.text(out.paint()));
        }
    }

    fn text(&self, paint: Paint) -> String {
        let Counts { frames, bytes: size, .. } = *self.counts;
        let mut parts = vec![format!(
            "{} on {} in {:.1} s: {}, {} on the wire",
            plural(frames, "frame"),
            self.identity.port,
            self.seconds,
            pps(per_second(frames as f64, self.seconds)),
            bps(per_second(wire_bits(frames, size), self.seconds)),
        )];
        if let Some((name, files, size)) = self.file {
            let others = match files.saturating_sub(1) {
                0 => String::new(),
                n => format!(" and {} after it", plural(n, "file")),
            };
            parts.push(format!("written to {name}{others} ({})", bytes(size)));
        }
        if self.counts.merged > 0 {
            parts.push(format!(
                "{} made by the kernel of several (GRO); to see them as they were on the wire:\n  \
                 ethtool -K {} gro off lro off",
                plural(self.counts.merged, "frame"),
                self.identity.interface,
            ));
        }
        if self.flagged > 0 {
            let what = plural(self.flagged, "frame");
            parts.push(format!("{what} arrived cut or damaged and were kept as they came"));
        }
        if let Some(groups) = &self.groups {
            parts.push(group_table(groups, paint));
        }
        parts.push(self.ledger.render(paint));
        parts.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::Counters;

    fn queue(frames: u64, kernel_drop: u64) -> RxStats {
        let mut stats = RxStats::default();
        stats.frames = frames;
        stats.kernel_drop = kernel_drop;
        stats
    }

    #[test]
    fn every_way_to_lose_a_frame_is_in_the_ledger() {
        let counts = Counts { frames: 90, refused: 5, surplus: 10, ..Counts::default() };
        let ledger = ledger(&counts, &queue(100, 7), None, 82, Some(("disk_full", 3)));
        assert_eq!((ledger.wire, ledger.lost(), ledger.unexplained()), (97, 15, 0));
        assert_eq!(
            ledger.comment(),
            "wire 97 (counted by the queue: this capture's flows) = delivered 82 + disk_full 3 + \
             kernel_drop 7 + writer_queue_full 5 + unexplained 0"
        );
    }

    #[test]
    fn frames_that_vanish_are_unexplained() {
        let counts = Counts { frames: 90, ..Counts::default() };
        assert_eq!(ledger(&counts, &queue(90, 0), None, 88, None).unexplained(), 2);
        let at = |received| Counters { received, missed: 0 };
        let (from, to) = (at(0), at(100));
        let bracket = Bracket { before_open: from, after_open: from, at_end: to, after_end: to };
        let ledger = ledger(&counts, &queue(90, 4), Some(&bracket), 90, None);
        assert_eq!((ledger.wire, ledger.unexplained()), (100, 6));
    }

    #[test]
    fn counters_of_merged_frames_are_not_compared() {
        let counts = Counts { frames: 90, merged: 1, ..Counts::default() };
        let at = |received| Counters { received, missed: 0 };
        let (from, to) = (at(0), at(100));
        let bracket = Bracket { before_open: from, after_open: from, at_end: to, after_end: to };
        let ledger = ledger(&counts, &queue(90, 0), Some(&bracket), 90, None);
        assert_eq!((ledger.wire, ledger.unexplained()), (90, 0));
    }
}
