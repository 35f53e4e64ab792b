//! What a capture says while it runs and when it has ended.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use linerate::{FlowSpec, Port, RxStats};
use serde::Serialize;

use super::receive::{Counts, Desk};
use crate::failure::Failure;
use crate::format::{bps, bytes, count, per_second, plural, pps, wire_bits};
use crate::groups::{self, GroupCount};
use crate::interface::Bracket;
use crate::ledger::Ledger;
use crate::output::{Output, Paint};
use crate::writer::Progress;

/// Rows of the group table; the others are summed up.
const ROWS: usize = 40;

/// Which port it was.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    port: String,
    interface: String,
    backend: &'static str,
}

impl Identity {
    pub(crate) fn of(port: &Port) -> Self {
        Self {
            port: port.uri().to_owned(),
            interface: port.name().to_owned(),
            backend: port.backend().name(),
        }
    }
}

/// One group's counters, as printed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GroupLine {
    pub(crate) group: String,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Jumps of the sequence; 0 when the place of the number is not known.
    pub(crate) gaps: u64,
    /// Numbers jumped over.
    pub(crate) missing: u64,
    /// Datagrams behind the expected number.
    pub(crate) late: u64,
    /// Was a sequence number looked for?
    #[serde(skip)]
    pub(crate) sequenced: bool,
}

/// The counters with their groups' names.
pub(crate) fn group_lines(
    flows: &[FlowSpec],
    counts: &[GroupCount],
    sequenced: bool,
) -> Vec<GroupLine> {
    let names = flows.iter().filter(|flow| super::is_group(flow.kind)).map(groups::name);
    let line = |(group, n): (String, &GroupCount)| GroupLine {
        group,
        frames: n.frames,
        bytes: n.bytes,
        gaps: n.sequence.gaps,
        missing: n.sequence.missing,
        late: n.sequence.late,
        sequenced,
    };
    names.zip(counts).map(line).collect()
}

/// Groups as a table of at most 80 columns.
pub(crate) fn group_table(lines: &[GroupLine], paint: Paint) -> String {
    let sequenced = lines.iter().any(|line| line.sequenced);
    let row = |group: &str, frames: &str, size: &str, gaps: &str, missing: &str, late: &str| {
        let left = format!("  {group:<34} {frames:>12} {size:>10}");
        if sequenced { format!("{left} {gaps:>5} {missing:>7} {late:>5}") } else { left }
    };
    let mut text = vec![paint.bold(&row("group", "frames", "size", "gaps", "missing", "late"))];
    for line in lines.iter().take(ROWS) {
        let shown = row(
            &line.group,
            &count(line.frames),
            &bytes(line.bytes),
            &count(line.gaps),
            &count(line.missing),
            &count(line.late),
        );
        text.push(if line.gaps > 0 { paint.bad(&shown) } else { shown });
    }
    if let Some(rest) = lines.get(ROWS..).filter(|rest| !rest.is_empty()) {
        let sum = |of: fn(&GroupLine) -> u64| rest.iter().map(of).sum::<u64>();
        text.push(row(
            &format!("({} more; all with --json)", rest.len()),
            &count(sum(|l| l.frames)),
            &bytes(sum(|l| l.bytes)),
            &count(sum(|l| l.gaps)),
            &count(sum(|l| l.missing)),
            &count(sum(|l| l.late)),
        ));
    }
    text.join("\n")
}

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

/// The ledger in one line, for the file.
pub(crate) fn comment(ledger: &Ledger) -> String {
    let lost: String = ledger.dropped.iter().map(|(name, n)| format!(" + {name} {n}")).collect();
    format!(
        "wire {} ({}) = delivered {}{lost} + unexplained {}",
        ledger.wire,
        ledger.wire_is,
        ledger.delivered,
        ledger.unexplained()
    )
}

/// Progress, once a second.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    identity: &'a Identity,
    begun: Instant,
    next: Instant,
    asked: bool,
    last: (Instant, u64, u64),
}

const SECOND: Duration = Duration::from_secs(1);
/// The receive loop is asked this long before the numbers are shown.
const NOTICE: Duration = Duration::from_millis(120);

impl<'a> Live<'a> {
    /// The first JSON line comes at once: it says that frames are being received from here on.
    pub(crate) fn new(identity: &'a Identity, out: &Output) -> Self {
        let begun = Instant::now();
        let next = if out.is_json() { begun } else { begun + SECOND };
        Self { identity, begun, next, asked: false, last: (begun, 0, 0) }
    }

    /// To be called often.
    pub(crate) fn tick(
        &mut self,
        desk: &Desk,
        writer: Option<&Progress>,
        groups: &dyn Fn(&[GroupCount]) -> Vec<GroupLine>,
        out: &Output,
    ) {
        if !out.is_json() && !out.shows_live() {
            return;
        }
        let now = Instant::now();
        if !self.asked && now + NOTICE >= self.next {
            desk.ask();
            self.asked = true;
        }
        if now < self.next {
            return;
        }
        self.next += SECOND;
        self.asked = false;
        let (counts, queue, lines) = desk.read(|sheet| {
            let lines = if out.is_json() { groups(&sheet.groups) } else { Vec::new() };
            (sheet.counts, sheet.queue, lines)
        });
        let (then, frames, size) =
            std::mem::replace(&mut self.last, (now, counts.frames, counts.bytes));
        let span = (now - then).as_secs_f64();
        let frame_rate = per_second((counts.frames - frames) as f64, span);
        let bit_rate = per_second(wire_bits(counts.frames - frames, counts.bytes - size), span);
        let written = writer.map(|progress| progress.frames.load(Ordering::Relaxed));
        let lost = queue.lost() + counts.refused;
        if out.is_json() {
            let mut dropped: BTreeMap<_, _> = queue.losses().filter(|(_, n)| *n > 0).collect();
            if counts.refused > 0 {
                dropped.insert("writer_queue_full", counts.refused);
            }
            out.json(&Second {
                r#final: false,
                port: &self.identity.port,
                backend: self.identity.backend,
                seconds: self.begun.elapsed().as_secs_f64(),
                frames: counts.frames,
                bytes: counts.bytes,
                pps: frame_rate,
                bps: bit_rate,
                written,
                dropped,
                groups: lines,
            });
        } else {
            let written = written.map_or(String::new(), |n| format!("  written {}", count(n)));
            out.live(&format!(
                "{:>4} s  {} frames  {}  {}{written}  lost {}",
                self.begun.elapsed().as_secs(),
                count(counts.frames),
                pps(frame_rate),
                bps(bit_rate),
                count(lost)
            ));
        }
    }
}

#[derive(Serialize)]
struct Second<'a> {
    r#final: bool,
    port: &'a str,
    backend: &'a str,
    seconds: f64,
    frames: u64,
    bytes: u64,
    pps: f64,
    bps: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<u64>,
    dropped: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupLine>,
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
    r#final: bool,
    port: &'a str,
    backend: &'a str,
    seconds: f64,
    frames: u64,
    bytes: u64,
    wire: u64,
    wire_is: &'a str,
    delivered: u64,
    dropped: &'a BTreeMap<&'static str, u64>,
    unexplained: i64,
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
            out.json(&Final {
                r#final: true,
                port: &self.identity.port,
                backend: self.identity.backend,
                seconds: self.seconds,
                frames: self.counts.frames,
                bytes: self.counts.bytes,
                wire: self.ledger.wire,
                wire_is: self.ledger.wire_is,
                delivered: self.ledger.delivered,
                dropped: &self.ledger.dropped,
                unexplained: self.ledger.unexplained(),
                merged: self.counts.merged,
                flagged: self.flagged,
                groups: self.groups.as_deref(),
                file: self.file.map(|(name, ..)| name),
                files: self.file.map(|(_, files, _)| files),
                file_bytes: self.file.map(|(.., bytes)| bytes),
                error: self.failure.map(ToString::to_string),
            });
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
            let others =
                if files > 1 { format!(", the last of {files} files") } else { String::new() };
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
            comment(&ledger),
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
