//! The word of host memory in which the card confirms what it has sent.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::shared::AtomicU16;

/// A feedback slot.
#[derive(Debug)]
pub(crate) struct Feedback(NonNull<AtomicU16>);

// SAFETY: it is read atomically, and the card writes it at any time anyway.
unsafe impl Send for Feedback {}

impl Feedback {
    /// # Safety
    ///
    /// The slot stays mapped as long as this is used.
    pub(crate) const unsafe fn new(slot: NonNull<AtomicU16>) -> Self {
        Self(slot)
    }

    /// The id that was fed back last.
    #[inline]
    pub(crate) fn last(&self) -> u16 {
        // SAFETY: mapped, by the constructor's contract. Acquire: a chunk may be overwritten only
        // after its feedback was seen.
        unsafe { self.0.as_ref() }.load(Ordering::Acquire)
    }
}
