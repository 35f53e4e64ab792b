//! A pool's frames, by their place in the region.

use linerate_common::pool::Pool;

use crate::steer::FrameMeta;

/// Reads frames by their place in the region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    base: *const u8,
    /// log2 of the frame size.
    shift: u32,
    cookie: u64,
}

// SAFETY: the pointer leads into the region, which the queue's frame cache keeps mapped; what is
// read through it is decided by the queue, which has one owner.
unsafe impl Send for View {}

impl View {
    /// `cookie` announces metadata in front of a frame; 0 when there is none.
    pub(crate) fn new(pool: &Pool, cookie: u64) -> Self {
        let shift = pool.frame_bytes().trailing_zeros();
        Self { base: pool.region().as_ptr(), shift, cookie }
    }

    /// Do frames have metadata in front?
    #[inline]
    pub(crate) fn has_meta(self) -> bool {
        self.cookie != 0
    }

    /// Where in its frame a place is.
    #[inline]
    pub(crate) fn offset(self, at: usize) -> usize {
        at & (self.frame_bytes() - 1)
    }

    /// Where frame `id` starts, as the fill ring wants it.
    #[inline]
    pub(crate) fn start(self, id: u32) -> u64 {
        u64::from(id) << self.shift
    }

    #[inline]
    pub(crate) fn frame_bytes(self) -> usize {
        1 << self.shift
    }

    /// Where the frame starts that a descriptor names, if it is one of those that `lent` has a bit
    /// for, and the bytes lie in it.
    #[inline(always)]
    pub(crate) fn lent_start(self, addr: u64, len: u32, lent: &[u64]) -> Option<u64> {
        let (id, last) = (addr >> self.shift, self.frame_bytes() as u64 - 1);
        let fits = (addr & last) + u64::from(len) <= last + 1;
        let word = *lent.get(usize::try_from(id / 64).ok()?)?;
        (fits && word >> (id % 64) & 1 == 1).then_some(addr & !last)
    }

    /// Asks for the first bytes at a place, which need not be one of a frame.
    #[inline(always)]
    pub(crate) fn prefetch(self, addr: u64) {
        let at = self.base.wrapping_add(addr as usize);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which no address makes fail.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }

    /// Id of the frame that a place belongs to.
    #[inline]
    pub(crate) fn id(self, addr: u64) -> u32 {
        u32::try_from(addr >> self.shift).unwrap_or(u32::MAX)
    }

    /// # Safety
    ///
    /// The bytes are one frame's, and nobody writes them while the slice lives.
    #[inline]
    pub(crate) unsafe fn bytes<'a>(self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: `at + len` lies in the region, as the caller checked.
        unsafe { std::slice::from_raw_parts(self.base.add(at), len) }
    }

    /// What the program wrote in front of the frame at `at`, once.
    ///
    /// # Safety
    ///
    /// The frame is ours: nobody else reads or writes it now.
    #[inline]
    pub(crate) unsafe fn take_meta(self, at: usize) -> Option<FrameMeta> {
        if self.offset(at) < size_of::<FrameMeta>() {
            return None;
        }
        // SAFETY: the metadata lies in the frame, in front of its data, and any bytes are valid.
        unsafe {
            let place = self.base.add(at - size_of::<FrameMeta>()).cast_mut().cast::<FrameMeta>();
            let meta = place.read_unaligned();
            // Whoever gets the frame next without metadata must not find this.
            place.write_unaligned(FrameMeta { cookie: 0, ..meta });
            (meta.cookie == self.cookie).then_some(meta)
        }
    }
}
