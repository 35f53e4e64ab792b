//! The loop itself: its queues, its turns, and what is common to all strategies.

use std::fmt;
use std::ops::ControlFlow;

use super::sleep::Sleeper;
use super::stop::StopHandle;
use super::strategy::{Strategy, StrategyKind};
use super::thread::CpuWatch;
use super::turn::{End, Ended, QueueError, Totals, Turn};
use crate::error::SetupError;
use crate::frame::RxFrame;
use crate::rx::FrameRx;

/// One queue with its context.
pub(super) struct Lane<R, C> {
    pub(super) rx: R,
    pub(super) ctx: C,
    /// Throughput: the tick of the last poll, and how many ticks to leave the queue alone.
    pub(super) polled: u64,
    pub(super) hold: u64,
}

/// Runs one handler over one or several queues, in the calling thread.
///
/// `R` is the queues' type: a backend's own, an enum over several, `&mut` one of these, or
/// `Box<dyn FrameRx>`. `C` is whatever the handler wants to know about the queue that a frame
/// came from. No queue starves: each gets a bounded burst per turn, and every turn begins with
/// another queue.
pub struct EventLoop<R, C> {
    pub(super) lanes: Vec<Lane<R, C>>,
    pub(super) strategy: Strategy,
    pub(super) stop: StopHandle,
    pub(super) totals: Totals,
    pub(super) sleeper: Sleeper,
    /// The queue that the next turn begins with.
    first: usize,
    cpu: CpuWatch,
}

impl<R: FrameRx, C> EventLoop<R, C> {
    /// A loop without queues, which `stop` will end.
    #[must_use]
    pub fn new(strategy: Strategy, stop: &StopHandle) -> Self {
        Self {
            lanes: Vec::new(),
            strategy,
            stop: stop.clone(),
            totals: Totals::default(),
            sleeper: Sleeper::default(),
            first: 0,
            cpu: CpuWatch::default(),
        }
    }

    /// Adds a queue and the context that the handler gets with its frames. Returns its index,
    /// counted from 0.
    ///
    /// # Errors
    ///
    /// The strategy cannot run this queue: see [`Strategy::check`].
    pub fn add(&mut self, mut rx: R, ctx: C) -> Result<usize, SetupError> {
        self.strategy.check(&mut rx)?;
        self.lanes.push(Lane { rx, ctx, polled: 0, hold: 0 });
        self.sleeper.make_room(self.lanes.len());
        Ok(self.lanes.len() - 1)
    }

    /// A queue and its context, between runs.
    pub fn queue_mut(&mut self, queue: usize) -> Option<(&mut R, &mut C)> {
        self.lanes.get_mut(queue).map(|lane| (&mut lane.rx, &mut lane.ctx))
    }

    /// All queues with their contexts, between runs.
    pub fn queues_mut(&mut self) -> impl Iterator<Item = (&mut R, &mut C)> {
        self.lanes.iter_mut().map(|lane| (&mut lane.rx, &mut lane.ctx))
    }

    /// Takes the loop apart.
    #[must_use]
    pub fn into_queues(self) -> Vec<(R, C)> {
        self.lanes.into_iter().map(|lane| (lane.rx, lane.ctx)).collect()
    }

    /// What the loop has done since it was made.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Hands every frame to `handler` until the stop handle is used.
    ///
    /// # Errors
    ///
    /// The first error of any queue, with its index. Run again to go on.
    pub fn run<F>(&mut self, handler: F) -> Result<Ended, QueueError>
    where
        F: FnMut(&mut C, RxFrame<'_>),
    {
        self.run_with(handler, |_| ControlFlow::Continue(()))
    }

    /// [`run`](Self::run), and calls `hook` after every turn: to count, to send what the handler
    /// prepared, to end the run. Turns of a spinning loop are some ns apart, so a hook should do
    /// nothing most of the time: see [`Every`](super::Every).
    ///
    /// If the handler panics, the frames of that burst are gone and the loop can run again.
    ///
    /// # Errors
    ///
    /// The first error of any queue, with its index. Run again to go on.
    pub fn run_with<F, H>(&mut self, mut handler: F, mut hook: H) -> Result<Ended, QueueError>
    where
        F: FnMut(&mut C, RxFrame<'_>),
        H: FnMut(&Turn) -> ControlFlow<()>,
    {
        self.cpu.restart();
        if self.stop.is_stopped() {
            return Ok(Ended { why: End::Stopped, totals: self.totals });
        }
        let why = match self.strategy.kind() {
            StrategyKind::LowLatency => self.run_spinning(&mut handler, &mut hook)?,
            StrategyKind::Throughput => self.run_gathering(&mut handler, &mut hook)?,
            StrategyKind::Blocking | StrategyKind::Adaptive => {
                self.run_sleeping(&mut handler, &mut hook)?
            }
        };
        Ok(Ended { why, totals: self.totals })
    }

    /// One bounded burst of each queue for which `ready` says so, beginning with another queue
    /// each time. `polled` learns what came of it.
    #[inline(always)]
    pub(super) fn poll_queues<F>(
        &mut self,
        handler: &mut F,
        ready: impl Fn(&Lane<R, C>) -> bool,
        polled: impl Fn(&mut Lane<R, C>, usize),
    ) -> Result<usize, QueueError>
    where
        F: FnMut(&mut C, RxFrame<'_>),
    {
        let (count, burst) = (self.lanes.len(), self.strategy.burst);
        let first = self.first;
        self.first = if first + 1 >= count { 0 } else { first + 1 };
        let mut frames = 0;
        for queue in (first..count).chain(0..first) {
            let lane = &mut self.lanes[queue];
            if !ready(lane) {
                continue;
            }
            let ctx = &mut lane.ctx;
            match lane.rx.poll(burst, |frame| handler(ctx, frame)) {
                Ok(n) => {
                    self.totals.frames += n as u64;
                    frames += n;
                    polled(lane, n);
                }
                Err(error) => {
                    // Whoever resumes the loop gets the other queues served first.
                    self.first = if queue + 1 >= count { 0 } else { queue + 1 };
                    return Err(QueueError { queue, error });
                }
            }
        }
        Ok(frames)
    }

    /// Ends a turn: counts it, runs the hook, and says whether the run is over.
    #[inline(always)]
    pub(super) fn end_turn<H>(&mut self, frames: usize, slept: bool, hook: &mut H) -> Option<End>
    where
        H: FnMut(&Turn) -> ControlFlow<()>,
    {
        self.totals.turns += 1;
        self.totals.sleeps += u64::from(slept);
        if (slept || self.totals.turns.is_multiple_of(1024)) && self.cpu.moved() {
            self.totals.migrations += 1;
        }
        let turn = Turn {
            number: self.totals.turns,
            frames,
            total: self.totals.frames,
            slept,
            migrations: self.totals.migrations,
        };
        if hook(&turn).is_break() {
            return Some(End::Hook);
        }
        self.stop.is_stopped().then_some(End::Stopped)
    }
}

impl<R, C> fmt::Debug for EventLoop<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("strategy", &self.strategy)
            .field("queues", &self.lanes.len())
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}
