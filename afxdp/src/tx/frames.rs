//! The frames that a queue sends from: a stock of free ones, and those on their way.
//!
//! The queue has as many frames as its ring has slots, and keeps them. So a free frame is a free
//! slot, and neither needs a look at the pool. The last one to come back is the next to go out: it
//! is in the CPU's cache. Where a buffer of the application's is sent, its frame stays with the
//! queue, and one of the queue's goes to the pool instead.
//!
//! # What a completion is believed
//!
//! It must name a frame that is on its way. The kernel names them in the order in which they were
//! submitted (a frame that it drops on the way may overtake others), so we remember that order, and
//! compare: a whole run at once, and if anything in it differs one after the other. One that names
//! another frame of those on their way has overtaken the first, and the two change places in our
//! memory. Anything else names a frame that is free, not submitted, already back or none of ours, and
//! changes nothing. What goes into the stock is what we remembered, never what was read.

use crate::ring::Stretch;

#[derive(Debug)]
pub(super) struct Frames {
    /// Places where data begin in free frames, of which there are `free`. What lies behind them is
    /// of no meaning.
    stock: Box<[u64]>,
    free: u32,
    /// Places of the frames on their way, exactly as queued: by their number modulo the length, which
    /// is a power of two. They are the last `stock.len() - free` before `next`.
    sent: Box<[u64]>,
    /// The number of the next frame to be queued: of its slot in the ring.
    next: u32,
    /// log2 of the frame size.
    shift: u32,
    headroom: u64,
}

impl Frames {
    /// The frames of these ids, a power of two of them. The ring's first slot has the number `next`.
    pub(super) fn new(ids: &[u32], next: u32, frame_bytes: usize, headroom: usize) -> Self {
        let (shift, headroom) = (frame_bytes.trailing_zeros(), headroom as u64);
        Self {
            stock: ids.iter().map(|id| u64::from(*id) << shift | headroom).collect(),
            free: ids.len() as u32,
            // Written, so that no page of it is missing when the first frame is sent.
            sent: vec![u64::MAX; ids.len()].into_boxed_slice(),
            next,
            shift,
            headroom,
        }
    }

    /// Frames that may be queued.
    #[inline]
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// The number of the next frame to be queued.
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// The number of the oldest frame on its way.
    #[inline]
    fn oldest(&self) -> u32 {
        self.next.wrapping_sub(self.stock.len() as u32 - self.free)
    }

    /// Where the data of the next free frame begin.
    #[inline]
    pub(super) fn peek(&self) -> Option<u64> {
        // With no frame free this is out of range.
        self.stock.get((self.free as usize).wrapping_sub(1)).copied()
    }

    /// Makes the frame the next to go out that was so before the last `back` came back.
    #[cold]
    pub(super) fn bring_up(&mut self, back: u32) {
        let top = (self.free as usize).wrapping_sub(1);
        let before = top.wrapping_sub(back as usize);
        if before < self.stock.len() && top < self.stock.len() {
            self.stock.swap(before, top);
        }
    }

    #[inline]
    fn slot(&self, number: u32) -> usize {
        number as usize & (self.sent.len() - 1)
    }

    /// Notes that the bytes at `at` are queued: of the frame that [`peek`](Self::peek) gave, or in
    /// its place.
    #[inline]
    pub(super) fn queue(&mut self, at: u64) {
        debug_assert!(self.free > 0, "queued without a free frame");
        let slot = self.slot(self.next);
        // SAFETY: the length is a power of two, so what `slot` gives lies below it.
        unsafe { *self.sent.get_unchecked_mut(slot) = at };
        self.next = self.next.wrapping_add(1);
        self.free -= 1;
    }

    /// Takes frames back as long as `named` goes on exactly as they were submitted, up to number
    /// `submitted`. Returns how many: 0 if there is any difference.
    ///
    /// # Safety
    ///
    /// The slots may be read.
    #[inline]
    pub(super) unsafe fn complete_run(&mut self, named: Stretch<u64>, submitted: u32) -> u32 {
        let oldest = self.oldest();
        let (first, free) = (self.slot(oldest), self.free as usize);
        let most = named.len.min(submitted.wrapping_sub(oldest)) as usize;
        let n = most.min(self.sent.len() - first);
        let sent = self.sent.get(first..first + n);
        let (Some(sent), Some(stock)) = (sent, self.stock.get_mut(free..free + n)) else {
            return 0;
        };
        let (start, headroom) = (u64::MAX << self.shift, self.headroom);
        let mut differs = 0;
        for (i, (sent, stock)) in sent.iter().zip(stock).enumerate() {
            // SAFETY: below `named.len`, and readable as the caller vouches.
            differs |= unsafe { named.slots.add(i).read() } ^ sent;
            *stock = sent & start | headroom;
        }
        if differs != 0 {
            return 0;
        }
        self.free += n as u32;
        n as u32
    }

    /// Takes the frame back that `named` lies in. Returns its place as queued, or `None` when no
    /// such frame is on its way below number `submitted`.
    pub(super) fn complete(&mut self, named: u64, submitted: u32) -> Option<u64> {
        let oldest = self.oldest();
        let of_one_frame = |at: &u64| (*at ^ named) >> self.shift == 0;
        let first = self.slot(oldest);
        let ahead = (0..submitted.wrapping_sub(oldest))
            .find(|ahead| of_one_frame(&self.sent[self.slot(oldest.wrapping_add(*ahead))]))?;
        let place = self.slot(oldest.wrapping_add(ahead));
        self.sent.swap(first, place);
        let at = self.sent[first];
        self.stock[self.free as usize] = at & (u64::MAX << self.shift) | self.headroom;
        self.free += 1;
        Some(at)
    }
}
