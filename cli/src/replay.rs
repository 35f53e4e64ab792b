//! `linerate replay`.
//!
//! One thread reads the file and says when each frame is due; one waits for that time and sends;
//! the main thread shows progress. Every due time counts from one anchor, so that no error adds
//! up, and the achieved error is measured on every frame.

mod report;
mod schedule;
mod send;
mod source;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use linerate::loops::pin_to_cpu;
use linerate::{Direction, Port};

use crate::args::ReplayArgs;
use crate::events::Clock;
use crate::failure::Failure;
use crate::json::Identity;
use crate::lane::lane;
use crate::metrics::Feed;
use crate::output::Output;
use crate::privilege::{self, Need};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join, spawn};

use report::{Live, Summary};
use schedule::Schedule;
use send::{Sender, Sent, Shared};
use source::Source;

const TICK: Duration = Duration::from_millis(20);
/// Frames read ahead.
const AHEAD_BYTES: u64 = 16_000_000;

/// Runs the command.
pub(crate) fn run(args: &ReplayArgs, out: &mut Output) -> Result<(), Failure> {
    // What can be wrong with the file is found before anything is opened or sent.
    let source = Source::open(&args.file, args.times, Schedule::new(args.speed))?;
    check_cpu(args.cpu)?;
    let interrupt = Interrupt::install()?;
    let mut port = open(&args.port)?;
    for notice in port.notices() {
        out.notice(notice);
    }
    for candidate in port.choice() {
        out.detail(&format!("{}: {}: {}", candidate.backend, candidate.verdict, candidate.reason));
    }
    let identity = Identity::of(&port);
    let Some(tx) = port.tx.take() else {
        return Err(Failure::new(format!("{} cannot send", identity.port))
            .remedy("list the ports that can: linerate ports"));
    };

    let mut feed = Feed::start(args.metrics, &[&identity], out)?;
    let need = if args.times == 1 { Need::Nothing } else { Need::OldFiles };
    privilege::give_up(&[port.backend()], need, out);
    let shared = Arc::new(Shared::default());
    let (lane_tx, lane_rx) = lane(AHEAD_BYTES);
    let reader = source.start(lane_tx)?;
    let sender = Sender::new(tx, lane_rx, args, Arc::clone(&shared), feed.poster());
    let cpu = args.cpu;
    let sender = spawn("linerate-tx", move || {
        if let Some(cpu) = cpu {
            // Tried before on another thread: it works.
            let _ = pin_to_cpu(cpu);
        }
        sender.run()
    })?;

    let begun = Instant::now();
    let mut live = Live::new(&identity, begun);
    let mut interrupted = false;
    let clock = Clock::default();
    while !sender.is_finished() {
        clock.tick(out);
        if interrupt.asked() || out.closed() {
            interrupted = true;
            shared.stop.store(true, Ordering::Relaxed);
        }
        live.tick(&shared, out);
        feed.tick();
        thread::sleep(TICK);
    }
    let Sent { tally, errors, queue, seconds, failure: send_failure } = join(sender)?;
    let read = join(reader)?;
    drop(port);
    out.end_live();

    let send_failure = send_failure.map(|failure| failure.on(&identity.port));
    let failure = send_failure.or(read.failure);
    let summary = Summary {
        identity: &identity,
        args,
        seconds,
        tally: &tally,
        queue: &queue,
        errors: &errors,
        out_of_order: read.out_of_order,
        cut: read.cut,
        interrupted,
        failure: failure.as_ref(),
    };
    summary.print(out);
    match failure {
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

fn open(uri: &str) -> Result<Port, Failure> {
    linerate::port(uri).direction(Direction::Tx).open().map_err(Failure::new)
}
