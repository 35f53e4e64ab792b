//! Handing buffers to the card: those of the ring that were shown, and fresh ones for those taken.

use super::RingRx;
use super::order::Entry;

impl RingRx {
    /// Hands buffers to the card once enough are missing.
    #[inline]
    pub(super) fn top_up_if_low(&mut self) {
        if self.order.missing() >= self.refill {
            self.top_up();
        }
    }

    /// Hands the card all the buffers its ring lacks, in full eights: it takes no fewer.
    #[inline(never)]
    pub(super) fn top_up(&mut self) {
        let want = self.order.missing() & !7;
        let (lib, vi, dma) = (self.lib, self.vi, &self.dma);
        let (frame_bytes, dma_off, areas) = (self.frame_bytes, self.dma_off, self.areas);
        let cache = &mut self.cache;
        let fresh = || {
            let id = cache.alloc()?;
            // SAFETY: the session is alive, and the buffer is one of the registered pool's.
            let addr = unsafe { dma.addr(id as usize * frame_bytes + dma_off) };
            // SAFETY: as above.
            let area = unsafe { areas.add(id as usize * frame_bytes) };
            Some(Entry::new(id, addr, area))
        };
        // SAFETY: a live VI; the address is that of a buffer of this queue which nobody looks at,
        // and what the card may write from there on lies within it.
        let post = |addr, id: u32| unsafe { lib.receive_init(vi, addr, id as i32) } >= 0;
        if self.order.post(want, fresh, post) > 0 {
            // SAFETY: a live VI.
            unsafe { self.lib.receive_push(self.vi) };
        }
    }
}
