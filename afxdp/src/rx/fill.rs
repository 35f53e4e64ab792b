//! What goes back to the kernel: the frames of a burst, and fresh ones for those that were taken.

use std::ptr::NonNull;

use super::XdpRx;
use crate::ring::Desc;

impl XdpRx {
    /// Ends a window, or a poll that panicked.
    #[inline(never)]
    pub(super) fn close(&mut self) {
        self.len = 0;
        if std::mem::take(&mut self.in_place) {
            // The fill ring says already what it should.
            self.finish(self.open);
        } else {
            self.recycle();
        }
    }

    /// Gives the `open` descriptors back, and their frames to the kernel again. What was taken
    /// meanwhile is not lent any more and is left out.
    pub(super) fn recycle(&mut self) {
        let mut written = 0;
        for i in 0..self.open {
            if let Some(start) = self.check(self.rx.read(i)) {
                self.fill.write(written, start);
                written += 1;
            }
        }
        self.settle(written);
        self.finish(written);
    }

    /// So many slots of the fill ring were written.
    #[inline]
    pub(super) fn settle(&mut self, written: u32) {
        self.settled = self.settled.saturating_add(written).min(self.fill.size());
    }

    /// The next `n` descriptors, which wait, and the slots of the fill ring beside them: what
    /// [`in_place`] needs. `None`: a slot may name a frame that is not lent, or one of the rings
    /// comes to its end.
    #[inline(always)]
    pub(super) fn places(&mut self, n: u32) -> Option<(NonNull<Desc>, NonNull<u64>)> {
        if self.settled != self.fill.size() {
            return None;
        }
        Some((self.rx.slots().straight(n)?, self.fill.slots().straight(n)?))
    }

    /// Ends a window whose frames are `written` to the fill ring but not yet submitted.
    #[inline]
    pub(super) fn finish(&mut self, written: u32) {
        self.rx.release(self.open);
        self.open = 0;
        if self.frames.lent() < self.lend {
            self.refill(written);
        } else {
            self.fill.submit(written);
        }
    }

    /// Submits what is `written`, and lends fresh frames for those that were taken.
    #[cold]
    pub(super) fn refill(&mut self, written: u32) {
        let mut all = written;
        while self.frames.lent() < self.lend
            && let Some(id) = self.frames.alloc()
        {
            self.fill.write(all, self.view.start(id));
            all += 1;
        }
        self.settle(all - written);
        self.fill.submit(all);
    }
}
