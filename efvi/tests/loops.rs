//! The loops of the field, as strategies over queues of both kinds of card.

#![allow(clippy::unwrap_used)]

mod bench;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bench::{Bench, frame, seq};
use linerate_common::FrameTx;
use linerate_common::loops::{EventLoop, StopHandle, Strategy, StrategyKind};
use linerate_sim::efvi::Kind;

const FRAMES: u32 = 2000;

/// Runs the strategy until all frames came.
fn every_frame_arrives(kind: Kind, strategy: Strategy, look_ahead: u32, merge_events: bool) {
    let bench = Bench::new(kind);
    let mut options = bench.options();
    (options.look_ahead, options.merge_events) = (look_ahead, merge_events);
    let (mut tx, rx) = (bench.tx(&options), bench.rx(&options));
    let stop = StopHandle::new().unwrap();
    let mut events = EventLoop::new(strategy, &stop);
    events.add(rx, Vec::new()).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    let received = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let (stop, received) = (&stop, &received);
        scope.spawn(move || {
            for n in 0..FRAMES {
                // No further ahead than the ring holds.
                while n > received.load(Ordering::Acquire) + 200
                    || !tx.send(&frame(n, 100)).unwrap()
                {
                    tx.kick().unwrap();
                    tx.reap();
                    if Instant::now() > limit {
                        return stop.stop();
                    }
                    std::thread::yield_now();
                }
            }
            tx.kick().unwrap();
            // A queue that closes takes along what the card has not fetched yet.
            while tx.stats().completed < FRAMES.into() && Instant::now() < limit {
                tx.reap();
                std::thread::yield_now();
            }
        });
        let ended = events.run_with(
            |got: &mut Vec<u32>, f| {
                got.push(seq(f.bytes));
                received.store(got.len() as u32, Ordering::Release);
            },
            |turn| {
                let done = turn.total >= u64::from(FRAMES) || Instant::now() > limit;
                if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        ended.unwrap();
    });
    for (rx, got) in events.into_queues() {
        assert!(got.iter().copied().eq(0..FRAMES), "{} frames came", got.len());
        drop(rx);
    }
    bench.is_empty();
}

#[test]
fn low_latency_throughput_blocking_and_adaptive() {
    for kind in [Kind::Ring, Kind::Shared] {
        for strategy in StrategyKind::ALL {
            every_frame_arrives(kind, Strategy::new(strategy), 0, false);
        }
    }
}

#[test]
fn throughput_with_merged_events_and_look_ahead() {
    every_frame_arrives(Kind::Ring, Strategy::throughput(), 16, true);
}
