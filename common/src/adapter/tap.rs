//! Looking at every frame that passes.

use super::draft::Draft;
use crate::buf::Buf;
use crate::clock::{ClockInfo, Clocked, now_ns};
use crate::error::{Error, SetupError};
use crate::flow::FlowSpec;
use crate::frame::{RxFlags, RxFrame, RxMeta};
use crate::rx::{BufRx, FrameRx};
use crate::stats::{RxStats, TxStats};
use crate::steer::{RuleId, Steer};
use crate::tx::FrameTx;
use crate::wait::Waitable;

/// Where a [`Tap`] puts what it sees: a capture file, a counter, a closure.
pub trait FrameSink {
    /// Sees one frame. It cannot fail: a sink that can run full remembers that, and counts.
    fn frame(&mut self, frame: &RxFrame<'_>);
}

impl<F: FnMut(&RxFrame<'_>)> FrameSink for F {
    #[inline]
    fn frame(&mut self, frame: &RxFrame<'_>) {
        self(frame);
    }
}

/// Shows every frame to a [`FrameSink`] on its way through a queue.
///
/// Around a receiver: frames are shown when a window opens, before the application sees them.
/// Around a sender: frames are shown when they are committed, flagged
/// [`OUTGOING`](RxFlags::OUTGOING) and stamped by this process; a reservation then costs one copy
/// of the frame.
#[derive(Debug)]
pub struct Tap<Q, S> {
    queue: Q,
    sink: S,
    draft: Draft,
    /// Committed frames for which the queue had no slot any more.
    no_slot: u64,
}

impl<Q, S: FrameSink> Tap<Q, S> {
    /// Puts `sink` on `queue`.
    pub fn new(queue: Q, sink: S) -> Self {
        Self { queue, sink, draft: Draft::default(), no_slot: 0 }
    }

    /// The queue.
    pub fn queue_mut(&mut self) -> &mut Q {
        &mut self.queue
    }

    /// The sink.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Takes the two apart.
    pub fn into_parts(self) -> (Q, S) {
        (self.queue, self.sink)
    }
}

impl<R: FrameRx, S: FrameSink> FrameRx for Tap<R, S> {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        let n = self.queue.acquire(max)?;
        for i in 0..n {
            self.sink.frame(&self.queue.frame(i));
        }
        Ok(n)
    }

    #[inline]
    fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        self.queue.frame(i)
    }

    #[inline]
    fn release(&mut self) {
        self.queue.release();
    }

    fn stats(&mut self) -> RxStats {
        self.queue.stats()
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        self.queue.waitable()
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        let sink = &mut self.sink;
        self.queue.poll(max, |frame| {
            sink.frame(&frame);
            f(frame);
        })
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl<R: BufRx, S: FrameSink> BufRx for Tap<R, S> {
    #[inline]
    fn take(&mut self, i: usize) -> Option<Buf> {
        self.queue.take(i)
    }
}

impl<T: FrameTx, S: FrameSink> FrameTx for Tap<T, S> {
    fn max_len(&self) -> usize {
        self.queue.max_len()
    }

    fn room(&self) -> usize {
        self.queue.room()
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.draft.reserve(&mut self.queue, len)
    }

    fn commit(&mut self, len: usize) {
        let frame = self.draft.commit(len);
        if frame.is_empty() {
            return;
        }
        // `reserve` has seen a slot, and nobody else uses the queue.
        let Ok(true) = self.queue.send(frame) else {
            self.no_slot += 1;
            return;
        };
        self.sink.frame(&outgoing(frame));
    }

    fn kick(&mut self) -> Result<(), Error> {
        self.queue.kick()
    }

    fn reap(&mut self) -> usize {
        self.queue.reap()
    }

    fn stats(&mut self) -> TxStats {
        let mut stats = self.queue.stats();
        stats.queue_full += self.no_slot;
        stats
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        let sent = self.queue.send(frame)?;
        if sent {
            self.sink.frame(&outgoing(frame));
        }
        Ok(sent)
    }
}

fn outgoing(bytes: &[u8]) -> RxFrame<'_> {
    let flags = RxFlags::OUTGOING | RxFlags::TS_SW;
    RxFrame { bytes, meta: RxMeta { ts_ns: now_ns(), flags, ..RxMeta::plain(bytes.len()) } }
}

impl<Q: Clocked, S> Clocked for Tap<Q, S> {
    fn clock(&self) -> ClockInfo {
        self.queue.clock()
    }
}

impl<R: Steer, S> Steer for Tap<R, S> {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        self.queue.add(flow)
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        self.queue.remove(rule)
    }
}
