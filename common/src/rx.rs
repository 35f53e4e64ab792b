//! Receiving: a queue opens a *window* of waiting frames, shows them, and takes them back.
//!
//! # For application authors
//!
//! Ways to read the same window, from fastest to most flexible:
//!
//! ```
//! use linerate_common::{Error, FrameRx, FrameRxExt};
//!
//! // A closure: each backend runs its own fused loop around it.
//! fn count(rx: &mut impl FrameRx) -> Result<usize, Error> {
//!     let mut bytes = 0;
//!     rx.poll(64, |frame| bytes += frame.bytes.len())?;
//!     Ok(bytes)
//! }
//!
//! // A guard: `?`, `break` and several frames at once; the window closes when it drops.
//! fn longest(rx: &mut dyn FrameRx) -> Result<usize, Error> {
//!     let burst = rx.burst(64)?;
//!     Ok(burst.iter().map(|f| f.bytes.len()).max().unwrap_or(0))
//! }
//!
//! // The closure form again, of a queue whose kind is only known at run time.
//! fn total(rx: &mut dyn FrameRx) -> Result<usize, Error> {
//!     let mut bytes = 0;
//!     rx.poll_dyn(64, &mut |frame| bytes += frame.bytes.len())?;
//!     Ok(bytes)
//! }
//!
//! // The primitives, for loops that need to hold the queue itself.
//! fn first(rx: &mut dyn FrameRx) -> Result<Option<u8>, Error> {
//!     let n = rx.acquire(1)?;
//!     let byte = (n > 0).then(|| rx.frame(0).bytes[0]);
//!     rx.release();
//!     Ok(byte)
//! }
//! ```
//!
//! A queue has one owner: it is `Send` but not `Sync`, and takes no locks.
//!
//! # For backend authors
//!
//! * Nobody may write the bytes of an open window before `release`: memory that a device may
//!   still write is copied and re-validated first, never lent as `&[u8]`.
//! * Indices and lengths read from shared memory are input: clamp and check them.
//! * Override [`FrameRx::poll`] with a loop that visits and recycles in one pass, and publish
//!   indices after it. When the closure panics, the frames it had not reached are recycled with
//!   the rest by the next `acquire`: a window is delivered at most once.
//! * Give [`FrameRx::poll_dyn`] the same loop: `self.poll(max, f)`.
//! * Run the conformance suite.

use crate::buf::Buf;
use crate::error::Error;
use crate::frame::RxFrame;
use crate::stats::RxStats;
use crate::wait::Waitable;

/// One receive queue.
pub trait FrameRx {
    /// Opens a window of at most `max.min(MAX_BURST)` waiting frames and says how many there
    /// are. A window that is still open is released first. `Ok(0)` means that nothing is there:
    /// never an error, never an allocation, never a wait.
    ///
    /// # Errors
    ///
    /// The queue itself is in trouble ([`ErrorKind`](crate::ErrorKind) says how). A bad frame is
    /// no error: it is counted, or delivered with a flag when asked for.
    fn acquire(&mut self, max: usize) -> Result<usize, Error>;

    /// Frames in the open window, 0 when none is open.
    fn len(&self) -> usize;

    /// Is there no open window, or an empty one?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frame `i` of the open window.
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    fn frame(&self, i: usize) -> RxFrame<'_>;

    /// Closes the window and gives its frames back to the card or kernel, with one doorbell.
    /// Does nothing when no window is open.
    fn release(&mut self);

    /// What the queue has delivered and lost since it was opened. Monotonic. May make a system
    /// call: for once a second, not for every turn. Ask it so often even where you do not want the
    /// numbers: on the kernel's backends `poll` and `acquire` ask nobody, and a reader that spins
    /// learns of changes to its interface (gone, down, more queues, another clock) by this alone.
    fn stats(&mut self) -> RxStats;

    /// The queue as something to sleep on, where the backend can (ExaNIC cannot).
    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        None
    }

    /// [`poll`](Self::poll) for `dyn FrameRx`: the same fused loop, where the backend has one,
    /// with one call through `f` a frame.
    ///
    /// For backend authors: give it `self.poll(max, f)`. Without that it opens a window.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        let n = self.acquire(max)?;
        for i in 0..n {
            f(self.frame(i));
        }
        self.release();
        Ok(n)
    }

    /// Shows each waiting frame to `f`, at most `max`, and recycles them; returns how many.
    /// A backend may show more than [`MAX_BURST`](crate::MAX_BURST) in one call.
    ///
    /// If `f` panics the window is recycled by the next call: nothing leaks, nothing is
    /// delivered twice.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error>
    where
        Self: Sized,
    {
        let n = self.acquire(max)?;
        for i in 0..n {
            f(self.frame(i));
        }
        self.release();
        Ok(n)
    }
}

/// The guard form of a window, for every queue and for `dyn FrameRx`.
pub trait FrameRxExt: FrameRx {
    /// Opens a window that closes itself.
    ///
    /// # Errors
    ///
    /// As [`FrameRx::acquire`].
    #[inline]
    fn burst(&mut self, max: usize) -> Result<Burst<'_, Self>, Error> {
        let len = self.acquire(max)?;
        Ok(Burst { rx: self, len })
    }
}

impl<R: FrameRx + ?Sized> FrameRxExt for R {}

/// An open window; dropping it recycles the frames. A forgotten guard (`mem::forget`) only
/// delays that until the next `acquire`.
#[derive(Debug)]
pub struct Burst<'a, R: FrameRx + ?Sized> {
    rx: &'a mut R,
    len: usize,
}

impl<R: FrameRx + ?Sized> Burst<'_, R> {
    /// Frames in the window.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Was nothing there?
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frame `i`.
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    #[inline]
    #[must_use]
    pub fn frame(&self, i: usize) -> RxFrame<'_> {
        self.rx.frame(i)
    }

    /// The frames in order of arrival. Several may be held at once.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RxFrame<'_>> + '_ {
        (0..self.len).map(|i| self.rx.frame(i))
    }
}

impl<R: BufRx + ?Sized> Burst<'_, R> {
    /// Keeps frame `i` beyond the window: see [`BufRx::take`].
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    #[inline]
    pub fn take(&mut self, i: usize) -> Option<Buf> {
        self.rx.take(i)
    }
}

impl<R: FrameRx + ?Sized> Drop for Burst<'_, R> {
    #[inline]
    fn drop(&mut self) {
        self.rx.release();
    }
}

/// Capability: frames arrive in buffers of a pool, so one can be kept.
pub trait BufRx: FrameRx {
    /// Moves frame `i` out of the window without a copy; `release` will not recycle it. `None`
    /// when it was taken before. From then on the bytes are the [`Buf`]'s alone, which may be
    /// written or handed to another thread while the window is open: `frame(i)` shows none.
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    fn take(&mut self, i: usize) -> Option<Buf>;
}
