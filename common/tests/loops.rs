//! Event loops over real (in-memory) queues and over queues made for one question.

#![allow(clippy::unwrap_used)] // A test that cannot go on may say so.

use std::io::{PipeReader, PipeWriter, pipe};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use linerate_common::loopback::{self, LoopTx, Options};
use linerate_common::loops::{
    End, EventLoop, StopHandle, Strategy, StrategyKind, allowed_cpus, pin_to_cpu,
};
use linerate_common::{
    Error, ErrorKind, FrameRx, FrameTx, RxFrame, RxMeta, RxStats, SetupError, Waitable,
};

/// A queue that always has `left` more frames, and may fail.
#[derive(Default)]
struct Endless {
    left: usize,
    len: usize,
    polls: usize,
    fail_on_poll: Option<usize>,
    event: Option<Event>,
}

/// Becomes readable when the pipe says so; `arrives` frames come in while it is being armed.
struct Event {
    pipe: PipeReader,
    arrives: usize,
    armed: bool,
}

impl Waitable for Event {
    fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
    fn arm(&mut self) -> Result<(), Error> {
        self.armed = true;
        Ok(())
    }
}

impl FrameRx for Endless {
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.release();
        self.polls += 1;
        if let Some(event) = self.event.as_mut().filter(|event| event.armed) {
            self.left += std::mem::take(&mut event.arrives);
        }
        if self.fail_on_poll == Some(self.polls) {
            return Err(Error::new(ErrorKind::LinkDown, "recv"));
        }
        self.len = self.left.min(max);
        self.left -= self.len;
        Ok(self.len)
    }
    fn len(&self) -> usize {
        self.len
    }
    fn frame(&self, i: usize) -> RxFrame<'_> {
        assert!(i < self.len);
        RxFrame { bytes: &[7], meta: RxMeta::plain(1) }
    }
    fn release(&mut self) {
        self.len = 0;
    }
    fn stats(&mut self) -> RxStats {
        RxStats::default()
    }
    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        self.event.as_mut().map(|event| event as &mut dyn Waitable)
    }
}

fn endless() -> Endless {
    Endless { left: usize::MAX, ..Endless::default() }
}

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());
const ENOUGH: ControlFlow<()> = ControlFlow::Break(());

fn until(turn: u64) -> impl FnMut(&linerate_common::loops::Turn) -> ControlFlow<()> {
    move |now| if now.number < turn { GO_ON } else { ENOUGH }
}

fn stop_handle() -> StopHandle {
    StopHandle::new().unwrap()
}

#[test]
fn each_queue_gets_its_burst_and_every_turn_begins_with_another() {
    let stop = stop_handle();
    let mut events = EventLoop::new(Strategy::low_latency().with_burst(2), &stop);
    for queue in 0..3 {
        assert_eq!(events.add(endless(), queue).unwrap(), queue);
    }
    let mut order = Vec::new();
    let ended = events.run_with(|queue, _| order.push(*queue), until(4)).unwrap();
    assert_eq!(order, [0, 0, 1, 1, 2, 2, 1, 1, 2, 2, 0, 0, 2, 2, 0, 0, 1, 1, 0, 0, 1, 1, 2, 2]);
    assert_eq!((ended.why, ended.totals.turns, ended.totals.frames), (End::Hook, 4, 24));
}

#[test]
fn the_hook_sees_the_turn_and_the_context_belongs_to_its_queue() {
    let stop = stop_handle();
    let mut events = EventLoop::new(Strategy::low_latency().with_burst(3), &stop);
    events.add(Endless { left: 4, ..Endless::default() }, 0_u32).unwrap();
    events.add(Endless { left: 1, ..Endless::default() }, 100).unwrap();
    let mut turns = Vec::new();
    let hook = |turn: &linerate_common::loops::Turn| {
        turns.push((turn.number, turn.frames, turn.total));
        if turn.number < 3 { GO_ON } else { ENOUGH }
    };
    events.run_with(|seen, _| *seen += 1, hook).unwrap();
    assert_eq!(turns, [(1, 4, 4), (2, 1, 5), (3, 0, 5)]);
    assert_eq!(*events.queue_mut(1).unwrap().1, 101);
    assert_eq!(
        events.into_queues().into_iter().map(|(_, seen)| seen).collect::<Vec<_>>(),
        [4, 101]
    );
}

#[test]
fn an_error_names_its_queue_and_the_loop_goes_on_after_it() {
    let stop = stop_handle();
    let mut events = EventLoop::new(Strategy::low_latency().with_burst(1), &stop);
    let limited = |fail_on_poll| Endless { left: 10, fail_on_poll, ..Endless::default() };
    for (queue, fails) in [None, Some(3), None].into_iter().enumerate() {
        events.add(limited(fails), (queue, 0)).unwrap();
    }
    let e = events.run_with(|seen, _| seen.1 += 1, until(100)).unwrap_err();
    assert_eq!((e.queue, e.error.kind), (1, ErrorKind::LinkDown));
    assert_eq!(e.to_string(), "queue 1: recv: the link is down");
    // The run goes on with queue 2, and nothing is lost or handled twice.
    let mut order = Vec::new();
    events
        .run_with(
            |seen, _| {
                seen.1 += 1;
                order.push(seen.0);
            },
            until(100),
        )
        .unwrap();
    assert_eq!(order[0], 2);
    assert!(events.queues_mut().all(|(_, seen)| seen.1 == 10));
    assert_eq!(events.totals().frames, 30);
}

#[test]
fn a_panicking_handler_leaves_a_loop_that_runs() {
    let stop = stop_handle();
    let mut events = EventLoop::new(Strategy::low_latency(), &stop);
    let (mut tx, rx) = loopback::pair(&Options::default()).unwrap();
    events.add(rx, ()).unwrap();
    for n in 0..20 {
        tx.send(&[n; 60]).unwrap();
    }
    tx.kick().unwrap();
    let mut seen = Vec::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        events.run(|(), frame| {
            seen.push(frame.bytes[0]);
            if frame.bytes[0] == 3 {
                resume_unwind(Box::new("on purpose"));
            }
        })
    }));
    assert!(panicked.is_err());
    events.run_with(|(), frame| seen.push(frame.bytes[0]), until(10)).unwrap();
    assert_eq!(seen[..4], [0, 1, 2, 3]);
    assert!(seen.is_sorted_by(|a, b| a < b) && seen.last() == Some(&19), "{seen:?}");
}

#[test]
fn sleeping_strategies_refuse_queues_without_a_descriptor() {
    let stop = stop_handle();
    for kind in StrategyKind::ALL {
        let mut events = EventLoop::new(Strategy::new(kind), &stop);
        let added: Result<usize, SetupError> = events.add(endless(), ());
        assert_eq!(added.is_err(), kind.sleeps(), "{kind:?}");
        if let Err(e) = added {
            assert_eq!(e.kind(), ErrorKind::Unsupported);
            assert_eq!(
                e.to_string(),
                format!(
                    "EventLoop::add: strategy {} needs a queue that can be slept on; \
                     this queue runs with low-latency or throughput",
                    kind.name()
                )
            );
        }
    }
}

#[test]
fn a_stopped_handle_ends_a_loop_before_its_first_turn() {
    let stop = stop_handle();
    stop.stop();
    let mut events = EventLoop::new(Strategy::low_latency(), &stop);
    events.add(endless(), ()).unwrap();
    let ended = events.run(|(), _| panic!("handled a frame")).unwrap();
    assert_eq!((ended.why, ended.totals.turns), (End::Stopped, 0));
    stop.reset();
    let other = stop.clone();
    assert_eq!(events.run(|(), _| other.stop()).unwrap().totals.turns, 1);
}

/// So long that only a lost wake-up makes a loop sleep for all of it.
const FOR_EVER: Duration = Duration::from_secs(30);

/// Every strategy, with knobs that make it show what it does.
fn strategies() -> [Strategy; 5] {
    [
        Strategy::low_latency(),
        Strategy::throughput(),
        Strategy::blocking().with_max_sleep(FOR_EVER),
        Strategy::adaptive().with_max_sleep(FOR_EVER),
        Strategy::adaptive().with_spin(Duration::from_secs(3600)),
    ]
}

#[test]
fn every_strategy_delivers_every_frame_of_two_senders() {
    const COUNT: u32 = 1000;
    for strategy in strategies() {
        let stop = stop_handle();
        let mut events = EventLoop::new(strategy, &stop);
        let mut senders = Vec::new();
        for _ in 0..2 {
            let options = Options { ring_slots: 16, ..Options::default() };
            let (tx, rx) = loopback::pair(&options).unwrap();
            events.add(rx, 0).unwrap();
            senders.push(tx);
        }
        thread::scope(|scope| {
            for tx in &mut senders {
                scope.spawn(|| send_all(tx, COUNT));
            }
            let mut total = 0;
            let mut last = Instant::now();
            let ended = events.run_with(
                |expect, frame| {
                    assert_eq!(frame.bytes[..4], u32::to_be_bytes(*expect), "{strategy}");
                    *expect += 1;
                    total += 1;
                    if total == 2 * COUNT {
                        stop.stop();
                    }
                },
                |turn| {
                    let now = Instant::now();
                    let asleep = now - std::mem::replace(&mut last, now);
                    assert!(!turn.slept || asleep < FOR_EVER, "{strategy}: a lost wake-up");
                    GO_ON
                },
            );
            let ended = ended.unwrap();
            assert_eq!((ended.why, ended.totals.frames), (End::Stopped, 2 * u64::from(COUNT)));
        });
    }
}

fn send_all(tx: &mut LoopTx, count: u32) {
    for n in 0..count {
        let mut frame = [0; 60];
        frame[..4].copy_from_slice(&n.to_be_bytes());
        while !tx.send(&frame).unwrap() {
            tx.kick().unwrap();
            thread::yield_now();
        }
        if n % 3 == 0 {
            tx.kick().unwrap();
        }
        if n % 100 == 0 {
            // Long enough for a sleeper to fall asleep.
            thread::sleep(Duration::from_micros(200));
        }
    }
    tx.kick().unwrap();
}

#[test]
fn a_stop_from_another_thread_ends_every_strategy() {
    for strategy in strategies() {
        let stop = stop_handle();
        let mut events = EventLoop::new(strategy, &stop);
        let (_tx, rx) = loopback::pair(&Options::default()).unwrap();
        events.add(rx, ()).unwrap();
        thread::scope(|scope| {
            let running = scope.spawn(|| events.run(|(), _| ()));
            thread::sleep(Duration::from_millis(5));
            let asked = Instant::now();
            stop.stop();
            assert_eq!(running.join().unwrap().unwrap().why, End::Stopped, "{strategy}");
            assert!(asked.elapsed() < FOR_EVER, "{strategy}: slept on");
        });
    }
}

#[test]
fn blocking_sleeps_and_spinning_does_not() {
    for strategy in strategies() {
        let strategy = strategy.with_max_sleep(Duration::from_millis(1));
        let sleeps = match strategy.kind() {
            StrategyKind::Blocking => 5,
            _ => 0,
        };
        let stop = stop_handle();
        let mut events = EventLoop::new(strategy, &stop);
        let (_tx, rx) = loopback::pair(&Options::default()).unwrap();
        events.add(rx, ()).unwrap();
        let ended = events.run_with(|(), _| (), until(5)).unwrap();
        if strategy.kind() != StrategyKind::Adaptive {
            assert_eq!(ended.totals.sleeps, sleeps, "{strategy}");
        }
    }
    // Adaptive sleeps once its spinning time is over, and not before.
    for (spin, may_sleep) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let strategy =
            Strategy::adaptive().with_spin(spin).with_max_sleep(Duration::from_millis(1));
        let stop = stop_handle();
        let mut events = EventLoop::new(strategy, &stop);
        let (_tx, rx) = loopback::pair(&Options::default()).unwrap();
        events.add(rx, ()).unwrap();
        let ended = events.run_with(|(), _| (), until(5)).unwrap();
        assert_eq!(ended.totals.sleeps > 0, may_sleep);
    }
}

#[test]
fn throughput_leaves_an_idle_queue_alone_until_the_age_limit() {
    let polls = |max_age| {
        let stop = stop_handle();
        let strategy = Strategy::throughput().with_max_age(max_age);
        let mut events = EventLoop::new(strategy, &stop);
        events.add(Endless::default(), ()).unwrap();
        events.run_with(|(), _| (), until(1000)).unwrap();
        events.queue_mut(0).unwrap().0.polls
    };
    assert_eq!(polls(Duration::from_secs(3600)), 1);
    assert_eq!(polls(Duration::ZERO), 1000);
}

#[test]
fn throughput_goes_on_at_once_while_bursts_are_full() {
    let stop = stop_handle();
    let strategy = Strategy::throughput().with_max_age(Duration::from_secs(3600));
    let mut events = EventLoop::new(strategy, &stop);
    events.add(endless(), ()).unwrap();
    let ended = events.run_with(|(), _| (), until(100)).unwrap();
    assert_eq!(ended.totals.frames, 100 * 256);
}

fn waitable(pipe: PipeReader, arrives: usize) -> Endless {
    Endless { event: Some(Event { pipe, arrives, armed: false }), ..Endless::default() }
}

#[test]
fn what_arrives_before_the_arming_is_not_slept_through() {
    // The pipe never becomes readable: these frames came too early to cause a wake-up.
    let (pipe, _open) = pipe().unwrap();
    let stop = stop_handle();
    let strategy = Strategy::blocking().with_max_sleep(Duration::from_millis(1));
    let mut events = EventLoop::new(strategy, &stop);
    events.add(waitable(pipe, 5), ()).unwrap();
    let ended = events.run_with(|(), _| (), until(1)).unwrap();
    assert_eq!((ended.totals.frames, ended.totals.sleeps), (5, 0));
}

#[test]
fn a_descriptor_in_an_error_state_ends_the_run_instead_of_spinning() {
    let stop = stop_handle();
    let mut events = EventLoop::new(Strategy::blocking(), &stop);
    let (good, _open): (PipeReader, PipeWriter) = pipe().unwrap();
    let (hung_up, writer) = pipe().unwrap();
    drop(writer);
    for pipe in [good, hung_up] {
        events.add(waitable(pipe, 0), ()).unwrap();
    }
    let e = events.run_with(|(), _| (), until(1000)).unwrap_err();
    assert_eq!((e.queue, e.error.kind, e.error.op), (1, ErrorKind::QueueLost, "ppoll"));
}

#[test]
fn loops_take_trait_objects_and_borrowed_queues() {
    let stop = stop_handle();
    let mut events: EventLoop<Box<dyn FrameRx>, ()> =
        EventLoop::new(Strategy::low_latency(), &stop);
    events.add(Box::new(endless()), ()).unwrap();
    events.add(Box::new(loopback::pair(&Options::default()).unwrap().1), ()).unwrap();
    assert_eq!(events.run_with(|(), _| (), until(3)).unwrap().totals.frames, 24);

    let mut rx = endless();
    let mut events = EventLoop::new(Strategy::throughput(), &stop);
    events.add(&mut rx, ()).unwrap();
    events.run_with(|(), _| (), until(1)).unwrap();
    assert_eq!(rx.polls, 1);
}

#[test]
fn a_move_to_another_cpu_is_counted() {
    thread::spawn(|| {
        let cpus = allowed_cpus().unwrap();
        let &[here, there, ..] = cpus.as_slice() else {
            return linerate_lab::skip("a_move_to_another_cpu_is_counted", "only one CPU");
        };
        pin_to_cpu(here).unwrap();
        let stop = stop_handle();
        let mut events = EventLoop::new(Strategy::low_latency(), &stop);
        events.add(Endless::default(), ()).unwrap();
        let mut seen = Vec::new();
        let hook = |turn: &linerate_common::loops::Turn| {
            if turn.number == 1500 {
                pin_to_cpu(there).unwrap();
            }
            if turn.number.is_multiple_of(1024) {
                seen.push(turn.migrations);
            }
            if turn.number < 4096 { GO_ON } else { ENOUGH }
        };
        let ended = events.run_with(|(), _| (), hook).unwrap();
        assert_eq!((seen, ended.totals.migrations), (vec![0, 1, 1, 1], 1));
    })
    .join()
    .unwrap();
}
