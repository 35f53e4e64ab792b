//! What a ping says while it runs and when it has ended.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use linerate::TxStats;
use serde::Serialize;

use super::record::Record;
use super::tally::{Shared, Stray, Tally};
use crate::args::PingArgs;
use crate::failure::Failure;
use crate::format::{count, per_second, plural, pps};
use crate::histogram::{self, Spread, spread_header, spread_row};
use crate::json::{Identity, Line, Volume};
use crate::output::{Output, Paint};
use crate::plot::{self, Panel, Scale, Series};
use crate::setting::Setting;

/// Diagrams of the distribution that are drawn in the terminal, at most.
const DRAWN: usize = 3;

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
    answered: u64,
    lost: u64,
}

impl<'a> Live<'a> {
    /// The first JSON line comes at once.
    pub(crate) fn new(identity: &'a Identity, out: &Output) -> Self {
        let begun = Instant::now();
        let next = if out.is_json() { begun } else { begun + Duration::from_secs(1) };
        Self { identity, begun, next, last: (begun, 0) }
    }

    /// To be called often.
    pub(crate) fn tick(&mut self, shared: &Shared, out: &Output) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next += Duration::from_secs(1);
        let sent = shared.sent.load(Ordering::Relaxed);
        let answered = shared.answered.load(Ordering::Relaxed);
        let lost = shared.lost.load(Ordering::Relaxed);
        let (then, before) = std::mem::replace(&mut self.last, (now, sent));
        let rate = per_second((sent - before) as f64, (now - then).as_secs_f64());
        let seconds = self.begun.elapsed().as_secs_f64();
        let volume = Volume { seconds, frames: sent, bytes: 0, pps: rate };
        out.json(&Line::running(self.identity, volume, Second { answered, lost }));
        out.live(&format!(
            "{seconds:>4.0} s  {} sent  {}  answered {}  lost {}",
            count(sent),
            pps(rate),
            count(answered),
            count(lost)
        ));
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) setting: &'a Setting,
    pub(crate) args: &'a PingArgs,
    pub(crate) seconds: f64,
    pub(crate) tallies: &'a [Tally],
    pub(crate) stray: Stray,
    pub(crate) record: &'a Record,
    pub(crate) queue: &'a TxStats,
    pub(crate) interrupted: bool,
    pub(crate) failure: Option<&'a Failure>,
}

#[derive(Serialize)]
struct Size {
    size: usize,
    sent: u64,
    answered: u64,
    lost: u64,
    /// From when the frame was due.
    rtt_ns: Option<Spread>,
    /// From when the frame was handed over.
    service_ns: Option<Spread>,
    /// Between the port's own stamps of the frame and its answer.
    stamped_ns: Option<Spread>,
}

#[derive(Serialize)]
struct Final<'a> {
    setting: &'a Setting,
    to: String,
    schedule: String,
    timeout_seconds: f64,
    answered: u64,
    lost: u64,
    late: u64,
    duplicates: u64,
    damaged: u64,
    foreign: u64,
    #[serde(skip_serializing_if = "is_zero")]
    torn_stamps: u64,
    sizes: Vec<Size>,
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Summary<'_> {
    /// In the voice asked for.
    pub(crate) fn print(&self, out: &Output) {
        if !out.is_json() {
            out.text(&self.text(out.paint()));
            return;
        }
        let sizes: Vec<Size> = self.sizes().collect();
        let sent = self.sum(|t| t.sent);
        let volume = Volume {
            seconds: self.seconds,
            frames: sent,
            bytes: sizes.iter().map(|s| s.size as u64 * s.sent).sum(),
            pps: per_second(sent as f64, self.seconds),
        };
        let last = Final {
            setting: self.setting,
            to: self.args.to.to_string(),
            schedule: schedule(self.args),
            timeout_seconds: self.args.timeout,
            answered: self.sum(|t| t.answered),
            lost: self.sum(|t| t.lost),
            late: self.stray.late,
            duplicates: self.stray.duplicates,
            damaged: self.stray.damaged,
            foreign: self.stray.foreign,
            torn_stamps: self.stray.torn,
            sizes,
            interrupted: self.interrupted,
            error: self.failure.map(ToString::to_string),
        };
        out.json(&Line::last(self.identity, volume, last));
    }

    fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.tallies.iter().map(of).sum()
    }

    fn sizes(&self) -> impl Iterator<Item = Size> {
        let runs = self.args.sizes.bytes.iter().zip(self.tallies).zip(&self.record.runs);
        runs.filter(|((_, tally), _)| tally.sent > 0).map(|((size, tally), run)| Size {
            size: *size,
            sent: tally.sent,
            answered: tally.answered,
            lost: tally.lost,
            rtt_ns: Spread::of(&run.rtt),
            service_ns: Spread::of(&run.service),
            stamped_ns: Spread::of(&run.stamped),
        })
    }

    fn text(&self, paint: Paint) -> String {
        let mut lines = vec![format!(
            "{} to {}, {}, answers within {} s",
            paint.bold("frames "),
            self.args.to,
            schedule(self.args),
            self.args.timeout
        )];
        let sizes: Vec<Size> = self.sizes().collect();
        if sizes.iter().any(|size| size.rtt_ns.is_some()) {
            lines.push(String::new());
            lines.push(paint.bold(&spread_header("size", "µs")));
        }
        for size in &sizes {
            let mut row = |name: &str, spread: Option<&Spread>, divide: f64| {
                if let Some(spread) = spread {
                    let label = if name == "rtt" { size.size.to_string() } else { String::new() };
                    lines.push(spread_row(&label, name, spread, divide));
                }
            };
            row("rtt", size.rtt_ns.as_ref(), 1.0);
            row("rtt/2", size.rtt_ns.as_ref(), 2.0);
            row("wire", size.stamped_ns.as_ref(), 1.0);
        }
        lines.push(String::new());
        let drawn = self.args.sizes.bytes.iter().zip(&self.record.runs);
        let drawn = drawn.filter(|(_, run)| !run.rtt.is_empty());
        if drawn.clone().count() <= DRAWN {
            for (size, run) in drawn {
                lines.push(paint.dim(&format!("  round trips of {size} bytes")));
                lines.push(histogram::draw(&run.rtt, paint));
            }
        }
        let (sent, lost) = (self.sum(|t| t.sent), self.sum(|t| t.lost));
        let open = sent - lost - self.sum(|t| t.answered);
        let ended = if self.interrupted { " (interrupted)" } else { "" };
        lines.push(format!(
            "{} sent in {:.1} s{ended}: {} answered",
            plural(sent, "frame"),
            self.seconds,
            count(self.sum(|t| t.answered)),
        ));
        let mut note = |n: u64, text: &str, bad: bool| {
            if n > 0 {
                let line = format!("  {:>13}  {text}", count(n));
                lines.push(if bad { paint.bad(&line) } else { line });
            }
        };
        note(lost, "lost: no answer in time", true);
        note(open, "still out", false);
        note(self.stray.late, "answered too late: counted as lost", true);
        note(self.stray.duplicates, "answered twice", true);
        note(self.stray.damaged, "answers damaged", true);
        note(self.stray.foreign, "other frames came in and were left alone", false);
        let torn = "stamped by a clock that was set meanwhile: not in \"wire\"";
        note(self.stray.torn, torn, false);
        for (name, n) in self.queue.losses() {
            note(n, &format!("of them never left: {name}"), true);
        }
        lines.join("\n")
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn schedule(args: &PingArgs) -> String {
    if args.back_to_back { "back to back".into() } else { format!("{} by schedule", pps(args.pps)) }
}

/// Percentiles, and the course of time.
pub(crate) fn draw(
    path: &Path,
    identity: &Identity,
    setting: &Setting,
    args: &PingArgs,
    record: &Record,
) -> Result<(), Failure> {
    let runs = || args.sizes.bytes.iter().zip(&record.runs).filter(|(_, run)| !run.rtt.is_empty());
    let named = |size: &usize| format!("{size} bytes");
    let percentiles =
        runs().map(|(size, run)| Series { name: named(size), points: curve(&run.rtt) }).collect();
    let many = args.sizes.bytes.len() > 1;
    let mut course = Vec::new();
    for (size, run) in runs() {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            if many && name != "p99" {
                continue;
            }
            let seconds = run.seconds.iter().enumerate().filter(|(_, h)| !h.is_empty());
            let points = seconds.map(|(s, h)| (s as f64, h.value_at_quantile(quantile) as f64));
            let name = if many { format!("{size} bytes, {name}") } else { name.to_owned() };
            course.push(Series { name, points: points.collect() });
        }
    }
    let panels = [
        Panel {
            title: "Round trips by percentile",
            x: ("percentile", Scale::Percentile),
            y: ("round trip", Scale::Nanoseconds),
            series: percentiles,
        },
        Panel {
            title: "Round trips of each second",
            x: ("seconds", Scale::Plain),
            y: ("round trip", Scale::Nanoseconds),
            series: course,
        },
    ];
    let title = format!("linerate ping {}: {}", identity.port, schedule(args));
    plot::draw(path, &title, &setting.in_one_line(), &panels)
}

/// The percentile curve, one point for each step of the histogram.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    // The last steps all stand for the same few values: up to 1 in as many as were measured.
    let end = 1.0 - 1.0 / histogram.len().max(2) as f64;
    let steps = (0..=400).map(|i| 1.0 - 10_f64.powf(-f64::from(i) / 400.0 * -(1.0 - end).log10()));
    steps.map(|q| (q, histogram.value_at_quantile(q) as f64)).collect()
}
