//! `linerate ping`: frame round trips.
//!
//! One thread sends and receives and hands each round trip to the main thread, which counts,
//! draws and prints, so that nothing but the frames is measured.

mod client;
mod hlog;
mod out;
mod record;
mod report;
mod stamp;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use linerate::loops::{StrategyKind, pin_to_cpu};
use linerate::{AnyRx, FlowSpec, Port, Preloaded, Waits};

use crate::args::{PingArgs, TxPath};
use crate::events::Clock;
use crate::failure::Failure;
use crate::json::Identity;
use crate::meeting;
use crate::metrics::Feed;
use crate::output::Output;
use crate::plot;
use crate::privilege::{self, Need};
use crate::probe::{Origin, any_number};
use crate::setting::{Setting, interface_of};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join, spawn};

use client::{Client, Plan};
use out::{Out, Slots};
use record::Record;
use report::{Live, Summary};
use tally::Shared;

const TICK: Duration = Duration::from_millis(20);
/// Round trips between the two threads.
const SAMPLES: usize = 1 << 18;
/// Frames of each size where neither -c nor -d says how many.
const DEFAULT_COUNT: u64 = 50_000;

/// Runs the command.
pub(crate) fn run(args: &PingArgs, out: &Output) -> Result<(), Failure> {
    plot::check(args.plot.as_deref())?;
    check_cpu(args.cpu)?;
    if !matches!(args.strategy.kind(), StrategyKind::LowLatency | StrategyKind::Blocking) {
        return Err(Failure::usage("ping waits with --loop low-latency or blocking"));
    }
    let log = args.log.as_deref().map(hlog::create).transpose()?;
    let interrupt = Interrupt::install()?;

    // The port's own address is needed before it is opened where answers come to it.
    let name = meeting::interface_named(&args.port);
    let reply_port = 0x8000 | any_number() as u16;
    let reply = match args.reply {
        Some(reply) => reply,
        None if args.to.ip().is_multicast() => meeting::next_group(args.to),
        None => SocketAddr::new(Origin::of(name.as_ref()).ip(args.to.ip()), reply_port),
    };
    let flow = meeting::flow_to(reply)?;
    let mut port = open(args, flow, out)?;
    let identity = Identity::of(&port);
    let interface = interface_of(&port);
    let setting = Setting::of(&port, interface.as_ref(), args.cpu, args.strategy);
    port.rx.iter_mut().try_for_each(|q| args.strategy.check(q)).map_err(Failure::usage)?;
    if args.strategy.kind() == StrategyKind::Blocking && port.rx.len() > 1 {
        return Err(Failure::usage("--loop blocking waits for one queue only")
            .remedy("name one in the port, as afxdp:eth2?queue=0, or use --loop low-latency"));
    }
    out.text(&setting.render(&identity.port, out.paint()));

    let origin = Origin::of(interface.as_ref());
    let need = if args.plot.is_some() { Need::NewFiles } else { Need::Nothing };
    let mut feed = Feed::start(args.metrics, &[&identity], out)?;
    privilege::give_up(&[port.backend()], need, out);
    let preloaded = port.preloaded.take();
    let (queues, tx, guard) = port.into_parts();
    let tx = match preloaded {
        Some(slots) => Out::Slots(preload(slots, args, &identity, out)?),
        None => {
            let sender = meeting::sender(tx, &identity)?;
            sender.check_sizes(&args.sizes)?;
            Out::Queue(sender.tx)
        }
    };
    let plan = Plan::new(args, &origin, reply.port())?;
    let shared = Arc::new(Shared::default());
    let (samples, arrived) = rtrb::RingBuffer::new(SAMPLES);
    let client = Client::new(plan, queues, tx, samples, Arc::clone(&shared), feed.poster());
    let cpu = args.cpu;
    let begun = Instant::now();
    let worker = spawn("linerate-ping", move || {
        if let Some(cpu) = cpu {
            // Tried before on another thread: it works.
            let _ = pin_to_cpu(cpu);
        }
        client.run()
    })?;

    let mut record = Record::new(&args.sizes.bytes, arrived);
    let mut live = Live::new(&identity, out);
    let mut interrupted = false;
    let clock = Clock::default();
    while !worker.is_finished() {
        clock.tick(out);
        if interrupt.asked() || out.closed() {
            interrupted = true;
            shared.stop.store(true, Ordering::Relaxed);
        }
        record.drain();
        live.tick(&shared, out);
        feed.tick();
        thread::sleep(TICK);
    }
    record.drain();
    let ended = join(worker)?;
    meeting::close(guard, out);
    out.end_live();

    let mut failure = ended.failure.map(|failure| failure.on(&identity.port));
    if let Some(file) = log {
        failure = failure.or(hlog::write(file, &record, &args.sizes.bytes).err());
    }
    if let Some(path) = &args.plot {
        failure = failure.or(report::draw(path, &identity, &setting, args, &record).err());
    }
    let answered: u64 = ended.tallies.iter().map(|tally| tally.answered).sum();
    if answered == 0 && !interrupted && failure.is_none() {
        failure = Some(
            Failure::new(format!("no frame came back from {}", args.to))
                .remedy("is `linerate pong` running at the other end, with the same addresses?"),
        );
    }
    let summary = Summary {
        identity: &identity,
        setting: &setting,
        args,
        seconds: begun.elapsed().as_secs_f64(),
        tallies: &ended.tallies,
        stray: ended.stray,
        record: &record,
        queue: &ended.queue,
        interrupted,
        failure: failure.as_ref(),
    };
    summary.print(out);
    match failure {
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

fn longest(args: &PingArgs) -> usize {
    args.sizes.bytes.iter().copied().max().unwrap_or(0)
}

/// Slots for the longest frame, and where they are.
fn preload(
    slots: Preloaded,
    args: &PingArgs,
    identity: &Identity,
    out: &Output,
) -> Result<Slots, Failure> {
    if slots.max_len() < longest(args) {
        let max = slots.max_len();
        return Err(Failure::usage(format!("{} holds frames of {max} bytes", identity.port))
            .remedy("use shorter frames"));
    }
    let place = if slots.waits() == Waits::InCard { "in the card" } else { "in memory" };
    let n = slots.slots();
    out.text(&format!("{} {n} frames ahead of time, {place}", out.paint().bold("preload")));
    Ok(Slots::new(slots))
}

fn open(args: &PingArgs, flow: FlowSpec, out: &Output) -> Result<Port, Failure> {
    let builder = linerate::port(&args.port)
        .flow(flow)
        // Also when it sleeps: an answer must not wait until a block of a ring is full or old.
        .low_latency(true);
    let builder = match args.tx {
        TxPath::Queue => builder,
        TxPath::Preload => builder.preload(out::SLOTS, longest(args)),
    };
    let port = builder.open().map_err(Failure::new)?;
    meeting::tell(&port, out);
    if port.rx.iter().any(AnyRx::finished) {
        return Err(Failure::usage(format!("{} is a file", port.uri())));
    }
    Ok(port)
}
