//! A frame that is still arriving.

use linerate_common::{Error, RxFrame};

use crate::shared_rx::SharedRx;

/// The first bytes of a frame that is still arriving: see [`SharedRx::future`].
///
/// The card may still write around them, so there is no `&[u8]` to be had: bytes are copied out.
/// Whether the frame is good is not known before [`finish`](Self::finish).
#[derive(Debug)]
pub struct Future<'a> {
    rx: &'a mut SharedRx,
    at: *const u8,
    valid: usize,
}

impl<'a> Future<'a> {
    /// # Safety
    ///
    /// `valid` bytes at `at` have arrived and stay mapped for `'a`.
    pub(crate) unsafe fn new(rx: &'a mut SharedRx, at: *const u8, valid: usize) -> Self {
        Self { rx, at, valid }
    }

    /// How many bytes can be read, from the destination MAC on.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.valid
    }

    /// Is nothing there? Never so for a frame that was announced.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.valid == 0
    }

    /// Byte `i`, if it is among those that have arrived.
    #[inline]
    #[must_use]
    pub fn byte(&self, i: usize) -> Option<u8> {
        // SAFETY: within the bytes that have arrived; volatile, for the card shares the memory.
        (i < self.valid).then(|| unsafe { self.at.add(i).read_volatile() })
    }

    /// Copies bytes from `offset` on into `out`; returns how many.
    #[inline]
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let n = self.valid.saturating_sub(offset).min(out.len());
        for (i, byte) in out[..n].iter_mut().enumerate() {
            // SAFETY: offset + i < valid; volatile, for the card shares the memory.
            *byte = unsafe { self.at.add(offset + i).read_volatile() };
        }
        n
    }

    /// Shows the frame, and any that came with it, once it is complete. `Ok(0)`: it is not yet;
    /// call [`SharedRx::future`] or `poll` again. A frame that turned out bad is counted, not
    /// shown.
    ///
    /// # Errors
    ///
    /// As [`FrameRx::acquire`](linerate_common::FrameRx::acquire).
    #[inline]
    pub fn finish<F: FnMut(RxFrame<'_>)>(self, f: F) -> Result<usize, Error> {
        self.rx.finish_future(f)
    }
}
