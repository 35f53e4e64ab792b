//! A receive queue of either kind.

use std::time::Duration;

use linerate_common::{
    BufRx, ClockInfo, Clocked, Error, FlowSpec, FrameRx, RuleId, RxFrame, RxStats, SetupError,
    Steer, Waitable,
};

use crate::discard::Discards;
use crate::error::unsupported;
use crate::ring_rx::RingRx;
use crate::session::Session;
use crate::shared_rx::SharedRx;
use crate::stamp::StampState;

/// A receive queue: of posted buffers or of packet references, as the card has it.
///
/// It behaves the same either way, but only [`RingRx`] can let frames be kept
/// ([`buf_rx`](Self::buf_rx)), and only [`SharedRx`] can show a frame that is still arriving.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a queue, and not moved while in use")]
pub enum EfviRx {
    /// SFN7000 to X2, X4 full-feature.
    Ring(RingRx),
    /// X3, X4 low-latency.
    Shared(SharedRx),
}

macro_rules! either {
    ($self:expr, $rx:ident => $result:expr) => {
        match $self {
            EfviRx::Ring($rx) => $result,
            EfviRx::Shared($rx) => $result,
        }
    };
}

impl EfviRx {
    /// The capability to keep frames, where the card has it.
    pub fn buf_rx(&mut self) -> Option<&mut dyn BufRx> {
        match self {
            Self::Ring(rx) => Some(rx),
            Self::Shared(_) => None,
        }
    }

    /// Frames thrown away by the card, by reason.
    #[must_use]
    pub fn discards(&self) -> Discards {
        either!(self, rx => rx.discards())
    }

    /// Why frames carry no timestamps, or how good the last one was.
    #[must_use]
    pub fn stamps(&self) -> StampState {
        either!(self, rx => rx.stamps())
    }

    /// Sleeps in the driver until something happens: see [`RingRx::wait`].
    ///
    /// # Errors
    ///
    /// The driver refused.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        either!(self, rx => rx.wait(timeout))
    }

    /// Opens the queue anew, on the same pool and with the same flows: the way on after
    /// [`ErrorKind::QueueLost`](linerate_common::ErrorKind::QueueLost). What the old queue still
    /// had is lost; its counters start again from 0.
    ///
    /// # Errors
    ///
    /// The card does not give a queue (it may take a moment to come back from a reset): open one
    /// with [`open_rx`](crate::open_rx) later. A queue of a set cannot come back alone: drop all
    /// of them and call [`open_set`](crate::open_set).
    pub fn rebuild(self) -> Result<Self, SetupError> {
        if self.session().is_in_set() {
            let what = "a queue of a set cannot come back alone";
            return Err(unsupported("ef_vi_alloc_from_set", what)
                .on(self.session().port())
                .remedy("drop all queues of the set and open it again"));
        }
        let (interface, options, flows) = either!(&self, rx => rx.recipe());
        // The card and the pool must have room before the new one is opened.
        drop(self);
        let mut rx = crate::open_rx(&interface, &options)?;
        for flow in &flows {
            rx.add(flow)?;
        }
        Ok(rx)
    }

    pub(crate) fn session(&self) -> &Session {
        either!(self, rx => rx.session())
    }
}

impl FrameRx for EfviRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        either!(self, rx => rx.acquire(max))
    }

    #[inline]
    fn len(&self) -> usize {
        either!(self, rx => rx.len())
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        either!(self, rx => rx.frame(i))
    }

    #[inline]
    fn release(&mut self) {
        either!(self, rx => rx.release());
    }

    fn stats(&mut self) -> RxStats {
        either!(self, rx => rx.stats())
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        either!(self, rx => rx.waitable())
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, f: F) -> Result<usize, Error> {
        either!(self, rx => rx.poll(max, f))
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl Clocked for EfviRx {
    fn clock(&self) -> ClockInfo {
        either!(self, rx => rx.clock())
    }
}

impl Steer for EfviRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        either!(self, rx => rx.add(flow))
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        either!(self, rx => rx.remove(rule))
    }
}
