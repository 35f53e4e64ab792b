//! `linerate demo`: a feed, a capture of it, and a report.

mod arbiter;
mod feed;
mod publish;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use linerate::clock::now_ns;
use linerate::file::Statistics;
use linerate::loops::StopHandle;
use linerate::{Direction, Port, RxFrame};

use crate::args::DemoArgs;
use crate::capture::{self, Desk, Inspect, Plan, Received, Receiver};
use crate::events::Clock;
use crate::failure::Failure;
use crate::groups::payload;
use crate::histogram;
use crate::json::Identity;
use crate::ledger::Ledger;
use crate::output::Output;
use crate::privilege::{self, Need};
use crate::recorder::{Habit, Recorder, Target};
use crate::sequence::SeqSpec;
use crate::signals::Interrupt;
use crate::threads::join;
use crate::writer;

pub(crate) use arbiter::Arbiter;
use feed::{Addresses, CHANNELS, FIRST_SEQ};
use publish::Published;
use report::{Live, Report};

/// Where frames go unless told otherwise.
const DEFAULT_FILE: &str = "linerate-demo.pcapng";
/// Where the demo's datagrams have their number.
const SEQ: &str = "u32le@4";
/// How long the capture may take to catch up with the feed at the end.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Runs the command.
pub(crate) fn run(args: &DemoArgs, out: &Output) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let stop = StopHandle::new().map_err(Failure::new)?;
    let addresses = Arc::new(Addresses::new(std::process::id()));
    let uri = args.port.as_deref().unwrap_or("lo");
    let port = open(uri, &addresses)?;
    let tx = feed_port()?;
    let seq: SeqSpec = SEQ.parse().map_err(Failure::usage)?;
    let plan = Plan::of_groups(port.uri(), addresses.flows.clone(), seq);

    let recorder = record(args.write.as_deref(), &port, &plan, out)?;
    let file = recorder.as_ref().map(Recorder::name);
    privilege::give_up(&[port.backend()], Need::Nothing, out);
    let (lane, recording) = writer::start(recorder, plan.buffer_bytes, None)?;
    let identity = Identity::of(&port);
    let choice = port.choice().to_vec();
    let (queues, _, guard) = port.into_parts();
    let desk = Arc::new(Desk::new(&plan));
    let inspector = Inspector::new();
    let receiver = Receiver::new(&plan, queues, lane, inspector, Arc::clone(&desk), &stop)?;
    let receiver = receiver.start()?;

    let shared = Arc::new(publish::Shared::default());
    let duration = Duration::from_secs_f64(args.duration);
    let publisher = publish::start(tx, Arc::clone(&addresses), duration, Arc::clone(&shared))?;
    let mut live = Live::new(&identity, args.duration);
    let clock = Clock::default();
    while !publisher.is_finished() {
        clock.tick(out);
        if interrupt.asked() || receiver.is_finished() || out.closed() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        live.tick(&desk, out);
        thread::sleep(Duration::from_millis(20));
    }
    let published = join(publisher)?;
    catch_up(&published, &desk, &|| receiver.is_finished());
    stop.stop();
    let received = join(receiver)?;
    drop(guard);

    let Received { lane, counts, queue, groups, inspector, failure: queue_failure } = received;
    let mut ledger = Ledger::new(published.frames, "frames published", counts.frames);
    ledger.drop_all(published.queue.losses());
    ledger.drop_all(queue.losses());
    ledger.drop("writer_queue_full", counts.refused);
    ledger.delivered -= counts.refused;
    let statistics = Statistics::of(&queue, ledger.delivered);
    let written = recording.finish(lane, statistics, ledger.comment())?.unwrap_or_default();
    if let Some((name, n)) = written.lost {
        ledger.drop(name, n);
        ledger.delivered = written.frames;
    }
    out.end_live();

    let Published { failure: feed_failure, .. } = &published;
    let failure = written.failure.or(queue_failure).or_else(|| feed_failure.clone());
    let report = Report {
        identity: &identity,
        choice: &choice,
        published: &published,
        counts: &counts,
        ledger: &ledger,
        groups: capture::group_lines(&plan.flows, &groups, true),
        inspector: &inspector,
        file: file.as_deref().map(|name| (name, written.bytes)),
        failure: failure.as_ref(),
    };
    report.print(out);
    match failure {
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

/// The best backend on the loopback interface, or the one asked for.
fn open(uri: &str, addresses: &Addresses) -> Result<Port, Failure> {
    let port = linerate::port(uri)
        .flows(addresses.flows.iter().copied())
        .direction(Direction::Rx)
        .low_latency(true)
        .open()
        .map_err(Failure::new)?;
    if port.rx.is_empty() {
        return Err(Failure::new(format!("{} cannot receive", port.uri()))
            .remedy("leave -i out to let the demo choose"));
    }
    Ok(port)
}

/// Where the feed is sent: a plain UDP socket, as any user has, on the loopback interface.
fn feed_port() -> Result<linerate::AnyTx, Failure> {
    let mut port =
        linerate::port("udp:lo").direction(Direction::Tx).open().map_err(Failure::new)?;
    port.tx.take().ok_or_else(|| Failure::new("udp:lo cannot send"))
}

/// Opens the file. A default that cannot be written costs the demo its file, not its life.
fn record(
    asked: Option<&Path>,
    port: &Port,
    plan: &Plan,
    out: &Output,
) -> Result<Option<Recorder>, Failure> {
    let path = asked.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_owned);
    match Recorder::create(Target::File(path), capture::options(port, plan), Habit::USUAL) {
        Ok(recorder) => Ok(Some(recorder)),
        Err(e) if asked.is_none() => {
            out.notice(&format!("{e}; going on without a file"));
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Waits until every published frame has arrived or been counted as lost, as long as that makes
/// progress.
fn catch_up(published: &Published, desk: &Desk, ended: &dyn Fn() -> bool) {
    let expected = published.frames - published.queue.lost().min(published.frames);
    let mut seen = 0;
    let mut moved = Instant::now();
    while moved.elapsed() < CATCH_UP && !ended() {
        desk.ask();
        thread::sleep(Duration::from_millis(5));
        let now = desk.read(|sheet| sheet.counts.frames + sheet.queue.lost());
        if now >= expected {
            return;
        }
        if now > seen {
            seen = now;
            moved = Instant::now();
        }
    }
}

/// Looks at every frame of the feed.
#[derive(Debug)]
pub(crate) struct Inspector {
    /// ns from publishing to the handler.
    pub(crate) latency: Histogram<u64>,
    /// One for each channel.
    pub(crate) channels: Vec<Arbiter>,
    /// Frames published in the current and in the busiest 10 ms.
    slot: (u64, u64),
    pub(crate) busiest: u64,
}

impl Inspector {
    pub(crate) fn new() -> Self {
        Self {
            latency: histogram::of_ns(),
            channels: vec![Arbiter::new(FIRST_SEQ); CHANNELS],
            slot: (0, 0),
            busiest: 0,
        }
    }
}

impl Inspect for Inspector {
    fn see(&mut self, group: usize, frame: &RxFrame<'_>) {
        let Some((seq, sent_ns)) = payload(frame.bytes).and_then(feed::read) else { return };
        // A clock that was set back gives no time that this took.
        if let Some(ns) = now_ns().checked_sub(sent_ns) {
            self.latency.saturating_record(ns);
        }
        let (line, channel) = feed::of_group(group);
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.see(line, seq);
        }
        let slot = sent_ns / 10_000_000;
        self.slot = if self.slot.0 == slot { (slot, self.slot.1 + 1) } else { (slot, 1) };
        self.busiest = self.busiest.max(self.slot.1);
    }
}
