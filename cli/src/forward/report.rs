//! What a forwarder says while it runs and when it has ended.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::path::{Shared, Way};
use crate::failure::Failure;
use crate::format::{bps, count, per_second, plural, pps, wire_bits};
use crate::json::{Identity, Line, Volume};
use crate::ledger::{Ledger, LedgerFields};
use crate::output::{Output, Paint};

/// Progress, once a second.
pub(crate) struct Live<'a> {
    ids: &'a [Identity; 2],
    begun: Instant,
    next: Instant,
    last: (Instant, [u64; 2]),
}

#[derive(Serialize)]
struct Second {
    /// Frames from A to B, and from B to A.
    a_to_b: u64,
    b_to_a: u64,
    a_to_b_pps: f64,
    b_to_a_pps: f64,
}

impl<'a> Live<'a> {
    /// The first JSON line comes at once: frames are passed on from here on.
    pub(crate) fn new(ids: &'a [Identity; 2], out: &Output) -> Self {
        let begun = Instant::now();
        let next = if out.is_json() { begun } else { begun + Duration::from_secs(1) };
        Self { ids, begun, next, last: (begun, [0; 2]) }
    }

    /// To be called often.
    pub(crate) fn tick(&mut self, shared: &Shared, out: &Output) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next += Duration::from_secs(1);
        let read = |i: usize| shared.passed[i].0.load(Ordering::Relaxed);
        let bytes: u64 = shared.passed.iter().map(|way| way.1.load(Ordering::Relaxed)).sum();
        let frames = [read(0), read(1)];
        let (then, before) = std::mem::replace(&mut self.last, (now, frames));
        let span = (now - then).as_secs_f64();
        let rate = |i: usize| per_second((frames[i] - before[i]) as f64, span);
        let seconds = self.begun.elapsed().as_secs_f64();
        let (ab, ba) = (rate(0), rate(1));
        let [a_to_b, b_to_a] = frames;
        let volume = Volume { seconds, frames: a_to_b + b_to_a, bytes, pps: ab + ba };
        let second = Second { a_to_b, b_to_a, a_to_b_pps: ab, b_to_a_pps: ba };
        out.json(&Line::running(&self.ids[0], volume, second));
        out.live(&format!(
            "{seconds:>4.0} s  A to B {} frames  {}   B to A {} frames  {}",
            count(a_to_b),
            pps(ab),
            count(b_to_a),
            pps(ba)
        ));
    }
}

/// How it ended.
pub(crate) struct Summary<'a> {
    pub(crate) ids: &'a [Identity; 2],
    pub(crate) zero_copy: bool,
    pub(crate) seconds: f64,
    pub(crate) ways: &'a [Way],
    pub(crate) failure: Option<&'a Failure>,
}

#[derive(Serialize)]
struct WayFields<'a> {
    from: &'a str,
    to: &'a str,
    frames: u64,
    bytes: u64,
    checksums_completed: u64,
    #[serde(flatten)]
    ledger: LedgerFields<'a>,
}

#[derive(Serialize)]
struct Final<'a> {
    other_port: &'a str,
    zero_copy: bool,
    ways: Vec<WayFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Summary<'_> {
    /// In the voice asked for.
    pub(crate) fn print(&self, out: &Output) {
        let ledgers: Vec<Ledger> = self.ways.iter().map(ledger).collect();
        if !out.is_json() {
            out.text(&self.text(&ledgers, out.paint()));
            return;
        }
        let ends = [(0, 1), (1, 0)];
        let fields = |((way, ledger), (from, to)): ((&_, _), (usize, usize))| {
            let way: &Way = way;
            let ledger: &Ledger = ledger;
            WayFields {
                from: &self.ids[from].port,
                to: &self.ids[to].port,
                frames: way.counts.passed,
                bytes: way.counts.bytes,
                checksums_completed: way.counts.summed,
                ledger: ledger.fields(),
            }
        };
        let frames = self.ways.iter().map(|way| way.counts.passed).sum();
        let volume = Volume {
            seconds: self.seconds,
            frames,
            bytes: self.ways.iter().map(|way| way.counts.bytes).sum(),
            pps: per_second(frames as f64, self.seconds),
        };
        let last = Final {
            other_port: &self.ids[1].port,
            zero_copy: self.zero_copy,
            ways: self.ways.iter().zip(&ledgers).zip(ends).map(fields).collect(),
            error: self.failure.map(ToString::to_string),
        };
        out.json(&Line::last(&self.ids[0], volume, last));
    }

    fn text(&self, ledgers: &[Ledger], paint: Paint) -> String {
        let mut lines = Vec::new();
        let names = ["A to B", "B to A"];
        for ((way, ledger), name) in self.ways.iter().zip(ledgers).zip(names) {
            let counts = &way.counts;
            lines.push(format!(
                "{}  {} in {:.1} s: {}, {} on the wire",
                paint.bold(name),
                plural(counts.passed, "frame"),
                self.seconds,
                pps(per_second(counts.passed as f64, self.seconds)),
                bps(per_second(wire_bits(counts.passed, counts.bytes), self.seconds)),
            ));
            if counts.too_long > 0 {
                lines.push(
                    "  too long: made by the kernel of several? ethtool -K DEV gro off tso off"
                        .into(),
                );
            }
            lines.push(ledger.render(paint));
        }
        lines.join("\n")
    }
}

/// Frames that came in = frames that left + losses by name.
fn ledger(way: &Way) -> Ledger {
    let at_queue = way.rx.frames + way.rx.lost();
    let left = way.tx.completed.min(way.counts.passed);
    let mut ledger = Ledger::new(at_queue, "counted by the receiving queue", left);
    ledger.drop_all(way.rx.losses());
    ledger.drop_all(way.counts.dropped().into_iter());
    ledger.drop_all(way.tx.losses());
    if way.failure.is_some() {
        let settled = way.tx.completed + way.tx.lost();
        ledger.drop("unsent", way.counts.passed.saturating_sub(settled));
    }
    ledger
}
