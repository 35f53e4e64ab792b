//! The transmit half of a queue.

use std::os::fd::AsFd;
use std::sync::Arc;

use linerate_common::pool::{FrameCache, Pool};
use linerate_common::{
    Buf, BufTx, ClockInfo, Clocked, Error, FrameTx, NO_TS, RxFlags, TxStamp, TxStamps, TxStats,
};

use crate::clock::TxClock;
use crate::port::Shared;
use crate::ring::{Consumer, Desc, Producer};
use crate::socket::Socket;
use crate::sys::{self, TxMetadata, XDP_TX_METADATA, XDP_TXMD_FLAGS_TIMESTAMP};

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
    frames: FrameCache,
    base: *mut u8,
    /// log2 of the frame size.
    shift: u32,
    headroom: usize,
    max_len: usize,
    /// Length reserved in the cache's next frame; 0 for nothing.
    reserved: usize,
    /// Committed, not yet submitted.
    staged: u32,
    /// Committed, not yet completed.
    in_flight: u32,
    /// The last kick left frames in the ring.
    unsent: bool,
    stamps: Option<Box<StampLog>>,
    stats: TxStats,
}

// SAFETY: the pointer leads into the region, which the frame cache keeps mapped; what is written
// through it is a frame that this queue alone owns.
unsafe impl Send for XdpTx {}

impl XdpTx {
    pub(crate) fn new(
        socket: Arc<Socket>,
        shared: Arc<Shared>,
        mut frames: FrameCache,
        tx: Producer<Desc>,
        completion: Consumer<u64>,
        max_len: usize,
        stamps: Option<TxClock>,
    ) -> Self {
        let pool = frames.pool();
        let (base, headroom) = (pool.region().as_ptr(), pool.headroom());
        let shift = pool.frame_bytes().trailing_zeros();
        let max_len = max_len.min(pool.frame_bytes() - headroom);
        let all = pool.frames();
        // Faults in the cache's stock.
        let _ = frames.peek();
        let stamps = stamps.map(|clock| Box::new(StampLog::new(clock, all, tx.size())));
        Self {
            socket,
            _shared: shared,
            tx,
            completion,
            frames,
            base,
            shift,
            headroom,
            max_len,
            reserved: 0,
            staged: 0,
            in_flight: 0,
            unsent: false,
            stamps,
            stats: TxStats::default(),
        }
    }

    /// The transmit queue of the card.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.socket.queue()
    }

    /// The pool that frames are sent from: [`push`](BufTx::push) takes its buffers.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.frames.pool()
    }

    /// Queues the `len` bytes at `offset` of frame `id`, which is lent.
    #[inline]
    fn stage(&mut self, id: u32, offset: usize, len: usize) {
        let at = (id as usize) << self.shift | offset;
        let mut options = 0;
        if let Some(log) = &mut self.stamps {
            log.sent(id);
            if offset >= size_of::<TxMetadata>() {
                let meta = TxMetadata { flags: XDP_TXMD_FLAGS_TIMESTAMP, ..TxMetadata::default() };
                // SAFETY: inside the frame, in front of its data; the frame is ours until submit.
                unsafe {
                    let place = self.base.add(at - size_of::<TxMetadata>());
                    place.cast::<TxMetadata>().write_unaligned(meta);
                }
                options = XDP_TX_METADATA;
            }
        }
        self.tx.write(self.staged, Desc { addr: at as u64, len: len as u32, options });
        self.staged += 1;
        self.in_flight += 1;
        self.stats.bytes += len as u64;
    }

    /// Takes completed frames back.
    #[inline]
    fn collect(&mut self) -> usize {
        let n = self.completion.available(u32::MAX);
        if n == 0 {
            return 0;
        }
        let mut back = 0;
        for i in 0..n {
            let addr = self.completion.read(i);
            let id = u32::try_from(addr >> self.shift).unwrap_or(u32::MAX);
            if !self.frames.is_lent(id) {
                continue; // no frame of ours: nothing can be given back
            }
            if let Some(log) = &mut self.stamps {
                let offset = addr as usize & ((1 << self.shift) - 1);
                // SAFETY: the frame is complete, so nobody writes it; the stamp lies in it when
                // there was room for metadata.
                let ts = (offset >= size_of::<TxMetadata>()).then(|| unsafe {
                    let place = self.base.add(addr as usize - size_of::<TxMetadata>());
                    place.cast::<TxMetadata>().read_unaligned().tx_timestamp
                });
                log.completed(id, ts.unwrap_or(0));
            }
            self.frames.free(id);
            back += 1;
        }
        self.completion.release(n);
        self.in_flight -= back.min(self.in_flight);
        self.stats.completed += u64::from(back);
        back as usize
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
        (self.tx.size() - self.in_flight) as usize
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if len == 0 || len > self.max_len || (self.room() == 0 && self.reap() == 0) {
            return None;
        }
        let id = match self.frames.peek() {
            Some(id) => id,
            // The pool is empty: what has completed since may be all there is.
            None if self.reap() > 0 => self.frames.peek()?,
            None => return None,
        };
        self.reserved = len;
        let at = (id as usize) << self.shift | self.headroom;
        // SAFETY: the frame is free in our cache, so nobody else has it, and stays so until
        // `commit`; headroom and length fit one frame.
        Some(unsafe { std::slice::from_raw_parts_mut(self.base.add(at), len) })
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        let reserved = std::mem::take(&mut self.reserved);
        assert!(reserved > 0 && len <= reserved, "commit of {len} bytes with {reserved} reserved");
        if len == 0 {
            return;
        }
        if let Some(id) = self.frames.alloc() {
            self.stage(id, self.headroom, len);
        }
    }

    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        if self.staged > 0 {
            self.stats.frames += u64::from(self.staged);
            self.tx.submit(self.staged);
            self.staged = 0;
            self.unsent = true;
        }
        if self.unsent { self.wake() } else { Ok(()) }
    }

    #[inline]
    fn reap(&mut self) -> usize {
        let mut back = self.collect();
        if self.unsent {
            // Trouble is for `kick` to report.
            let before = self.in_flight;
            let _ = self.wake();
            self.collect();
            back += before.saturating_sub(self.in_flight) as usize;
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
        if self.room() == 0 && self.reap() == 0 {
            return Err(buf);
        }
        self.reserved = 0;
        let (id, offset, len) = self.frames.accept(buf)?;
        self.stage(id, offset, len);
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
        let empty = self.frames.pool().cache();
        self.socket.keep(std::mem::replace(&mut self.frames, empty));
    }
}

/// Brings completions, which carry a frame's place, back into the order of sending.
#[derive(Debug)]
struct StampLog {
    clock: TxClock,
    /// The number under which each frame of the pool was sent last.
    seq_of: Box<[u64]>,
    /// Stamps by number, modulo the ring's size: in flight, or the reading (0 for none).
    done: Box<[Option<u64>]>,
    next_sent: u64,
    next_shown: u64,
}

impl StampLog {
    fn new(clock: TxClock, frames: u32, slots: u32) -> Self {
        Self {
            clock,
            seq_of: vec![0; frames as usize].into_boxed_slice(),
            done: vec![None; slots as usize].into_boxed_slice(),
            next_sent: 0,
            next_shown: 0,
        }
    }

    fn place(&self, seq: u64) -> usize {
        (seq % self.done.len() as u64) as usize
    }

    #[inline(never)]
    fn sent(&mut self, id: u32) {
        let seq = self.next_sent;
        self.next_sent += 1;
        self.seq_of[id as usize] = seq;
        let place = self.place(seq);
        self.done[place] = None;
        // No more than a ring is in flight, so what is forgotten here has completed.
        self.next_shown =
            self.next_shown.max(self.next_sent.saturating_sub(self.done.len() as u64));
    }

    #[inline(never)]
    fn completed(&mut self, id: u32, reading: u64) {
        let place = self.place(self.seq_of[id as usize]);
        self.done[place] = Some(reading);
    }

    fn show(&mut self, f: &mut dyn FnMut(TxStamp)) {
        while self.next_shown < self.next_sent
            && let Some(reading) = self.done[self.place(self.next_shown)]
        {
            let (ts_ns, flags) = self.clock.utc_of(reading).unwrap_or((NO_TS, RxFlags::NONE));
            f(TxStamp { seq: self.next_shown, ts_ns, flags });
            self.next_shown += 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::{Duration, Instant};

    use linerate_common::ClockDomain;
    use linerate_common::clock::{PhcReading, PhcWatch};

    use super::*;
    use crate::played::Kernel;

    #[test]
    fn stamps_follow_a_card_that_is_moved_to_tai() {
        const UTC_NS: u64 = 1_790_000_000_000_000_000;
        let kernel = Kernel::new(64);
        let (_rx, mut tx) = kernel.queue();
        let ahead = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&ahead);
        let read = move || Some(PhcReading { ahead_ns: shown.load(Ordering::Relaxed), tai_s: 37 });
        let watch = PhcWatch::with(2, read);
        let clock = TxClock::Card(watch.scale(), Some(watch));
        tx.stamps = Some(Box::new(StampLog::new(clock, tx.pool().frames(), 64)));
        // The stamp of a frame that the card sent, as the queue shows it.
        let stamp = |tx: &mut XdpTx, reading: u64| {
            let meta = TxMetadata { tx_timestamp: reading, ..TxMetadata::default() };
            tx.reserve(60).unwrap();
            let at = tx
                .base
                .wrapping_add((tx.frames.peek().unwrap() as usize) << tx.shift | tx.headroom);
            tx.commit(60);
            // SAFETY: in front of the frame, in the kernel's hands, which this is.
            unsafe { at.sub(size_of::<TxMetadata>()).cast::<TxMetadata>().write_unaligned(meta) };
            tx.tx.submit(std::mem::take(&mut tx.staged));
            assert_eq!(kernel.send(), 1);
            let mut seen = None;
            tx.reap_with(&mut |stamp| seen = Some((stamp.ts_ns, stamp.flags)));
            seen.unwrap()
        };
        assert_eq!(stamp(&mut tx, UTC_NS), (UTC_NS, RxFlags::TS_HW));
        ahead.store(37_000_000_000, Ordering::Relaxed);
        let begun = Instant::now();
        while tx.clock().domain != ClockDomain::PhcTai(2) {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody looked");
            tx.stats();
        }
        let unsure = RxFlags::TS_HW | RxFlags::TS_UNSYNCED;
        assert_eq!(stamp(&mut tx, UTC_NS + 37_000_000_000), (UTC_NS, unsure));
    }
}
