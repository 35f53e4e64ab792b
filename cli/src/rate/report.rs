//! What a search says while it runs and what it found.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::trial::Trial;
use crate::args::RateArgs;
use crate::failure::Failure;
use crate::format::{bps, count, per_second, pps, wire_bits};
use crate::histogram::{Spread, spread_header, spread_row};
use crate::json::{Identity, Line, Volume};
use crate::output::{Output, Paint};
use crate::plot::{Panel, Scale, Series};
use crate::setting::Setting;

/// One frame size.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) size: usize,
    /// Index of the trial that is the answer; `None`: no rate passed.
    pub(crate) best: Option<usize>,
    pub(crate) trials: Vec<Trial>,
}

impl Found {
    fn best(&self) -> Option<&Trial> {
        self.trials.get(self.best?)
    }

    fn sum(&self, of: impl Fn(&Trial) -> u64) -> u64 {
        self.trials.iter().map(of).sum()
    }
}

#[derive(Serialize)]
struct TrialLine<'a> {
    trial: TrialFields<'a>,
}

#[derive(Serialize)]
struct TrialFields<'a> {
    size: usize,
    /// Null: full speed.
    offered_pps: Option<f64>,
    sent: u64,
    received: u64,
    lost: u64,
    duplicates: u64,
    reordered: u64,
    damaged: u64,
    known: BTreeMap<&'a str, u64>,
    kept_up: bool,
    passed: bool,
    latency_ns: Option<Spread>,
}

/// One trial has ended.
pub(crate) fn tell(identity: &Identity, trial: &Trial, begun: Instant, out: &Output) {
    let Trial { size, sent, received, duplicates, reordered, damaged, .. } = *trial;
    let known: BTreeMap<&str, u64> = trial.known.iter().copied().collect();
    let why = match (trial.passed, trial.kept_up) {
        (true, _) => "passed".to_owned(),
        (false, false) => "not kept up".to_owned(),
        (false, true) => format!("lost {}", count(trial.lost())),
    };
    let names: String = known.iter().map(|(name, n)| format!("  {name} {}", count(*n))).collect();
    let line = format!("{size:>5} bytes  {:>10}  {why}{names}", pps(trial.sent_pps()));
    out.live(&line);
    out.detail(&line);
    let volume = Volume {
        seconds: begun.elapsed().as_secs_f64(),
        frames: sent,
        bytes: sent * size as u64,
        pps: trial.sent_pps(),
    };
    let fields = TrialFields {
        size,
        offered_pps: trial.offered_pps,
        sent,
        received,
        lost: trial.lost(),
        duplicates,
        reordered,
        damaged,
        known,
        kept_up: trial.kept_up,
        passed: trial.passed,
        latency_ns: trial.latency,
    };
    out.json(&Line::running(identity, volume, TrialLine { trial: fields }));
}

/// How it ended.
pub(crate) struct Summary<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) to: &'a str,
    pub(crate) settings: &'a [Setting; 2],
    pub(crate) args: &'a RateArgs,
    pub(crate) seconds: f64,
    pub(crate) found: &'a [Found],
    pub(crate) interrupted: bool,
    pub(crate) failure: Option<&'a Failure>,
}

#[derive(Serialize)]
struct Size {
    size: usize,
    /// 0: no rate passed.
    best_pps: f64,
    best_wire_bps: f64,
    /// Did even full speed pass?
    limited_by_sender: bool,
    latency_ns: Option<Spread>,
    trials: usize,
    sent: u64,
    received: u64,
    lost: u64,
}

#[derive(Serialize)]
struct Final<'a> {
    to: &'a str,
    settings: &'a [Setting; 2],
    trial_seconds: f64,
    resolution_percent: f64,
    tolerated_loss_percent: f64,
    tries: u32,
    sizes: Vec<Size>,
    received: u64,
    lost: u64,
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Summary<'_> {
    /// In the voice asked for.
    pub(crate) fn print(&self, out: &Output) {
        let sizes: Vec<Size> = self.found.iter().map(size).collect();
        if !out.is_json() {
            out.text(&self.text(&sizes, out.paint()));
            return;
        }
        let sent = sizes.iter().map(|s| s.sent).sum();
        let volume = Volume {
            seconds: self.seconds,
            frames: sent,
            bytes: sizes.iter().map(|s| s.sent * s.size as u64).sum(),
            pps: per_second(sent as f64, self.seconds),
        };
        let last = Final {
            to: self.to,
            settings: self.settings,
            trial_seconds: self.args.duration,
            resolution_percent: self.args.resolution,
            tolerated_loss_percent: self.args.loss,
            tries: self.args.tries,
            received: sizes.iter().map(|s| s.received).sum(),
            lost: sizes.iter().map(|s| s.lost).sum(),
            sizes,
            interrupted: self.interrupted,
            error: self.failure.map(ToString::to_string),
        };
        out.json(&Line::last(self.identity, volume, last));
    }

    fn text(&self, sizes: &[Size], paint: Paint) -> String {
        let row = |cells: [String; 7]| {
            let [size, rate, wire, trials, sent, received, lost] = cells;
            format!(
                "{size:>6} {rate:>11} {wire:>10} {trials:>7} {sent:>13} {received:>13} {lost:>13}"
            )
        };
        let head = ["size", "loss-free", "wire", "trials", "sent", "received", "lost"];
        let mut lines = vec![String::new(), paint.bold(&row(head.map(str::to_owned)))];
        let mut limited = false;
        for one in sizes {
            let star = if one.limited_by_sender { "*" } else { " " };
            limited |= one.limited_by_sender;
            lines.push(row([
                one.size.to_string(),
                format!("{}{star}", pps(one.best_pps)),
                bps(one.best_wire_bps),
                one.trials.to_string(),
                count(one.sent),
                count(one.received),
                count(one.lost),
            ]));
        }
        if sizes.len() > 1 {
            let sum = |of: fn(&Size) -> u64| count(sizes.iter().map(of).sum());
            let (sent, received, lost) = (sum(|s| s.sent), sum(|s| s.received), sum(|s| s.lost));
            let trials = sizes.iter().map(|s| s.trials).sum::<usize>().to_string();
            let empty = String::new;
            let all = row(["all".into(), empty(), empty(), trials, sent, received, lost]);
            lines.push(paint.bold(&all));
        }
        if limited {
            lines.push(paint.dim("  * without loss even as fast as the sender goes"));
        }
        if sizes.iter().any(|one| one.latency_ns.is_some()) {
            lines.push(String::new());
            lines.push(paint.dim("  latency at that rate, from due to taken"));
            lines.push(paint.bold(&spread_header("size", "µs")));
        }
        for one in sizes {
            if let Some(spread) = &one.latency_ns {
                lines.push(spread_row(&one.size.to_string(), "", spread, 1.0));
            }
        }
        let ended = if self.interrupted { " (interrupted)" } else { "" };
        lines.push(format!(
            "{:.0} s{ended}; trials of {} s, {} % tolerated, known to {} %",
            self.seconds, self.args.duration, self.args.loss, self.args.resolution
        ));
        lines.join("\n")
    }
}

fn size(found: &Found) -> Size {
    let best = found.best();
    let bits = |t: &Trial| wire_bits(t.sent, t.sent * t.size as u64);
    Size {
        size: found.size,
        best_pps: best.map_or(0.0, Trial::sent_pps),
        best_wire_bps: best.map_or(0.0, |t| per_second(bits(t), t.seconds)),
        limited_by_sender: best.is_some_and(|t| t.offered_pps.is_none()),
        latency_ns: best.and_then(|t| t.latency),
        trials: found.trials.len(),
        sent: found.sum(|t| t.sent),
        received: found.sum(|t| t.received),
        lost: found.sum(Trial::lost),
    }
}

/// Rates and latencies over frame sizes.
pub(crate) fn panels(found: &[Found]) -> [Panel; 3] {
    let line = |name: &str, of: &dyn Fn(&Trial) -> Option<f64>| {
        let points = found.iter().filter_map(|f| Some((f.size as f64, of(f.best()?)?)));
        Series { name: name.to_owned(), points: points.collect() }
    };
    let latency = |name: &str, of: fn(&Spread) -> u64| {
        line(name, &|t: &Trial| t.latency.as_ref().map(|s| of(s) as f64))
    };
    let bits = |t: &Trial| {
        let bits = wire_bits(t.sent, t.sent * t.size as u64);
        Some(per_second(bits, t.seconds) / 1e9)
    };
    let x = ("frame size in bytes", Scale::Plain);
    [
        Panel {
            title: "Highest rate without loss",
            x,
            y: ("frames per second", Scale::Plain),
            series: vec![line("loss-free", &|t| Some(t.sent_pps()))],
        },
        Panel {
            title: "The same on the wire",
            x,
            y: ("Gb/s", Scale::Plain),
            series: vec![line("loss-free", &bits)],
        },
        Panel {
            title: "Latency at that rate",
            x,
            y: ("due to taken", Scale::Nanoseconds),
            series: vec![
                latency("p50", |s| s.p50),
                latency("p99", |s| s.p99),
                latency("max", |s| s.max),
            ],
        },
    ]
}
