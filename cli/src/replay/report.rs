//! What a replay says while it runs and when it has ended.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use linerate::TxStats;
use serde::Serialize;

use super::send::{Shared, Tally};
use crate::args::ReplayArgs;
use crate::failure::Failure;
use crate::format::{bps, count, ns, per_second, plural, pps, wire_bits};
use crate::json::{Identity, Line, Volume};
use crate::ledger::{Ledger, LedgerFields};
use crate::output::{Output, Paint};
use crate::values::Speed;

/// Progress, once a second.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    identity: &'a Identity,
    begun: Instant,
    next: Instant,
    last: (Instant, u64),
}

#[derive(Serialize)]
struct Second {
    behind_ns: u64,
}

impl<'a> Live<'a> {
    pub(crate) fn new(identity: &'a Identity, begun: Instant) -> Self {
        Self { identity, begun, next: begun + Duration::from_secs(1), last: (begun, 0) }
    }

    /// To be called often.
    pub(crate) fn tick(&mut self, shared: &Shared, out: &Output) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next += Duration::from_secs(1);
        let frames = shared.frames.load(Ordering::Relaxed);
        let behind_ns = shared.behind_ns.load(Ordering::Relaxed);
        let (then, before) = std::mem::replace(&mut self.last, (now, frames));
        let rate = per_second((frames - before) as f64, (now - then).as_secs_f64());
        let volume = Volume {
            seconds: self.begun.elapsed().as_secs_f64(),
            frames,
            bytes: shared.bytes.load(Ordering::Relaxed),
            pps: rate,
        };
        out.json(&Line::running(self.identity, volume, Second { behind_ns }));
        out.live(&format!(
            "{:>4} s  {} frames  {}  behind schedule by {}",
            self.begun.elapsed().as_secs(),
            count(frames),
            pps(rate),
            ns(behind_ns)
        ));
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) args: &'a ReplayArgs,
    pub(crate) seconds: f64,
    pub(crate) tally: &'a Tally,
    pub(crate) queue: &'a TxStats,
    pub(crate) errors: &'a Histogram<u64>,
    pub(crate) out_of_order: u64,
    pub(crate) cut: u64,
    pub(crate) interrupted: bool,
    pub(crate) failure: Option<&'a Failure>,
}

/// Null where there is no schedule to keep.
#[derive(Serialize)]
struct ScheduleError {
    p50: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

#[derive(Serialize)]
struct Final<'a> {
    file: String,
    speed: String,
    #[serde(flatten)]
    ledger: LedgerFields<'a>,
    schedule_error_ns: ScheduleError,
    held_back: u64,
    out_of_order: u64,
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Summary<'_> {
    /// In the voice asked for.
    pub(crate) fn print(&self, out: &Output) {
        let ledger = self.ledger();
        if !out.is_json() {
            out.text(&self.text(&ledger, out.paint()));
            return;
        }
        let error = |p: f64| self.measured().then(|| self.errors.value_at_percentile(p));
        let volume = Volume {
            seconds: self.seconds,
            frames: self.tally.frames,
            bytes: self.tally.bytes,
            pps: per_second(self.tally.frames as f64, self.seconds),
        };
        let last = Final {
            file: self.args.file.display().to_string(),
            speed: self.args.speed.to_string(),
            ledger: ledger.fields(),
            schedule_error_ns: ScheduleError {
                p50: error(50.0),
                p99: error(99.0),
                max: error(100.0),
            },
            held_back: self.tally.held_back,
            out_of_order: self.out_of_order,
            interrupted: self.interrupted,
            error: self.failure.map(ToString::to_string),
        };
        out.json(&Line::last(self.identity, volume, last));
    }

    /// Frames that came up = frames that left + losses by name. Delivered is what the queue has
    /// seen complete, not what this program handed to it.
    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(
            self.tally.offered,
            "frames taken from the file",
            self.queue.completed.min(self.tally.frames),
        );
        ledger.drop("too_long", self.tally.too_long);
        ledger.drop("empty", self.tally.empty);
        ledger.drop_all(self.queue.losses());
        if self.failure.is_some() || self.interrupted {
            // Still in the queue of a port that sends no more.
            let settled = self.queue.completed + self.queue.lost();
            ledger.drop("unsent", self.tally.frames.saturating_sub(settled));
        }
        ledger
    }

    fn measured(&self) -> bool {
        self.args.speed != Speed::Top && !self.errors.is_empty()
    }

    fn text(&self, ledger: &Ledger, paint: Paint) -> String {
        let Tally { frames, bytes, held_back, .. } = *self.tally;
        let ended = if self.interrupted { " (interrupted)" } else { "" };
        let mut lines = vec![format!(
            "{} sent on {} in {:.3} s{ended}: {}, {} on the wire",
            plural(frames, "frame"),
            self.identity.port,
            self.seconds,
            pps(per_second(frames as f64, self.seconds)),
            bps(per_second(wire_bits(frames, bytes), self.seconds)),
        )];
        if self.measured() {
            lines.push(format!(
                "{}  p50 {}  p99 {}  max {}   {}",
                paint.bold("schedule error"),
                ns(self.errors.value_at_percentile(50.0)),
                ns(self.errors.value_at_percentile(99.0)),
                ns(self.errors.max()),
                paint.dim(&format!("speed {}", self.args.speed)),
            ));
        }
        let mut note = |n: u64, text: &str| {
            if n > 0 {
                lines.push(format!("  {:>13}  {text}", count(n)));
            }
        };
        note(held_back, "found no room in the port at first: sent late, none skipped");
        note(self.out_of_order, "recorded before their predecessor: sent in file order");
        note(self.cut, "cut by the recorder's snap length: sent as recorded");
        lines.push(ledger.render(paint));
        lines.join("\n")
    }
}
