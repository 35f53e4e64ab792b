//! Sending: reserve a slot, write into it, commit it, and kick once for the whole group.
//!
//! # For application authors
//!
//! ```
//! use linerate_common::{Error, FrameTx};
//!
//! // Write in place, hand a whole group over with one doorbell. `false`: no room, try later.
//! fn send_group(tx: &mut dyn FrameTx, group: &[&[u8]]) -> Result<bool, Error> {
//!     for frame in group {
//!         if !tx.send(frame)? {
//!             tx.kick()?;
//!             return Ok(false);
//!         }
//!     }
//!     tx.kick()?;
//!     Ok(true)
//! }
//! ```
//!
//! Back-pressure is not an error: `reserve` gives `None`, `send` gives `Ok(false)`, and the
//! caller decides whether to drop, to spin on [`FrameTx::reap`], or to do something else.
//!
//! A queue that is dropped may take with it what has not left yet. Before the last queue goes,
//! reap until [`completed`](TxStats::completed) and the losses add up to what was sent.
//!
//! # For backend authors
//!
//! * `commit` may already put the frame on the wire (CTPIO, ExaNIC): say so in the backend's docs.
//! * A slot that has been committed belongs to the card until `reap` has seen its completion.
//! * `reserve` reaps by itself when it finds no slot free.

use crate::buf::Buf;
use crate::error::{Error, ErrorKind};
use crate::frame::{RxFlags, RxFrame};
use crate::rx::BufRx;
use crate::stats::TxStats;

/// One transmit queue.
pub trait FrameTx {
    /// Longest frame the queue takes, in bytes without frame check sequence.
    fn max_len(&self) -> usize;

    /// Frames that can be reserved right now without reaping: a hint.
    fn room(&self) -> usize;

    /// The next slot as `len` writable bytes of unspecified content, or `None`: no slot is free
    /// (back-pressure), `len` is 0, or `len > max_len()`. Reserving again without a commit
    /// cancels the earlier reservation, at no cost.
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Queues the first `len` bytes of the reserved slot. The frame may go out at once, and goes
    /// out at the latest with the next [`kick`](Self::kick). `commit(0)` cancels.
    ///
    /// # Panics
    ///
    /// If nothing is reserved or `len` is more than was reserved, as indexing would.
    fn commit(&mut self, len: usize);

    /// Rings the doorbell: everything committed is on its way after this.
    ///
    /// # Errors
    ///
    /// The queue is in trouble. What was committed stays queued, and a later kick tries again,
    /// unless the backend counts it as lost in [`TxStats`].
    fn kick(&mut self) -> Result<(), Error>;

    /// Collects completions; returns how many slots came back.
    fn reap(&mut self) -> usize;

    /// What the queue has sent and lost since it was opened. Monotonic. May make a system call.
    fn stats(&mut self) -> TxStats;

    /// Copies one frame into the queue. `Ok(false)` means back-pressure. Needs a
    /// [`kick`](Self::kick).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadLength`] when the frame is empty or longer than [`max_len`](Self::max_len).
    #[inline]
    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        if let Some(slot) = self.reserve(frame.len()) {
            slot.copy_from_slice(frame);
            self.commit(frame.len());
            return Ok(true);
        }
        if frame.is_empty() || frame.len() > self.max_len() {
            return Err(Error::new(ErrorKind::BadLength, "send"));
        }
        Ok(false)
    }
}

/// Capability: send a buffer of the pool without a copy.
pub trait BufTx: FrameTx {
    /// Queues a whole buffer. It goes back to its pool when the card has sent it.
    ///
    /// # Errors
    ///
    /// Gives the buffer back when the queue is full, when the buffer belongs to a pool that is
    /// not registered with this queue, or when it is empty or too long.
    fn push(&mut self, buf: Buf) -> Result<(), Buf>;
}

/// When one sent frame reached the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxStamp {
    /// Counts the queue's committed frames from 0.
    pub seq: u64,
    /// ns since the UNIX epoch, UTC, or [`NO_TS`](crate::NO_TS) when this frame got none.
    pub ts_ns: u64,
    /// [`RxFlags::TS_HW`] or [`RxFlags::TS_SW`], and [`RxFlags::TS_UNSYNCED`].
    pub flags: RxFlags,
}

/// Capability: learn when frames left.
pub trait TxStamps: FrameTx {
    /// [`FrameTx::reap`] that also shows the stamps that arrived, in order of sending.
    fn reap_with(&mut self, f: &mut dyn FnMut(TxStamp)) -> usize;
}

/// Sends on what `keep` selects, without a copy, and kicks once. Takes no more frames than `tx`
/// has room for, so nothing is lost to back-pressure. Returns how many were sent on.
///
/// # Errors
///
/// Either queue is in trouble, or the two share no pool ([`ErrorKind::BadArgument`]): then the
/// frame at hand is returned to `tx`'s caller through the pool's leak count, not sent.
pub fn forward<R, T>(
    rx: &mut R,
    tx: &mut T,
    max: usize,
    mut keep: impl FnMut(RxFrame<'_>) -> bool,
) -> Result<usize, Error>
where
    R: BufRx + ?Sized,
    T: BufTx + ?Sized,
{
    tx.reap();
    let n = rx.acquire(max.min(tx.room()))?;
    let mut sent = 0;
    for i in 0..n {
        if !keep(rx.frame(i)) {
            continue;
        }
        if let Some(buf) = rx.take(i) {
            if let Err(_buf) = tx.push(buf) {
                rx.release();
                return Err(Error::new(ErrorKind::BadArgument, "push"));
            }
            sent += 1;
        }
    }
    rx.release();
    if sent > 0 {
        tx.kick()?;
    }
    Ok(sent)
}
