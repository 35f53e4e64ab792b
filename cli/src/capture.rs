//! `linerate capture`.
//!
//! Three threads: the receive loop copies frames into a lane and counts them; the writer takes
//! them off the lane; the main thread shows progress and decides when to end. The receive loop
//! never waits for the others.

mod live;
mod plan;
mod receive;
mod report;
mod table;

use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use linerate::file::{InterfaceOptions, Statistics};
use linerate::loops::StopHandle;
use linerate::{Backend, Clocked, Direction, FlowKind, Port};

use crate::args::CaptureArgs;
use crate::events::{Clock, Events};
use crate::failure::Failure;
use crate::groups::GroupCount;
use crate::interface::{self, Bracket};
use crate::json::Identity;
use crate::meeting;
use crate::metrics::Exporter;
use crate::output::Output;
use crate::privilege::{self, Need};
use crate::recorder::{Recorder, Target};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join};
use crate::writer::{self, Written};

pub(crate) use plan::Plan;
pub(crate) use receive::{Counts, Desk, Inspect, Received, Receiver, SIZE_NAMES};
pub(crate) use report::ledger;
pub(crate) use table::{GroupLine, group_lines, group_table};

use live::Live;

/// How often the main thread looks at the clock.
const TICK: Duration = Duration::from_millis(20);

/// Runs the command.
pub(crate) fn run(args: &CaptureArgs, out: &mut Output) -> Result<(), Failure> {
    let plan = Plan::new(args)?;
    if plan.to_stdout() {
        out.keep_stdout_free();
    }
    let interrupt = Interrupt::install()?;
    let stop = StopHandle::new().map_err(Failure::new)?;
    check_cpu(plan.cpu)?;

    let whole_interface = plan.whole_interface();
    let interface = plan.interface();
    let before_open = whole_interface.then(|| interface::counters(interface)).flatten();
    let mut port = open(args, &plan)?;
    let whole_interface = whole_interface && port.backend() == Backend::Afpacket;
    let after_open = whole_interface.then(|| interface::counters(interface)).flatten();
    describe(&port, &plan, out);

    let identity = Identity::of(&port);
    plan.check_queues(&mut port.rx)?;
    let exporter = args.metrics.map(|at| Exporter::start(at, &[&identity], out)).transpose()?;
    if let Some(Target::File(path)) = &plan.target
        && std::fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo())
    {
        out.notice(&format!("waiting for a program that reads the pipe {}", path.display()));
    }
    let recorder = match &plan.target {
        Some(target) => Some(Recorder::create(target.clone(), options(&port, &plan), plan.habit)?),
        None => None,
    };
    let writes_to = recorder.as_ref().map(Recorder::name);
    let need = match plan.target {
        Some(Target::Rotation { .. }) => Need::NewFiles,
        _ => Need::Nothing,
    };
    privilege::give_up(&[port.backend()], need, out);
    let (lane, recording) = writer::start(recorder, plan.buffer_bytes, plan.cpu)?;

    let mut presence = Presence::of(port.backend(), interface);
    let (queues, _, guard) = port.into_parts();
    let desk = Arc::new(Desk::new(&plan));
    let receiver = Receiver::new(&plan, queues, lane, (), Arc::clone(&desk), &stop)?;
    let begun = Instant::now();
    let receiver = receiver.start()?;

    // Until the end: somebody asks for it, the time is up, or the receive loop ended by itself.
    let name_groups = |counts: &[GroupCount]| group_lines(&plan.flows, counts, plan.seq.is_some());
    let mut live = Live::new(&identity, exporter, out);
    let deadline = plan.duration.map(|d| begun + d);
    let clock = Clock::default();
    while !receiver.is_finished() {
        clock.tick(out);
        let now = Instant::now();
        if interrupt.asked()
            || deadline.is_some_and(|end| now >= end)
            || recording.has_failed()
            || out.closed()
            || presence.is_lost(now)
        {
            break;
        }
        live.tick(&desk, recording.progress(), &name_groups, out);
        let left = deadline.map_or(TICK, |end| end.saturating_duration_since(now));
        thread::sleep(TICK.min(left));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let at_end = after_open.and_then(|_| interface::counters(interface));
    stop.stop();
    let received = join(receiver)?;
    let after_end = at_end.and_then(|_| interface::counters(interface));
    let bracket = match (before_open, after_open, at_end, after_end) {
        (Some(before_open), Some(after_open), Some(at_end), Some(after_end)) => {
            Some(Bracket { before_open, after_open, at_end, after_end })
        }
        _ => None,
    };
    let in_cable = meeting::close(guard, out);

    let Received { lane, counts, queue, groups, failure: queue_failure, .. } = received;
    // The end of the file tells what is known when it is written.
    let expected = counts.frames - counts.refused;
    let statistics = Statistics {
        os_dropped: Some(queue.kernel_drop + queue.ring_full + counts.refused),
        ..Statistics::of(&queue, expected)
    };
    let mut draft = report::ledger(&counts, &queue, bracket.as_ref(), expected, None);
    draft.lose_ahead("cable_full", in_cable);
    let comment = draft.comment() + &Events::so_far().comment();
    let written = recording.finish(lane, statistics, comment)?;
    out.end_live();

    let delivered = written.as_ref().map_or(counts.frames, |w| w.frames);
    let lost = written.as_ref().and_then(|w| w.lost);
    let mut ledger = report::ledger(&counts, &queue, bracket.as_ref(), delivered, lost);
    ledger.lose_ahead("cable_full", in_cable);
    let Written { failure: write_failure, bytes: file_bytes, files, cached, .. } =
        written.unwrap_or_default();
    if let Some(why) = cached {
        out.detail(&format!("written through the page cache: {why}"));
    }
    let failure = write_failure.or(queue_failure).or(presence.failure());
    let summary = report::Summary {
        identity: &identity,
        seconds,
        counts: &counts,
        flagged: queue.flagged,
        ledger: &ledger,
        groups: plan.has_groups().then(|| name_groups(&groups)),
        file: writes_to.as_deref().map(|name| (name, files, file_bytes)),
        failure: failure.as_ref(),
    };
    summary.print(out);
    match failure {
        // With --json the final object has told it.
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

/// Opens the port as planned.
pub(crate) fn open(args: &CaptureArgs, plan: &Plan) -> Result<Port, Failure> {
    let port = linerate::port(&args.port)
        .flows(plan.flows.iter().copied())
        .promiscuous(plan.promiscuous)
        .low_latency(plan.wants_low_latency())
        .direction(Direction::Rx)
        .open()
        .map_err(Failure::new)?;
    if port.rx.is_empty() {
        return Err(Failure::new(format!("{} cannot receive", port.uri()))
            .remedy("list the ports that can: linerate ports"));
    }
    Ok(port)
}

fn describe(port: &Port, plan: &Plan, out: &Output) {
    for notice in port.notices() {
        out.notice(notice);
    }
    for candidate in port.choice() {
        out.detail(&format!("{}: {}: {}", candidate.backend, candidate.verdict, candidate.reason));
    }
    let flows = match plan.flows.len() {
        0 => "every frame".into(),
        1 => plan.flows[0].to_string(),
        n => format!("{n} flows"),
    };
    out.detail(&format!("receiving {flows} on {}", port.uri()));
}

/// What the file says about the interface.
pub(crate) fn options(port: &Port, plan: &Plan) -> InterfaceOptions {
    let flows: Vec<String> = plan.flows.iter().take(64).map(ToString::to_string).collect();
    let info = linerate::ports().into_iter().find(|p| p.interface.name == port.name());
    let info = info.map(|p| p.interface);
    let clock = port.rx.first().map(|rx| format!("clock: {:?}", rx.clock().domain));
    InterfaceOptions {
        name: port.name().to_owned(),
        description: port.uri().to_owned(),
        hardware: info.as_ref().and_then(|i| i.driver.clone()).unwrap_or_default(),
        mac: info.as_ref().and_then(|i| i.mac),
        speed_bps: info.and_then(|i| i.speed_mbps).map(|mbps| u64::from(mbps) * 1_000_000),
        comment: [clock.unwrap_or_default(), flows.join(" ")].join("; flows: "),
        snap_len: plan.snaplen.unwrap_or(0),
        ..InterfaceOptions::default()
    }
}

/// Notices when the interface goes away. A packet socket that is bound to it stays silent for
/// ever then, and the kernel does not say so. (UDP sockets go on when it comes back.)
struct Presence<'a> {
    interface: &'a str,
    watched: bool,
    lost: bool,
    next: Instant,
}

impl<'a> Presence<'a> {
    const EVERY: Duration = Duration::from_millis(250);

    fn of(backend: Backend, interface: &'a str) -> Self {
        let bound = matches!(backend, Backend::Afpacket | Backend::Afxdp);
        let watched = bound && interface::exists(interface);
        Self { interface, watched, lost: false, next: Instant::now() + Self::EVERY }
    }

    fn is_lost(&mut self, now: Instant) -> bool {
        if self.watched && now >= self.next {
            self.next = now + Self::EVERY;
            self.lost = !interface::exists(self.interface);
        }
        self.lost
    }

    fn failure(&self) -> Option<Failure> {
        self.lost.then(|| {
            Failure::new(format!("the interface {} has gone away", self.interface))
                .remedy("what was received before is kept; start again when it is back")
        })
    }
}

/// Is this flow a multicast group?
fn is_group(kind: FlowKind) -> bool {
    matches!(kind, FlowKind::Group { .. })
}
