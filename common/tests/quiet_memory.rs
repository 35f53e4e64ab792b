//! No strategy allocates between the first turn and the last. A test binary of its own, for its
//! allocator counts.

#![allow(clippy::unwrap_used)] // A test that cannot go on may say so.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

use linerate_common::loopback::{self, LoopRx, LoopTx, Options};
use linerate_common::loops::{End, EventLoop, Every, StopHandle, Strategy, StrategyKind};
use linerate_common::{FrameRx, FrameTx};

struct Counting;

thread_local! {
    /// Of this thread only: the test harness allocates as it likes.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: passes every call on to the system's allocator, unchanged. Counting allocates nothing:
// the thread-local is initialised in place and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs two queues for 5000 turns, feeding them from the hook, and returns how often the thread
/// called the allocator meanwhile.
fn calls_while_running<R: FrameRx>(
    strategy: Strategy,
    wrap: impl Fn(LoopRx) -> R,
    mut spoil: impl FnMut(),
) -> u64 {
    let stop = StopHandle::new().unwrap();
    let mut events = EventLoop::new(strategy, &stop);
    let mut senders: Vec<LoopTx> = Vec::new();
    for queue in 0..2 {
        let (tx, rx) = loopback::pair(&Options::default()).unwrap();
        events.add(wrap(rx), queue).unwrap();
        senders.push(tx);
    }
    let mut every = Every::new(Duration::from_millis(1));
    let (mut frames, mut due) = (0_u64, 0_u64);
    let before = CALLS.get();
    let ended = events
        .run_with(
            |_, frame| frames += u64::from(frame.bytes[0]),
            |turn| {
                due += u64::from(every.is_due(turn));
                spoil();
                // A burst, a single frame, and long silence.
                let count = [64, 0, 0, 1, 0, 0, 0, 0, 0, 0][turn.number as usize % 10];
                for tx in &mut senders {
                    for _ in 0..count {
                        tx.send(&[1; 60]).unwrap();
                    }
                    tx.kick().unwrap();
                    tx.reap();
                }
                if turn.number < 5000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        )
        .unwrap();
    let calls = CALLS.get() - before;
    assert_eq!(ended.why, End::Hook);
    assert!(frames > 10_000, "only {frames} frames");
    calls
}

fn strategies() -> impl Iterator<Item = Strategy> {
    StrategyKind::ALL.into_iter().map(|kind| {
        Strategy::new(kind).with_max_sleep(Duration::from_micros(20)).with_max_age(Duration::ZERO)
    })
}

#[test]
fn loops_allocate_nothing() {
    for strategy in strategies() {
        assert_eq!(calls_while_running(strategy, |rx| rx, || ()), 0, "{strategy}");
    }
}

#[test]
fn nor_do_loops_over_trait_objects() {
    for strategy in strategies() {
        let boxed = |rx| -> Box<dyn FrameRx> { Box::new(rx) };
        assert_eq!(calls_while_running(strategy, boxed, || ()), 0, "{strategy}");
    }
}

#[test]
fn an_allocation_would_be_noticed() {
    let spoil = || drop(std::hint::black_box(Box::new(1)));
    assert!(calls_while_running(Strategy::low_latency(), |rx| rx, spoil) > 5000);
}
