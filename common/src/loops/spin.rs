//! `low_latency`: poll, poll, poll.

use std::ops::ControlFlow;

use super::event_loop::EventLoop;
use super::turn::{End, QueueError, Turn};
use crate::frame::RxFrame;
use crate::rx::FrameRx;

impl<R: FrameRx, C> EventLoop<R, C> {
    /// No pause instruction between empty turns: it would cost up to 140 cycles of latency, and
    /// a core that runs this loop has nothing better to do.
    pub(super) fn run_spinning<F, H>(
        &mut self,
        handler: &mut F,
        hook: &mut H,
    ) -> Result<End, QueueError>
    where
        F: FnMut(&mut C, RxFrame<'_>),
        H: FnMut(&Turn) -> ControlFlow<()>,
    {
        loop {
            let frames = self.poll_queues(handler, |_| true, |_, _| ())?;
            if let Some(end) = self.end_turn(frames, false, hook) {
                return Ok(end);
            }
        }
    }
}
