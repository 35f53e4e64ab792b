//! The sending end, and the "card" that moves its frames.

use std::fmt;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::port::{Arrival, Options, Wire};
use super::ring::{Consumer, Producer};
use crate::buf::Buf;
use crate::clock::{ClockInfo, Clocked, now_ns};
use crate::error::{Error, ErrorKind};
use crate::frame::{NO_TS, RxFlags};
use crate::pool::{FrameCache, Pool};
use crate::stats::TxStats;
use crate::tx::{BufTx, FrameTx, TxStamp, TxStamps};

/// The sending end of a [`pair`](super::pair).
///
/// `commit` never sends by itself. `kick` copies, wakes the receiver if it sleeps (one `write` to
/// an eventfd) and is free of system calls otherwise. `kick` fails with
/// [`ErrorKind::LinkDown`] once the receiver is gone; what was committed is then lost under
/// [`TxStats::failed`].
pub struct LoopTx {
    frames: FrameCache,
    posted: Consumer<u32>,
    arrived: Producer<Arrival>,
    wire: Arc<Wire>,
    max_len: usize,
    lossy: bool,
    stamps: bool,
    /// Committed frames, oldest first: `reaped ≤ kicked ≤ committed` count since the start and
    /// are masked into `slots`.
    slots: Box<[Slot]>,
    reaped: u64,
    kicked: u64,
    committed: u64,
    /// The frame that `reserve` shows next, ours since the last one was committed.
    next: Option<u32>,
    /// Bytes of it that are reserved; 0 when nothing is.
    reserved: usize,
    stats: TxStats,
}

/// A committed frame in our own buffer `id`.
#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    id: u32,
    off: u32,
    len: u32,
    ts_ns: u64,
    /// Counted as lost already.
    failed: bool,
}

impl LoopTx {
    pub(super) fn new(
        frames: FrameCache,
        posted: Consumer<u32>,
        arrived: Producer<Arrival>,
        wire: Arc<Wire>,
        slots: usize,
        max_len: usize,
        options: &Options,
    ) -> Self {
        Self {
            frames,
            posted,
            arrived,
            wire,
            max_len,
            lossy: options.lossy,
            stamps: options.stamps,
            slots: vec![Slot::default(); slots].into_boxed_slice(),
            reaped: 0,
            kicked: 0,
            committed: 0,
            next: None,
            reserved: 0,
            stats: TxStats::default(),
        }
    }

    /// The pool whose buffers [`push`](BufTx::push) takes.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.frames.pool()
    }

    /// The slot of frame `number`, as the three counts go.
    #[inline(always)]
    fn slot(&mut self, number: u64) -> &mut Slot {
        let mask = self.slots.len() - 1;
        // SAFETY: `port` makes at least two, and what is masked with the last index is no more
        // than that.
        unsafe { self.slots.get_unchecked_mut(number as usize & mask) }
    }

    fn free_slots(&self) -> usize {
        self.slots.len() - (self.committed - self.reaped) as usize
    }

    /// Are there slots for `frames` more and, unless frames may be lost, posted buffers?
    #[inline]
    fn has_room(&mut self, frames: usize) -> bool {
        if self.free_slots() < frames {
            self.reap();
            if self.free_slots() < frames {
                return false;
            }
        }
        let needed = (self.committed - self.kicked) as usize + frames;
        self.lossy || self.posted.ready(needed) >= needed || self.rx_gone()
    }

    fn rx_gone(&self) -> bool {
        self.wire.rx_gone.load(Ordering::Relaxed)
    }

    fn start_of(&self, id: u32, off: u32) -> *mut u8 {
        let pool = self.frames.pool();
        debug_assert!(id < pool.frames());
        let offset = id as usize * pool.frame_bytes() + off as usize;
        // SAFETY: ids come from the pool's caches, so the frame lies in the region.
        unsafe { pool.region().as_ptr().add(offset) }
    }

    #[inline]
    fn enqueue(&mut self, id: u32, off: usize, len: usize) {
        *self.slot(self.committed) =
            Slot { id, off: off as u32, len: len as u32, ts_ns: NO_TS, failed: false };
        self.committed += 1;
        self.stats.frames += 1;
        self.stats.bytes += len as u64;
    }

    /// The card's work on one frame: into the next posted buffer, or lost for want of one.
    #[inline]
    fn transmit(&mut self, slot: Slot) {
        let delivered = self.posted.ready(1) > 0
            && self.posted.next().is_some_and(|id| {
                let headroom = self.frames.pool().headroom() as u32;
                let (from, to) = (self.start_of(slot.id, slot.off), self.start_of(id, headroom));
                // SAFETY: `from` is a frame of ours that is lent to the card until `reap`. `to`
                // was posted: the receiver does not touch it until it hears of its arrival, and
                // its cache outlives us (see `Wire::rx_frames`). They are different frames, as a
                // cache never has a frame of another. `len` fits both: at most `max_len`.
                unsafe { std::ptr::copy_nonoverlapping(from, to, slot.len as usize) };
                let flags = if self.stamps { RxFlags::TS_SW } else { RxFlags::NONE };
                self.arrived.stage(Arrival { id, len: slot.len, ts_ns: slot.ts_ns, flags })
            });
        if !delivered {
            // Ours is the only writer: no read-modify-write needed.
            let lost = self.wire.no_buffer.load(Ordering::Relaxed);
            self.wire.no_buffer.store(lost + 1, Ordering::Relaxed);
        }
    }

    /// Wakes the receiver if it asked for it.
    fn wake(&self) {
        // Dekker's pattern: we publish an arrival, then look at `armed`; the receiver sets
        // `armed`, then looks for arrivals once more. Release and Acquire allow each side to do
        // its load before its store is visible, so that both miss the other's and the receiver
        // sleeps beside a full ring. A SeqCst fence between store and load on both sides rules
        // that out: at least one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.wire.armed.load(Ordering::Relaxed) && self.wire.armed.swap(false, Ordering::Relaxed)
        {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: 8 valid bytes. EAGAIN would mean that the eventfd is readable already.
            unsafe { libc::write(self.wire.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }
}

impl FrameTx for LoopTx {
    fn max_len(&self) -> usize {
        self.max_len
    }

    fn room(&self) -> usize {
        if self.lossy {
            return self.free_slots();
        }
        let waiting = (self.committed - self.kicked) as usize;
        self.free_slots().min(self.posted.visible().saturating_sub(waiting))
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if len == 0 || len > self.max_len || !self.has_room(1) {
            return None;
        }
        // A reservation that was cancelled left its frame behind.
        let id = match self.next {
            Some(id) => id,
            None => self.frames.alloc()?,
        };
        self.next = Some(id);
        self.reserved = len;
        let start = self.start_of(id, self.frames.pool().headroom() as u32);
        // SAFETY: the frame is lent to this queue and not committed, so nobody else touches it;
        // `headroom + max_len` fits a frame. The slice borrows `self`. The region is zeroed when
        // mapped, so its bytes are initialised.
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        let reserved = std::mem::take(&mut self.reserved);
        assert!(reserved > 0, "commit without a reservation");
        assert!(len <= reserved, "commit of {len} bytes, {reserved} reserved");
        if len == 0 {
            return;
        }
        if let Some(id) = self.next.take() {
            self.enqueue(id, self.frames.pool().headroom(), len);
        }
    }

    fn kick(&mut self) -> Result<(), Error> {
        if self.rx_gone() {
            while self.kicked < self.committed {
                self.slot(self.kicked).failed = true;
                self.stats.failed += 1;
                self.kicked += 1;
            }
            return Err(Error::new(ErrorKind::LinkDown, "kick"));
        }
        if self.kicked == self.committed {
            return Ok(());
        }
        let ts_ns = if self.stamps { now_ns() } else { NO_TS };
        while self.kicked < self.committed {
            let slot = self.slot(self.kicked);
            slot.ts_ns = ts_ns;
            let slot = *slot;
            self.transmit(slot);
            self.kicked += 1;
        }
        self.posted.publish();
        self.arrived.publish();
        self.wake();
        Ok(())
    }

    #[inline]
    fn reap(&mut self) -> usize {
        self.reap_with(&mut |_| ())
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}

impl BufTx for LoopTx {
    fn push(&mut self, buf: Buf) -> Result<(), Buf> {
        // A reservation that is still open keeps its slot.
        let frames = 1 + usize::from(self.reserved > 0);
        if buf.is_empty() || buf.len() > self.max_len || !self.has_room(frames) {
            return Err(buf);
        }
        let (id, off, len) = self.frames.accept(buf)?;
        self.enqueue(id, off, len);
        Ok(())
    }
}

impl TxStamps for LoopTx {
    #[inline]
    fn reap_with(&mut self, f: &mut dyn FnMut(TxStamp)) -> usize {
        let n = self.kicked - self.reaped;
        while self.reaped < self.kicked {
            let slot = *self.slot(self.reaped);
            // Before `f`: if it panics, this frame is not reaped a second time.
            let seq = self.reaped;
            self.reaped += 1;
            self.stats.completed += u64::from(!slot.failed);
            let ours = self.frames.free(slot.id);
            debug_assert!(ours, "reaped a frame that was not sent");
            let flags = if slot.ts_ns == NO_TS { RxFlags::NONE } else { RxFlags::TS_SW };
            f(TxStamp { seq, ts_ns: slot.ts_ns, flags });
        }
        n as usize
    }
}

impl Clocked for LoopTx {
    fn clock(&self) -> ClockInfo {
        if self.stamps { ClockInfo::KERNEL } else { ClockInfo::NONE }
    }
}

impl fmt::Debug for LoopTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopTx").field("stats", &self.stats).finish_non_exhaustive()
    }
}
