//! Sending: requests are linked as they are committed and posted with one doorbell at the kick.
//!
//! A request that is not signalled gives its slot back only when a later one that is completes.
//! The last request of every list is signalled, so nothing waits for traffic to come; inside
//! longer runs every 32nd is, so that slots come back before the ring is full.

use std::ptr::null_mut;
use std::sync::Arc;

use linerate_common::pool::FrameCache;
use linerate_common::{Buf, BufTx, Error, ErrorKind, FrameTx, MAX_BURST, SetupError, TxStats};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::cq::Completion;
use crate::event::Events;
use crate::memory::Mr;
use crate::qp::Qp;

/// Signalled at least every so many requests.
const SIGNAL_EVERY: u32 = 32;

/// The transmit queue of a port: one queue pair that only sends.
#[derive(Debug)]
pub struct VerbsTx {
    // Order of fields is order of dropping: the frames go back to the pool after the pair is gone.
    qp: Arc<Qp>,
    cache: FrameCache,
    mr: Arc<Mr>,
    events: Arc<Events>,
    base: *mut u8,
    frame_bytes: usize,
    headroom: usize,
    max_len: usize,
    inline_bytes: usize,
    /// The frame reserved and its length.
    reserved: Option<(u32, usize)>,
    /// Frames in the order they were committed; `head` and `tail` count for ever.
    in_flight: Box<[u32]>,
    head: u64,
    /// Posted up to here; from here to `tail` committed only.
    posted: u64,
    tail: u64,
    since_signal: u32,
    requests: Vec<sys::ibv_send_wr>,
    pieces: Vec<sys::ibv_sge>,
    recover: bool,
    stats: TxStats,
}

// SAFETY: the queue owns its queue pair's send side; the base pointer is into the pool's region,
// which the registration keeps mapped.
unsafe impl Send for VerbsTx {}

/// What [`VerbsTx::new`] is made of.
pub(crate) struct Parts {
    pub(crate) qp: Arc<Qp>,
    pub(crate) cache: FrameCache,
    pub(crate) mr: Arc<Mr>,
    pub(crate) events: Arc<Events>,
    pub(crate) max_len: usize,
    pub(crate) recover: bool,
}

impl VerbsTx {
    pub(crate) fn new(parts: Parts) -> Result<Self, SetupError> {
        parts.qp.to_init()?;
        parts.qp.to_ready()?;
        let pool = parts.cache.pool().clone();
        let slots = parts.qp.granted.max_send_wr.max(1) as usize;
        // SAFETY: all-zero is a value of this plain struct.
        let request: sys::ibv_send_wr = unsafe { std::mem::zeroed() };
        Ok(Self {
            base: pool.region().as_ptr(),
            frame_bytes: pool.frame_bytes(),
            headroom: pool.headroom(),
            max_len: parts.max_len.min(pool.frame_bytes() - pool.headroom()),
            inline_bytes: parts.qp.granted.max_inline_data as usize,
            reserved: None,
            in_flight: vec![0; slots].into_boxed_slice(),
            head: 0,
            posted: 0,
            tail: 0,
            since_signal: 0,
            requests: vec![request; MAX_BURST],
            pieces: vec![sys::ibv_sge::default(); MAX_BURST],
            recover: parts.recover,
            stats: TxStats::default(),
            qp: parts.qp,
            cache: parts.cache,
            mr: parts.mr,
            events: parts.events,
        })
    }

    #[inline]
    fn slots(&self) -> u64 {
        self.in_flight.len() as u64
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.tail - self.head >= self.slots()
    }

    /// Appends one frame to the list; posts it when it is as long as a burst.
    #[inline]
    fn queue(&mut self, id: u32, offset: usize, len: usize) {
        let at = (self.tail - self.posted) as usize;
        let start = id as usize * self.frame_bytes + offset;
        self.pieces[at] = sys::ibv_sge {
            addr: self.base as u64 + start as u64,
            length: len as u32,
            lkey: self.mr.lkey(),
        };
        let request = &mut self.requests[at];
        request.wr_id = self.tail;
        request.num_sge = 1;
        request.opcode = sys::IBV_WR_SEND;
        request.send_flags = 0;
        if len <= self.inline_bytes {
            request.send_flags |= sys::IBV_SEND_INLINE;
        }
        self.since_signal += 1;
        if self.since_signal == SIGNAL_EVERY {
            request.send_flags |= sys::IBV_SEND_SIGNALED;
            self.since_signal = 0;
        }
        let slot = (self.tail % self.slots()) as usize;
        self.in_flight[slot] = id;
        self.tail += 1;
        self.stats.bytes += len as u64;
        if at + 1 == MAX_BURST {
            // A full list goes out now. Its errors show at the next kick, as completions.
            let _ = self.post();
        }
    }

    /// Posts the list with one doorbell.
    fn post(&mut self) -> Result<(), Error> {
        let n = (self.tail - self.posted) as usize;
        if n == 0 {
            return Ok(());
        }
        for i in 0..n {
            self.requests[i].sg_list = &raw mut self.pieces[i];
            let next = if i + 1 < n { &raw mut self.requests[i + 1] } else { null_mut() };
            self.requests[i].next = next;
        }
        self.requests[n - 1].send_flags |= sys::IBV_SEND_SIGNALED;
        self.since_signal = 0;
        let mut bad = null_mut();
        // SAFETY: a live pair; a list of `n` requests, each of one piece inside registered memory
        // that is lent to the card until its completion; lengths were checked.
        let rc = unsafe { inline::post_send(self.qp.as_raw(), &mut self.requests[0], &mut bad) };
        if rc == 0 {
            self.posted = self.tail;
            self.stats.frames += n as u64;
            return Ok(());
        }
        // All before the bad request are on their way; the bad one and those behind it are lost,
        // under a name.
        let first = self.requests.as_ptr();
        let taken = (0..n).find(|i| std::ptr::eq(bad, first.wrapping_add(*i))).unwrap_or(0);
        for _ in taken..n {
            self.tail -= 1;
            let id = self.in_flight[(self.tail % self.slots()) as usize];
            self.cache.free(id);
            self.stats.refused += 1;
        }
        for piece in &self.pieces[taken..n] {
            self.stats.bytes -= u64::from(piece.length);
        }
        self.posted = self.tail;
        self.stats.frames += taken as u64;
        Err(Error::os("ibv_post_send", rc.abs()))
    }

    /// Takes back the frames up to and including the request numbered `last`.
    fn complete(&mut self, last: u64, failed: bool) -> usize {
        if last < self.head || last >= self.posted {
            return 0; // not a number of ours that is in flight
        }
        let n = last + 1 - self.head;
        for seq in self.head..=last {
            self.cache.free(self.in_flight[(seq % self.slots()) as usize]);
        }
        self.head = last + 1;
        self.stats.completed += n;
        if failed {
            self.stats.failed += 1;
        }
        n as usize
    }

    /// Brings the queue pair back from the error state: RESET, ready. What was in flight counts
    /// as failed.
    ///
    /// # Errors
    ///
    /// The card refuses: open the port anew.
    pub fn recover(&mut self) -> Result<(), Error> {
        let lost = |_: SetupError| Error::new(ErrorKind::QueueLost, "ibv_modify_qp");
        let in_flight = self.posted - self.head;
        self.qp.to_reset().map_err(lost)?;
        let mut stale = [Completion::default(); MAX_BURST];
        while self.qp.cq().poll(&mut stale)? > 0 {}
        if in_flight > 0 {
            self.complete(self.posted - 1, false);
            self.stats.failed += in_flight;
        }
        self.qp.to_init().and_then(|()| self.qp.to_ready()).map_err(lost)
    }
}

impl FrameTx for VerbsTx {
    fn max_len(&self) -> usize {
        self.max_len
    }

    #[inline]
    fn room(&self) -> usize {
        (self.slots() - (self.tail - self.head)) as usize
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if len == 0 || len > self.max_len {
            return None;
        }
        if self.is_full() && self.reap() == 0 {
            return None;
        }
        let id = self.cache.peek()?;
        self.reserved = Some((id, len));
        let start = id as usize * self.frame_bytes + self.headroom;
        // SAFETY: the frame is free: neither the card nor a window nor a `Buf` has it. The length
        // fits behind the headroom, and the borrow of `self` keeps it from being lent meanwhile.
        Some(unsafe { std::slice::from_raw_parts_mut(self.base.add(start), len) })
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        let reserved = self.reserved.take();
        if len == 0 {
            return;
        }
        let Some((_, room)) = reserved else { panic!("commit without a reserved slot") };
        assert!(len <= room, "commit of {len} bytes into a slot of {room}");
        // The frame that `reserve` peeked at is still the next one: nothing was taken since.
        if let Some(id) = self.cache.alloc() {
            self.queue(id, self.headroom, len);
        }
    }

    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        self.post()
    }

    fn reap(&mut self) -> usize {
        let mut freed = 0;
        let mut broken = false;
        loop {
            let mut done = [Completion::default(); MAX_BURST];
            let Ok(n) = self.qp.cq().poll(&mut done) else { return freed };
            for entry in &done[..n] {
                let failed = entry.status != sys::IBV_WC_SUCCESS;
                broken |= failed;
                freed += self.complete(entry.wr_id, failed);
            }
            if n < MAX_BURST {
                break;
            }
        }
        if broken {
            self.events.drain();
            if self.recover && self.events.error().is_ok() {
                // When the card refuses, the next kick reports it.
                let _ = self.recover();
            }
        }
        freed
    }

    fn stats(&mut self) -> TxStats {
        self.events.drain();
        self.stats
    }
}

impl BufTx for VerbsTx {
    fn push(&mut self, buf: Buf) -> Result<(), Buf> {
        if buf.is_empty() || buf.len() > self.max_len || (self.is_full() && self.reap() == 0) {
            return Err(buf);
        }
        let (id, offset, len) = self.cache.accept(buf)?;
        self.reserved = None;
        self.queue(id, offset, len);
        Ok(())
    }
}

impl Drop for VerbsTx {
    fn drop(&mut self) {
        // Stops the card before the fields go: the pair, then the frames.
        let _ = self.qp.to_error();
    }
}
