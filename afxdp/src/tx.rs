//! The transmit half of a queue.

mod frames;
mod stamps;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

use std::os::fd::AsFd;
use std::sync::Arc;

use linerate_common::pool::{FrameCache, Pool};
use linerate_common::{
    Buf, BufTx, ClockInfo, Clocked, Error, ErrorKind, FrameTx, SetupError, TxStamp, TxStamps,
    TxStats,
};

use crate::clock::TxClock;
use crate::port::Shared;
use crate::ring::{Consumer, Desc, Producer, Stretch};
use crate::socket::Socket;
use crate::sys::{self, TxMetadata, XDP_TX_METADATA, XDP_TXMD_FLAGS_TIMESTAMP};

use frames::Frames;
use stamps::StampLog;

/// Sends on one queue.
///
/// `commit` only queues: frames leave with [`kick`](FrameTx::kick), which hands the whole group
/// over with one store and, in copy mode or when the driver sleeps, one `sendto`. (Before Linux
/// 6.17 copy mode takes 32 frames a call; `kick` repeats it.)
///
/// In copy mode the kernel may drop a frame that it had taken, when the interface has no carrier
/// or its queue is full: those are counted as `failed`. Descriptors it refuses are `refused`.
#[derive(Debug)]
pub struct XdpTx {
    socket: Arc<Socket>,
    _shared: Arc<Shared>,
    tx: Producer<Desc>,
    completion: Consumer<u64>,
    frames: Frames,
    /// Answers for them: to it all are lent.
    cache: FrameCache,
    base: *mut u8,
    /// log2 of the frame size.
    shift: u32,
    max_len: usize,
    /// Length reserved in the next free frame; 0 for nothing.
    reserved: usize,
    /// The last kick left frames in the ring.
    unsent: bool,
    stamps: Option<Box<StampLog>>,
    /// Completions that named no frame on its way.
    false_completions: u64,
    stats: TxStats,
}

// SAFETY: the pointer leads into the region, which the frame cache keeps mapped; what is written
// through it is a frame that this queue alone owns.
unsafe impl Send for XdpTx {}

impl XdpTx {
    /// Takes as many frames of the cache's pool as the ring has slots.
    pub(crate) fn new(
        socket: Arc<Socket>,
        shared: Arc<Shared>,
        mut cache: FrameCache,
        tx: Producer<Desc>,
        completion: Consumer<u64>,
        max_len: usize,
        stamps: Option<TxClock>,
    ) -> Result<Self, SetupError> {
        let ids = cache.lend(tx.size() as usize)?;
        let pool = cache.pool();
        let (frame_bytes, headroom) = (pool.frame_bytes(), pool.headroom());
        let all = pool.frames();
        Ok(Self {
            socket,
            _shared: shared,
            frames: Frames::new(&ids, tx.head(), frame_bytes, headroom),
            base: pool.region().as_ptr(),
            shift: frame_bytes.trailing_zeros(),
            max_len: max_len.min(frame_bytes - headroom),
            reserved: 0,
            unsent: false,
            stamps: stamps.map(|clock| Box::new(StampLog::new(clock, all, tx.size()))),
            false_completions: 0,
            stats: TxStats::default(),
            cache,
            tx,
            completion,
        })
    }

    /// The transmit queue of the card.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.socket.queue()
    }

    /// The pool that frames are sent from: [`push`](BufTx::push) takes its buffers.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.cache.pool()
    }

    /// Completions that named no frame on its way: one that had come back already, or none of this
    /// queue's. They are counted and otherwise ignored; no kernel is known to write such.
    #[must_use]
    pub fn false_completions(&self) -> u64 {
        self.false_completions
    }

    /// Queues the `len` bytes at `at`, of the next free frame or in its place.
    #[inline]
    fn stage(&mut self, at: u64, len: usize) {
        let options = if self.stamps.is_some() { self.ask_for_stamp(at) } else { 0 };
        self.tx.put(self.frames.next(), Desc { addr: at, len: len as u32, options });
        self.frames.queue(at);
        self.stats.bytes += len as u64;
    }

    /// The options of a descriptor that asks for a stamp, if there is room for it.
    #[inline(never)]
    fn ask_for_stamp(&mut self, at: u64) -> u32 {
        let has_room = self.has_metadata(at);
        if let Some(log) = &mut self.stamps {
            log.sent((at >> self.shift) as u32);
        }
        if !has_room {
            return 0;
        }
        let meta = TxMetadata { flags: XDP_TXMD_FLAGS_TIMESTAMP, ..TxMetadata::default() };
        // SAFETY: inside the frame, in front of its data; the frame is ours until submit.
        unsafe {
            let place = self.base.add(at as usize - size_of::<TxMetadata>());
            place.cast::<TxMetadata>().write_unaligned(meta);
        }
        XDP_TX_METADATA
    }

    /// Is there room for metadata between the start of a frame and its data?
    fn has_metadata(&self, at: u64) -> bool {
        at as usize & ((1 << self.shift) - 1) >= size_of::<TxMetadata>()
    }

    /// Takes completed frames back.
    #[inline]
    fn collect(&mut self) -> usize {
        let n = self.completion.available(u32::MAX);
        if n == 0 {
            return 0;
        }
        let (before, mut read) = (self.frames.free(), 0);
        while read < n {
            let named = self.completion.slots().stretch(read, n - read);
            let mut run = 0;
            if self.stamps.is_none() {
                // SAFETY: slots that wait for us, and do so until `release`.
                run = unsafe { self.frames.complete_run(named, self.tx.head()) };
            }
            if run == 0 {
                run = self.collect_singly(named);
            }
            read += run;
        }
        self.completion.release(n);
        let back = self.frames.free() - before;
        if self.reserved > 0 {
            self.frames.bring_up(back);
        }
        self.stats.completed += u64::from(back);
        back as usize
    }

    /// The same where frames come back in another order, where completions are false, and where
    /// each brings a stamp. Returns how many completions those were.
    #[inline(never)]
    fn collect_singly(&mut self, named: Stretch<u64>) -> u32 {
        for i in 0..named.len as usize {
            // SAFETY: a slot that waits for us.
            let named = unsafe { named.slots.add(i).read() };
            let Some(at) = self.frames.complete(named, self.tx.head()) else {
                self.false_completions += 1;
                continue;
            };
            let stamped = self.has_metadata(at);
            if let Some(log) = &mut self.stamps {
                // SAFETY: the frame is complete, so nobody writes it; the stamp lies in it when
                // there was room for metadata.
                let ts = stamped.then(|| unsafe {
                    let place = self.base.add(at as usize - size_of::<TxMetadata>());
                    place.cast::<TxMetadata>().read_unaligned().tx_timestamp
                });
                log.completed((at >> self.shift) as u32, ts.unwrap_or(0));
            }
        }
        named.len
    }

    /// The next free frame, when all were on their way.
    #[cold]
    fn peek_again(&mut self) -> Option<u64> {
        self.reap();
        self.frames.peek()
    }

    /// Gets the kernel to look at the ring, if it does not by itself.
    fn wake(&mut self) -> Result<(), Error> {
        if self.socket.needs_wakeup() && !self.tx.wants_wakeup_after_submit() {
            self.unsent = false;
            return Ok(());
        }
        let mut idle_turns = 0;
        loop {
            self.tx.refresh();
            let before = self.tx.pending();
            let result = sys::wake_tx(self.socket.as_fd());
            self.tx.refresh();
            let after = self.tx.pending();
            self.unsent = after > 0;
            match result {
                // The driver knows now, and works through the ring in its own time.
                Ok(()) if self.socket.is_zero_copy() => {
                    self.unsent = false;
                    return Ok(());
                }
                Ok(()) | Err(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => {}
                // In copy mode this says that the frame just taken was dropped. Zero-copy drivers
                // say it when they are busy.
                Err(libc::EBUSY) => {
                    if !self.socket.is_zero_copy() && after < before {
                        self.stats.failed += 1;
                    }
                }
                Err(errno) => return Err(Error::os("sendto", errno)),
            }
            if after == 0 {
                return Ok(());
            }
            // No room in the completion ring is the one stop that we can end ourselves.
            let freed = self.collect() > 0;
            idle_turns = if after < before || freed { 0 } else { idle_turns + 1 };
            if idle_turns == 2 {
                // The queue below is full. `reap` and the next `kick` try again.
                return Ok(());
            }
        }
    }
}

impl FrameTx for XdpTx {
    fn max_len(&self) -> usize {
        self.max_len
    }

    #[inline]
    fn room(&self) -> usize {
        self.frames.free() as usize
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if len == 0 || len > self.max_len {
            return None;
        }
        let at = match self.frames.peek() {
            Some(at) => at,
            None => self.peek_again()?,
        };
        self.reserved = len;
        // SAFETY: the frame is free, so nobody else has it, and stays so until `commit`; headroom
        // and length fit one frame.
        Some(unsafe { std::slice::from_raw_parts_mut(self.base.add(at as usize), len) })
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        let reserved = std::mem::take(&mut self.reserved);
        assert!(reserved > 0 && len <= reserved, "commit of {len} bytes with {reserved} reserved");
        if len == 0 {
            return;
        }
        if let Some(at) = self.frames.peek() {
            self.stage(at, len);
        }
    }

    #[inline]
    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        self.reserved = 0;
        if frame.is_empty() || frame.len() > self.max_len {
            return Err(Error::new(ErrorKind::BadLength, "send"));
        }
        let at = match self.frames.peek() {
            Some(at) => at,
            None => match self.peek_again() {
                Some(at) => at,
                None => return Ok(false),
            },
        };
        // SAFETY: the frame is free, so nobody else has it, and the bytes that are read lie
        // elsewhere; headroom and length fit one frame.
        unsafe {
            let place = self.base.add(at as usize);
            place.copy_from_nonoverlapping(frame.as_ptr(), frame.len());
        }
        self.stage(at, frame.len());
        Ok(true)
    }

    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        let staged = self.frames.next().wrapping_sub(self.tx.head());
        if staged > 0 {
            self.stats.frames += u64::from(staged);
            self.tx.submit(staged);
            self.unsent = true;
        }
        if self.unsent { self.wake() } else { Ok(()) }
    }

    #[inline]
    fn reap(&mut self) -> usize {
        let mut back = self.collect();
        if self.unsent {
            // Trouble is for `kick` to report.
            let before = self.frames.free();
            let _ = self.wake();
            self.collect();
            back += self.frames.free().saturating_sub(before) as usize;
        }
        back
    }

    fn stats(&mut self) -> TxStats {
        if let Some(log) = &mut self.stamps {
            log.clock.look();
        }
        self.stats.refused = self.socket.statistics().tx_invalid_descs;
        self.stats
    }
}

impl BufTx for XdpTx {
    #[inline]
    fn push(&mut self, buf: Buf) -> Result<(), Buf> {
        if buf.is_empty() || buf.len() > self.max_len {
            return Err(buf);
        }
        let Some(ours) = self.frames.peek().or_else(|| self.peek_again()) else {
            return Err(buf);
        };
        self.reserved = 0;
        let (id, offset, len) = self.cache.accept(buf)?;
        self.stage(u64::from(id) << self.shift | offset as u64, len);
        // The buffer's frame is the queue's from now on. The pool gets one for it.
        self.cache.free((ours >> self.shift) as u32);
        Ok(())
    }
}

/// With [`Options::tx_stamps`](crate::Options::tx_stamps). In zero-copy mode the card's time,
/// where its driver gives it; in copy mode the kernel's, when it let go of the frame, flagged as
/// software. Stamps that nobody fetches are kept for the last ring's worth of frames.
///
/// A card's clock that is moved between UTC and TAI is noticed by [`stats`](FrameTx::stats), once a
/// second; the kernel's TAI that is told another distance to UTC, by the stamps themselves.
impl TxStamps for XdpTx {
    fn reap_with(&mut self, f: &mut dyn FnMut(TxStamp)) -> usize {
        let back = self.reap();
        if let Some(log) = &mut self.stamps {
            log.show(f);
        }
        back
    }
}

impl Clocked for XdpTx {
    fn clock(&self) -> ClockInfo {
        self.stamps.as_ref().map_or(ClockInfo::NONE, |log| log.clock.info())
    }
}

impl Drop for XdpTx {
    fn drop(&mut self) {
        self.collect();
        // The receive half may keep the socket open, and the kernel frames of ours with it.
        let empty = self.cache.pool().cache();
        self.socket.keep(std::mem::replace(&mut self.cache, empty));
    }
}
