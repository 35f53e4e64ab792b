//! The receive loop's thread.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use linerate::clock::now_ns;
use linerate::loops::{End, EventLoop, StopHandle, pin_to_cpu};
use linerate::{AnyRx, Backend, ErrorKind, FrameRx, RxFlags, RxFrame, RxStats};

use super::plan::Plan;
use crate::failure::Failure;
use crate::groups::{GroupCount, Groups};
use crate::lane::{FileBatch, LaneTx};
use crate::threads::spawn;

/// After the end, frames that came before it are looked for until none has shown up for this
/// long: a kernel ring hands its last block over only after a timeout.
const QUIET: Duration = Duration::from_millis(60);
/// … and at most this long.
const DRAIN: Duration = Duration::from_millis(500);
/// How long to leave an interface alone that is down.
const LINK_NAP: Duration = Duration::from_millis(20);

/// What the loop's own thread counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Frames taken.
    pub(crate) frames: u64,
    /// Bytes of those frames on the wire.
    pub(crate) bytes: u64,
    /// Of those, frames that the writer's lane had no room for.
    pub(crate) refused: u64,
    /// Of those, frames that the kernel made of several.
    pub(crate) merged: u64,
    /// Frames that came after the end and were not taken.
    pub(crate) surplus: u64,
    /// Frames taken, by size: see [`SIZE_NAMES`].
    pub(crate) sizes: [u64; 7],
}

/// Sizes of frames with their check sequence, as the field groups them (RFC 2819).
pub(crate) const SIZE_NAMES: [&str; 7] =
    ["64", "65-127", "128-255", "256-511", "512-1023", "1024-1518", "longer"];

/// The place in [`Counts::sizes`] of a frame of so many bytes without its check sequence.
#[inline]
fn size_class(wire_len: u64) -> usize {
    match wire_len + 4 {
        0..=64 => 0,
        65..=127 => 1,
        128..=255 => 2,
        256..=511 => 3,
        512..=1023 => 4,
        1024..=1518 => 5,
        _ => 6,
    }
}

/// Where the main thread asks for numbers and the receive loop leaves them. The loop tries the
/// lock and goes on without it: it never waits for the reader.
#[derive(Debug)]
pub(crate) struct Desk {
    wanted: AtomicBool,
    sheet: Mutex<Sheet>,
}

/// Numbers as of some moment.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) counts: Counts,
    /// Of all queues together.
    pub(crate) queue: RxStats,
    /// Of each.
    pub(crate) queues: Vec<RxStats>,
    pub(crate) groups: Vec<GroupCount>,
}

impl Desk {
    /// An empty sheet, with room for the plan's groups.
    pub(crate) fn new(plan: &Plan) -> Self {
        let groups = Vec::with_capacity(plan.flows.len());
        Self {
            wanted: AtomicBool::new(false),
            sheet: Mutex::new(Sheet { groups, ..Sheet::default() }),
        }
    }

    /// Asks for new numbers, to be found some ms later.
    pub(crate) fn ask(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Shows the last numbers to `f`.
    pub(crate) fn read<T>(&self, f: impl FnOnce(&Sheet) -> T) -> T {
        f(&self.sheet.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    fn put(&self, counts: &Counts, queues: impl Iterator<Item = RxStats>, groups: &[GroupCount]) {
        if let Ok(mut sheet) = self.sheet.try_lock() {
            sheet.counts = *counts;
            sheet.queues.clear();
            sheet.queues.extend(queues);
            sheet.queue = sum(&sheet.queues);
            sheet.groups.clear();
            sheet.groups.extend_from_slice(groups);
            self.wanted.store(false, Ordering::Relaxed);
        }
    }
}

/// Looks at frames on the receive loop's thread.
pub(crate) trait Inspect: Send + 'static {
    /// A frame of the group with this index came in.
    fn see(&mut self, group: usize, frame: &RxFrame<'_>);

    /// A frame came in that belongs to no group.
    #[inline]
    fn see_other(&mut self, frame: &RxFrame<'_>) {
        let _ = frame;
    }

    /// The main thread has asked for numbers.
    fn report(&mut self) {}
}

/// Looks at nothing.
impl Inspect for () {
    #[inline]
    fn see(&mut self, _group: usize, _frame: &RxFrame<'_>) {}
}

/// What is left when the loop has ended.
#[derive(Debug)]
pub(crate) struct Received<I> {
    /// Still open: the writer ends when it is dropped.
    pub(crate) lane: Option<LaneTx<FileBatch>>,
    pub(crate) counts: Counts,
    /// Of all queues together.
    pub(crate) queue: RxStats,
    pub(crate) groups: Vec<GroupCount>,
    pub(crate) inspector: I,
    /// A queue that broke down.
    pub(crate) failure: Option<Failure>,
}

/// The loop before it runs.
#[derive(Debug)]
pub(crate) struct Receiver<I> {
    port: String,
    cpu: Option<u32>,
    events: EventLoop<AnyRx, ()>,
    taker: RefCell<Taker<I>>,
    desk: Arc<Desk>,
}

impl<I: Inspect> Receiver<I> {
    /// A loop over these queues. Fails when they cannot run with the strategy asked for.
    pub(crate) fn new(
        plan: &Plan,
        mut queues: Vec<AnyRx>,
        lane: Option<LaneTx<FileBatch>>,
        inspector: I,
        desk: Arc<Desk>,
        stop: &StopHandle,
    ) -> Result<Self, Failure> {
        let mut events = EventLoop::new(plan.strategy(&mut queues), stop);
        for queue in queues {
            events.add(queue, ()).map_err(Failure::usage)?;
        }
        let taker = RefCell::new(Taker {
            lane,
            counts: Counts::default(),
            limit: plan.count.unwrap_or(u64::MAX),
            snaplen: plan.snaplen.map_or(usize::MAX, |n| n as usize),
            groups: Groups::new(&plan.flows, plan.seq),
            inspector,
            end_ns: u64::MAX,
        });
        Ok(Self { port: plan.port.clone(), cpu: plan.cpu, events, taker, desk })
    }

    /// Runs it on a thread of its own.
    pub(crate) fn start(self) -> Result<JoinHandle<Received<I>>, Failure> {
        spawn("linerate-rx", move || self.run())
    }

    fn run(mut self) -> Received<I> {
        let failure = match self.cpu.map(pin_to_cpu) {
            Some(Err(e)) => Some(Failure::new(e)),
            _ => self.receive().err(),
        };
        if failure.is_none() {
            self.drain();
        }
        let queue = self.stats();
        let Taker { lane, counts, groups, inspector, .. } = self.taker.into_inner();
        Received { lane, counts, queue, groups: groups.counts().to_vec(), inspector, failure }
    }

    /// Until stopped, until there are enough frames, or until a file ends.
    fn receive(&mut self) -> Result<(), Failure> {
        let files = self.events.queues_mut().any(|(q, ())| q.backend() == Some(Backend::Pcap));
        loop {
            let (taker, desk) = (&self.taker, &*self.desk);
            let ended = self.events.run_with(
                |(), frame| taker.borrow_mut().take(&frame),
                |turn| {
                    let mut taker = taker.borrow_mut();
                    taker.pause();
                    let look = taker.is_full() || desk.is_wanted() || (files && turn.frames == 0);
                    if look { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            );
            match ended {
                Ok(ended) if ended.why == End::Stopped || taker.borrow().is_full() => return Ok(()),
                Ok(_) if files && self.events.queues_mut().all(|(q, ())| q.finished()) => {
                    return Ok(());
                }
                Ok(_) => self.report(),
                // Frames may come again when the link is back.
                Err(e) if e.error.kind == ErrorKind::LinkDown => thread::sleep(LINK_NAP),
                Err(e) => {
                    let file = self.events.queue_mut(e.queue).and_then(|(q, ())| q.failure());
                    let here = || Failure::new(format!("{}: {}", self.port, e.error));
                    let failure = file.map_or_else(here, Failure::new);
                    return Err(failure.remedy("what was received before is kept"));
                }
            }
        }
    }

    /// Takes the frames that came before the end and have not been handed over yet.
    fn drain(&mut self) {
        self.taker.borrow_mut().end_ns = now_ns();
        let begun = Instant::now();
        let mut last_frame = begun;
        while last_frame.elapsed() < QUIET && begun.elapsed() < DRAIN {
            let taker = self.taker.get_mut();
            if taker.is_full() {
                return;
            }
            let before = taker.counts.frames;
            for (queue, ()) in self.events.queues_mut() {
                // A queue that is in trouble now has nothing more to give.
                let _ = queue.poll(64, |frame| taker.take(&frame));
            }
            if taker.counts.frames > before {
                last_frame = Instant::now();
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn report(&mut self) {
        let taker = self.taker.get_mut();
        taker.inspector.report();
        let queues = self.events.queues_mut().map(|(queue, ())| queue.stats());
        self.desk.put(&taker.counts, queues, taker.groups.counts());
    }

    /// The counters of all queues together.
    fn stats(&mut self) -> RxStats {
        let queues: Vec<_> = self.events.queues_mut().map(|(queue, ())| queue.stats()).collect();
        sum(&queues)
    }
}

fn sum(queues: &[RxStats]) -> RxStats {
    let mut sum = RxStats::default();
    queues.iter().for_each(|one| sum += *one);
    sum
}

/// What happens to each frame.
#[derive(Debug)]
struct Taker<I> {
    lane: Option<LaneTx<FileBatch>>,
    counts: Counts,
    limit: u64,
    snaplen: usize,
    groups: Groups,
    inspector: I,
    end_ns: u64,
}

impl<I: Inspect> Taker<I> {
    #[inline]
    fn take(&mut self, frame: &RxFrame<'_>) {
        let late = frame.meta.flags.contains(RxFlags::TS_SW) && frame.meta.ts_ns > self.end_ns;
        if self.is_full() || late {
            self.counts.surplus += 1;
            return;
        }
        let wire_len = u64::from(frame.meta.wire_len);
        self.counts.frames += 1;
        self.counts.bytes += wire_len;
        self.counts.sizes[size_class(wire_len)] += 1;
        self.counts.merged += u64::from(frame.meta.flags.contains(RxFlags::MERGED));
        let group =
            if self.groups.is_empty() { None } else { self.groups.count(frame.bytes, wire_len) };
        match group {
            Some(group) => self.inspector.see(group, frame),
            None => self.inspector.see_other(frame),
        }
        if let Some(lane) = &mut self.lane {
            let kept = &frame.bytes[..frame.bytes.len().min(self.snaplen)];
            if !lane.push(kept, frame.meta) {
                self.counts.refused += 1;
            }
        }
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.counts.frames >= self.limit
    }

    #[inline]
    fn pause(&mut self) {
        if let Some(lane) = &mut self.lane {
            lane.pause();
        }
    }
}
