//! The window: frames that are kept until they are released.

use std::ops::ControlFlow;

use linerate_common::{Buf, BufRx, Error, FrameRx, RxFrame, RxMeta};

use super::{VerbsRx, more};
use crate::cq::Completion;
use crate::seats::Taken;

/// One frame of the open window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) taken: Taken,
    pub(super) frame: *const u8,
    /// 0 once the buffer was taken out.
    pub(super) len: u32,
    pub(super) meta: RxMeta,
}

impl VerbsRx {
    /// Adds the frame of a completion to a window of at most `max`.
    #[inline(always)]
    pub(super) fn open(&mut self, done: Completion, max: usize, bad: &mut u32) -> ControlFlow<()> {
        let Some((taken, len, meta)) = self.accept(done) else { return more(bad) };
        self.seats.hold(taken);
        if let Some(place) = self.window.get_mut(self.len) {
            *place = Some(Slot { taken, frame: self.seats.frame(taken), len, meta });
            self.len += 1;
        }
        if self.len < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Gives the window's buffers back to the card, those that were not taken out.
    #[inline]
    pub(super) fn close(&mut self) {
        let mut bytes = 0;
        for slot in self.window.iter().take(self.len).flatten() {
            bytes += u64::from(slot.meta.wire_len);
            if self.seats.has_buffer(slot.taken) {
                self.seats.link(slot.taken);
            }
        }
        self.stats.bytes += bytes;
        self.stats.frames += self.len as u64;
        self.len = 0;
        self.post();
        if self.seats.has_empty() {
            self.top_up();
        }
    }

    /// `poll` for completion queues of the basic kind: what is read of them cannot be left there.
    #[cold]
    pub(super) fn poll_window(
        &mut self,
        max: usize,
        mut f: impl FnMut(RxFrame<'_>),
    ) -> Result<usize, Error> {
        let n = self.acquire(max)?;
        (0..n).for_each(|i| f(self.frame(i)));
        self.release();
        Ok(n)
    }
}

impl BufRx for VerbsRx {
    fn take(&mut self, i: usize) -> Option<Buf> {
        let Some(Some(slot)) = self.window.get_mut(..self.len).and_then(|w| w.get_mut(i)) else {
            panic!("frame {i} of {}", self.len)
        };
        let id = self.seats.id(slot.taken)?;
        let buf = self.cache.take(id, self.start, slot.len as usize)?;
        self.seats.vacate(slot.taken);
        slot.len = 0; // the bytes are the buffer's alone now
        Some(buf)
    }
}
