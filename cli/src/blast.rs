//! `linerate blast`: a generator of numbered frames.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use linerate::Direction;
use linerate::loops::{Strategy, pin_to_cpu};
use serde::Serialize;

use crate::args::BlastArgs;
use crate::events::Clock;
use crate::failure::Failure;
use crate::format::{bps, count, ns, per_second, plural, pps, wire_bits};
use crate::histogram::Spread;
use crate::json::{Identity, Line, Volume};
use crate::ledger::{Ledger, LedgerFields};
use crate::load::{self, Deck, Order, Sent, Shared};
use crate::meeting;
use crate::metrics::Feed;
use crate::output::{Output, Paint};
use crate::privilege::{self, Need};
use crate::probe::Origin;
use crate::setting::{Setting, interface_of};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join, spawn};

const TICK: Duration = Duration::from_millis(20);
const DEFAULT_PPS: f64 = 10_000.0;
/// Frames for each kick at full speed.
const TOP_BURST: u32 = 64;

/// Runs the command.
pub(crate) fn run(args: &BlastArgs, out: &Output) -> Result<(), Failure> {
    check_cpu(args.cpu)?;
    let flows = meeting::groups(&args.groups)?;
    let order = order(args);
    let interrupt = Interrupt::install()?;
    let mut port = linerate::port(&args.port);
    port = port.direction(Direction::Tx);
    let port = port.open().map_err(Failure::new)?;
    meeting::tell(&port, out);
    let identity = Identity::of(&port);
    let interface = interface_of(&port);
    let setting = Setting::of(&port, interface.as_ref(), args.cpu, Strategy::low_latency());
    let origin = Origin::of(interface.as_ref());
    let mut feed = Feed::start(args.metrics, &[&identity], out)?;
    privilege::give_up(&[port.backend()], Need::Nothing, out);
    let (_, tx, guard) = port.into_parts();
    let sender = meeting::sender(tx, &identity)?;
    sender.check_sizes(&args.sizes)?;
    let mut deck = Deck::new(&flows, &args.sizes, &origin, args.dst_mac)?;
    out.text(&setting.render(&identity.port, out.paint()));
    out.text(&format!(
        "{} {}, size {}, to {}, {} at once",
        out.paint().bold("load   "),
        order.pps.map_or_else(|| "top speed".into(), pps),
        args.sizes,
        match flows.as_slice() {
            [one] => crate::groups::name(one),
            many => plural(many.len() as u64, "group"),
        },
        order.burst
    ));

    let mut poster = feed.poster();
    let shared = Arc::new(Shared::default());
    let (cpu, mut tx, seen) = (args.cpu, sender.tx, Arc::clone(&shared));
    let worker = spawn("linerate-blast", move || {
        if let Some(cpu) = cpu {
            // Tried before on another thread: it works.
            let _ = pin_to_cpu(cpu);
        }
        load::send(&mut tx, &mut deck, &order, &seen, &mut poster)
    })?;
    let begun = Instant::now();
    let mut next = if out.is_json() { begun } else { begun + Duration::from_secs(1) };
    let mut before = (begun, 0);
    let mut interrupted = false;
    let clock = Clock::default();
    while !worker.is_finished() {
        clock.tick(out);
        if interrupt.asked() || out.closed() {
            interrupted = true;
            shared.stop.store(true, Ordering::Relaxed);
        }
        feed.tick();
        let now = Instant::now();
        if now >= next {
            next += Duration::from_secs(1);
            before = live(&identity, &shared, begun, before, out);
        }
        thread::sleep(TICK);
    }
    let sent = join(worker)?;
    meeting::close(guard, out);
    out.end_live();
    let failure = sent.error.map(|e| {
        Failure::new(format!("sending failed after {} frames: {e}", sent.frames))
            .on(&identity.port)
            .remedy("is the interface up? ip -s link")
    });
    let summary = Summary {
        identity: &identity,
        setting: &setting,
        args,
        order: &order,
        sent: &sent,
        groups: flows.len(),
        interrupted,
        failure: failure.as_ref(),
    };
    summary.print(out);
    match failure {
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

fn order(args: &BlastArgs) -> Order {
    let of_bits = |gbps: f64| gbps * 1e9 / ((args.sizes.mean() + 24.0) * 8.0);
    let rate = args.pps.or(args.gbps.map(of_bits)).unwrap_or(DEFAULT_PPS);
    Order {
        pps: (!args.top).then_some(rate),
        count: args.count.unwrap_or(u64::MAX),
        duration: args.duration.map_or(Duration::MAX, Duration::from_secs_f64),
        burst: args.burst.unwrap_or(if args.top { TOP_BURST } else { 1 }).into(),
    }
}

#[derive(Serialize)]
struct Second {
    behind_ns: u64,
}

fn live(
    identity: &Identity,
    shared: &Shared,
    begun: Instant,
    (then, before): (Instant, u64),
    out: &Output,
) -> (Instant, u64) {
    let now = Instant::now();
    let frames = shared.frames.load(Ordering::Relaxed);
    let bytes = shared.bytes.load(Ordering::Relaxed);
    let behind_ns = shared.behind_ns.load(Ordering::Relaxed);
    let rate = per_second((frames - before) as f64, (now - then).as_secs_f64());
    let seconds = begun.elapsed().as_secs_f64();
    let volume = Volume { seconds, frames, bytes, pps: rate };
    out.json(&Line::running(identity, volume, Second { behind_ns }));
    out.live(&format!(
        "{seconds:>4.0} s  {} frames  {}  behind schedule by {}",
        count(frames),
        pps(rate),
        ns(behind_ns)
    ));
    (now, frames)
}

struct Summary<'a> {
    identity: &'a Identity,
    setting: &'a Setting,
    args: &'a BlastArgs,
    order: &'a Order,
    sent: &'a Sent,
    groups: usize,
    interrupted: bool,
    failure: Option<&'a Failure>,
}

#[derive(Serialize)]
struct Final<'a> {
    setting: &'a Setting,
    size: String,
    groups: usize,
    burst: u64,
    /// Null: top speed.
    pps_wanted: Option<f64>,
    wire_bps: f64,
    #[serde(flatten)]
    ledger: LedgerFields<'a>,
    held_back: u64,
    schedule_error_ns: Option<Spread>,
    busy_ns_per_frame: f64,
    cpu_ns_per_frame: f64,
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Summary<'_> {
    fn print(&self, out: &Output) {
        let Sent { frames, bytes, seconds, .. } = *self.sent;
        let ledger = self.ledger();
        let per_frame = |ns: u64| per_second(ns as f64, frames as f64);
        let rate = per_second(frames as f64, seconds);
        let wire_bps = per_second(wire_bits(frames, bytes), seconds);
        let last = Final {
            setting: self.setting,
            size: self.args.sizes.to_string(),
            groups: self.groups,
            burst: self.order.burst,
            pps_wanted: self.order.pps,
            wire_bps,
            ledger: ledger.fields(),
            held_back: self.sent.held_back,
            schedule_error_ns: Spread::of(&self.sent.late),
            busy_ns_per_frame: per_frame(self.sent.busy_ns),
            cpu_ns_per_frame: per_frame(self.sent.cpu_ns),
            interrupted: self.interrupted,
            error: self.failure.map(ToString::to_string),
        };
        if out.is_json() {
            let volume = Volume { seconds, frames, bytes, pps: rate };
            out.json(&Line::last(self.identity, volume, last));
        } else {
            out.text(&self.text(&ledger, &last, rate, out.paint()));
        }
    }

    /// Frames made = frames that left + losses by name.
    fn ledger(&self) -> Ledger {
        let queue = &self.sent.queue;
        let left = queue.completed.min(self.sent.frames);
        let mut ledger = Ledger::new(self.sent.frames, "frames made", left);
        ledger.drop_all(queue.losses());
        if self.failure.is_some() || self.interrupted {
            // Still in the queue of a port that sends no more.
            let settled = queue.completed + queue.lost();
            ledger.drop("unsent", self.sent.frames.saturating_sub(settled));
        }
        ledger
    }

    fn text(&self, ledger: &Ledger, last: &Final<'_>, rate: f64, paint: Paint) -> String {
        let Sent { frames, seconds, held_back, .. } = *self.sent;
        let ended = if self.interrupted { " (interrupted)" } else { "" };
        let mut lines = vec![format!(
            "{} in {seconds:.3} s{ended}: {}, {} on the wire",
            plural(frames, "frame"),
            pps(rate),
            bps(last.wire_bps)
        )];
        lines.push(format!(
            "{}  {} for each to mark, copy and kick; {} of CPU with the wait",
            paint.bold("time"),
            ns(last.busy_ns_per_frame as u64),
            ns(last.cpu_ns_per_frame as u64)
        ));
        if let Some(late) = &last.schedule_error_ns {
            lines.push(format!(
                "{}  p50 {}  p99 {}  max {}",
                paint.bold("schedule error"),
                ns(late.p50),
                ns(late.p99),
                ns(late.max)
            ));
        }
        if held_back > 0 {
            lines.push(format!(
                "  {:>13}  bursts found no room: they went out late, none was skipped",
                count(held_back)
            ));
        }
        lines.push(ledger.render(paint));
        lines.join("\n")
    }
}
