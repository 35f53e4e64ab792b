//! A queue's private stock of frames: no atomics but one plain store a change of ownership.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::buf::Buf;
use crate::error::{ErrorKind, SetupError};

use super::Pool;

/// Most frames exchanged with the pool in one go.
const BATCH: usize = 64;

/// The frames one queue answers for: free ones, a LIFO so that the next is still in the CPU's
/// cache, and those *lent* to the card. For backends.
///
/// Completions come from memory that others write. [`free`](Self::free) therefore takes back
/// only a frame that is lent: an id that is out of range, twice completed or never given out is
/// refused instead of ending up in two hands.
///
/// Dropping the cache gives **all** of its frames back to the pool, lent ones included. Drop it
/// only after the card or kernel is known to be done with them (the queue is closed).
#[derive(Debug)]
pub struct FrameCache {
    pool: Pool,
    free: Vec<u32>,
    /// Free frames kept before the coldest go back to the pool; `free` never reallocates.
    keep: usize,
    /// Frames exchanged with the pool in one go: few where the pool is small, so that a queue
    /// which hoards does not starve the others.
    batch: usize,
    /// One bit a frame of the pool: with the card, or in an open window.
    lent: Box<[u64]>,
    lent_count: u32,
    held: Arc<AtomicU32>,
}

impl FrameCache {
    pub(super) fn new(pool: Pool, held: Arc<AtomicU32>) -> Self {
        let words = (pool.frames() as usize).div_ceil(64);
        let batch = (pool.frames() as usize / 32).clamp(1, BATCH);
        Self {
            pool,
            free: Vec::with_capacity(4 * batch),
            keep: 4 * batch,
            batch,
            lent: vec![0; words].into_boxed_slice(),
            lent_count: 0,
            held,
        }
    }

    /// The pool the frames belong to.
    #[inline]
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Takes `frames` out of the pool at once, so that a queue which opens is sure of them.
    ///
    /// # Errors
    ///
    /// The pool has fewer free; then none is taken.
    pub fn reserve(&mut self, frames: usize) -> Result<(), SetupError> {
        let taken = self.take_out(frames)?;
        self.keep += frames;
        self.free.reserve_exact(self.keep);
        self.free.extend_from_slice(&taken);
        self.count();
        Ok(())
    }

    /// The same, and lends them at once: for a queue that keeps track of its own frames and needs
    /// no stock of others.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve).
    pub fn lend(&mut self, frames: usize) -> Result<Vec<u32>, SetupError> {
        let taken = self.take_out(frames)?;
        for id in &taken {
            self.lent[*id as usize / 64] |= 1 << (id % 64);
        }
        self.lent_count += taken.len() as u32;
        self.count();
        Ok(taken)
    }

    fn take_out(&self, frames: usize) -> Result<Vec<u32>, SetupError> {
        let mut taken = vec![0; frames];
        let n = self.pool.0.free.pop(&mut taken);
        if n < frames {
            self.pool.0.free.push(&taken[..n]);
            let what = format!("the pool has {n} free frames and the queue needs {frames}");
            return Err(SetupError::new(ErrorKind::BadArgument, "pool", what)
                .remedy("build the pool with more frames, or open the queue with smaller rings"));
        }
        Ok(taken)
    }

    /// Free frames at hand without asking the pool.
    #[inline]
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Frames that the queue has out: with the card, or in a window.
    #[inline]
    #[must_use]
    pub fn lent(&self) -> u32 {
        self.lent_count
    }

    /// The frame that the next [`alloc`](Self::alloc) gives, without taking it.
    #[inline]
    #[must_use]
    pub fn peek(&mut self) -> Option<u32> {
        if self.free.is_empty() && !self.refill() {
            return None;
        }
        self.free.last().copied()
    }

    /// Lends a frame to the card. `None` when the pool is empty too.
    #[inline]
    #[must_use]
    pub fn alloc(&mut self) -> Option<u32> {
        if self.free.is_empty() && !self.refill() {
            return None;
        }
        let id = self.free.pop()?;
        // Always there: `get_mut` only keeps a panic out of the hot path.
        if let Some(word) = self.lent.get_mut(id as usize / 64) {
            *word |= 1 << (id % 64);
            self.lent_count += 1;
        }
        Some(id)
    }

    /// Takes a lent frame back. `false`, and nothing happens, when `id` is not lent.
    #[inline]
    pub fn free(&mut self, id: u32) -> bool {
        if !self.end_loan(id) {
            return false;
        }
        if self.free.len() >= self.keep {
            self.spill();
            self.free.push(id);
            self.count();
        } else {
            self.free.push(id);
        }
        true
    }

    /// Ends every loan at once: for a queue that was reset and has let go of all its frames.
    pub fn reclaim(&mut self) {
        for id in 0..self.pool.frames() {
            self.free(id);
        }
    }

    /// Is the frame with the card or in a window of this queue?
    #[inline]
    #[must_use]
    pub fn is_lent(&self, id: u32) -> bool {
        self.lent.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// What [`is_lent`](Self::is_lent) looks at, for the loop over a burst: one bit a frame, 64 of
    /// them a word.
    #[inline]
    #[must_use]
    pub fn lent_bits(&self) -> &[u64] {
        &self.lent
    }

    /// Makes a lent frame the application's: `len` bytes at `off`. `None` when it is not lent or
    /// the bytes do not fit a frame.
    #[inline]
    #[must_use]
    pub fn take(&mut self, id: u32, off: usize, len: usize) -> Option<Buf> {
        if off + len > self.pool.frame_bytes() || !self.end_loan(id) {
            return None;
        }
        self.count();
        // SAFETY: the frame was lent, hence this queue's, and its bit is now clear: nobody but
        // the caller has it. The bytes fit, and 4096 fits 16 bits.
        Some(unsafe { Buf::from_parts(self.pool.tag(), id, off as u16, len as u16) })
    }

    /// Takes over the application's buffer as a frame lent to the card: its id, offset and length.
    ///
    /// # Errors
    ///
    /// Gives it back when it belongs to another pool.
    #[inline]
    pub fn accept(&mut self, buf: Buf) -> Result<(u32, usize, usize), Buf> {
        if !self.pool.owns(&buf) || buf.offset() + buf.len() > self.pool.frame_bytes() {
            return Err(buf);
        }
        let id = buf.id();
        self.lent[id as usize / 64] |= 1 << (id % 64);
        self.lent_count += 1;
        self.count();
        Ok((id, buf.offset(), buf.len()))
    }

    #[inline]
    fn end_loan(&mut self, id: u32) -> bool {
        if !self.is_lent(id) {
            return false;
        }
        self.lent[id as usize / 64] &= !(1 << (id % 64));
        self.lent_count -= 1;
        true
    }

    #[cold]
    fn refill(&mut self) -> bool {
        let mut ids = [0; BATCH];
        let n = self.pool.0.free.pop(&mut ids[..self.batch]);
        self.free.extend_from_slice(&ids[..n]);
        self.count();
        n > 0
    }

    /// Gives the coldest frames back. The caller counts when it is through.
    #[cold]
    fn spill(&mut self) {
        self.pool.0.free.push(&self.free[..self.batch]);
        self.free.drain(..self.batch);
    }

    /// Publishes how many frames this queue answers for. Only we write it: a plain store.
    #[inline]
    fn count(&self) {
        self.held.store(self.free.len() as u32 + self.lent_count, Ordering::Relaxed);
    }
}

impl Drop for FrameCache {
    fn drop(&mut self) {
        let lent = (0..self.pool.frames()).filter(|id| self.is_lent(*id));
        let all: Vec<u32> = self.free.iter().copied().chain(lent).collect();
        self.held.store(0, Ordering::Relaxed);
        self.pool.0.free.push(&all);
    }
}
