//! The view as JSON lines: for a program, or a terminal that is none.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use serde::Serialize;

use super::sample::{Rate, Sample};
use super::{NOTICE, SECOND, Source, TICK};
use crate::capture::{Counts, GroupLine, SIZE_NAMES};
use crate::failure::Failure;
use crate::format::per_second;
use crate::json::{Identity, Line, Volume};
use crate::ledger::{Ledger, LedgerFields};
use crate::output::Output;

#[derive(Serialize)]
struct Second<'a> {
    /// On the wire.
    bps: f64,
    /// Share of a CPU that the receive loop takes; null in the first second.
    loop_cpu_share: Option<f64>,
    dropped: BTreeMap<&'static str, u64>,
    /// Frames by size, check sequence included.
    sizes: BTreeMap<&'static str, u64>,
    flows: Vec<FlowFields<'a>>,
}

/// A group that was asked for, or a flow that was found.
#[derive(Serialize)]
struct FlowFields<'a> {
    pps: f64,
    bps: f64,
    #[serde(flatten)]
    line: &'a GroupLine,
}

/// A line at once, then one each second.
pub(super) fn run(
    source: &Source<'_>,
    identity: &Identity,
    begun: Instant,
    over: &dyn Fn() -> bool,
    out: &Output,
) {
    let mut next = begun;
    let mut before: Option<Sample> = None;
    while !over() {
        source.desk.ask();
        thread::sleep(NOTICE);
        let now = source.take();
        tell(&now, before.as_ref().unwrap_or(&now), identity, begun, out);
        before = Some(now);
        next += SECOND;
        while Instant::now() + NOTICE < next && !over() {
            thread::sleep(TICK);
        }
    }
}

fn tell(now: &Sample, before: &Sample, identity: &Identity, begun: Instant, out: &Output) {
    let Rate { pps, bps } = now.total(before);
    let flow = |(i, line)| {
        let Rate { pps, bps } = now.group(before, i);
        FlowFields { pps, bps, line }
    };
    let second = Second {
        bps,
        loop_cpu_share: now.loop_share(before).filter(|_| now.at > before.at),
        dropped: now.queue.losses().filter(|(_, n)| *n > 0).collect(),
        sizes: sizes(&now.counts),
        flows: now.groups.iter().enumerate().map(flow).collect(),
    };
    let volume = Volume {
        seconds: (now.at - begun).as_secs_f64(),
        frames: now.counts.frames,
        bytes: now.counts.bytes,
        pps,
    };
    out.json(&Line::running(identity, volume, second));
}

#[derive(Serialize)]
struct Final<'a> {
    #[serde(flatten)]
    ledger: LedgerFields<'a>,
    sizes: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The final line.
pub(super) fn last(
    counts: &Counts,
    ledger: &Ledger,
    identity: &Identity,
    seconds: f64,
    failure: Option<&Failure>,
    out: &Output,
) {
    let volume = Volume {
        seconds,
        frames: counts.frames,
        bytes: counts.bytes,
        pps: per_second(counts.frames as f64, seconds),
    };
    let error = failure.map(ToString::to_string);
    let rest = Final { ledger: ledger.fields(), sizes: sizes(counts), error };
    out.json(&Line::last(identity, volume, rest));
}

fn sizes(counts: &Counts) -> BTreeMap<&'static str, u64> {
    SIZE_NAMES.into_iter().zip(counts.sizes).collect()
}
