//! Receiving: completion → window → buffers posted again in one list.

use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::null_mut;
use std::sync::Arc;

use linerate_common::pool::FrameCache;
use linerate_common::{
    Buf, BufRx, ClockInfo, Clocked, Error, ErrorKind, FlowSpec, FrameRx, MAX_BURST, RuleId,
    RxFlags, RxFrame, RxMeta, RxStats, SetupError, Steer, Waitable,
};
use linerate_ibverbs_sys as sys;

use crate::clock::{StampClock, read_counter};
use crate::counter::NoBuffer;
use crate::cq::Completion;
use crate::event::Watch;
use crate::flow::FlowRule;
use crate::memory::Mr;
use crate::queue::RecvQueue;
use crate::steering::Steering;

/// One frame of the open window.
#[derive(Debug, Clone, Copy)]
struct Slot {
    id: u32,
    len: u32,
    meta: RxMeta,
}

/// A receive queue of a port: a queue pair that only receives, or one of the work queues that
/// frames are spread over.
///
/// * **Empty polls** make no system call. What the device says about its link and its own health
///   is read by [`stats`](FrameRx::stats), by arming, and by any other queue of the device; once
///   something is wrong, empty polls give it as an error until it passes: `LinkDown`, `QueueLost`
///   or `DeviceGone`. Frames that are there come first.
/// * **Marks.** [`RxMeta::mark`] is the [`RuleId`] of the flow that selected the frame, on cards
///   with flow tags. Rules for all frames carry none.
/// * **Losses**: `no_buffer` is the port's counter (see [`NoBuffer`]), `truncated` and
///   `malformed` are error completions, `ring_lapped` frames that were waiting when the queue
///   had to be reset.
#[derive(Debug)]
pub struct VerbsRx {
    // Order of fields is order of dropping: flows before the queue they point to.
    flows: Arc<Steering>,
    queue: RecvQueue,
    cache: ManuallyDrop<FrameCache>,
    watch: Watch,
    clock: StampClock,
    base: *mut u8,
    frame_bytes: usize,
    /// Where in a frame the card begins to write, and how much of it is not the frame's.
    write_at: usize,
    prefix: usize,
    /// Buffers the queue holds at most, and holds now.
    depth: u32,
    posted: u32,
    /// One bit a buffer of the pool: posted, and not completed since.
    with_card: Box<[u64]>,
    window: Box<[Slot; MAX_BURST]>,
    len: usize,
    /// The queue fell into the error state; told after the window at hand.
    failed: Option<Error>,
    done: Box<[Completion; MAX_BURST]>,
    /// A list of requests, linked once; posting cuts it to length.
    requests: Box<[sys::ibv_recv_wr]>,
    pieces: Box<[sys::ibv_sge]>,
    recover_by_itself: bool,
    no_buffer: NoBuffer,
    /// What the counter showed when the queue was opened.
    no_buffer_before: u64,
    stats: RxStats,
}

// SAFETY: the queue owns its receive side; the pointers are into the pool's region, which the
// registration keeps mapped, and into lists of its own on the heap.
unsafe impl Send for VerbsRx {}

/// What [`VerbsRx::new`] is made of.
pub(crate) struct Parts {
    pub(crate) queue: RecvQueue,
    pub(crate) flows: Arc<Steering>,
    pub(crate) cache: FrameCache,
    pub(crate) mr: Arc<Mr>,
    pub(crate) watch: Watch,
    pub(crate) clock: StampClock,
    /// Bytes that the card puts in front of each frame.
    pub(crate) prefix: usize,
    pub(crate) slots: u32,
    pub(crate) no_buffer: NoBuffer,
    pub(crate) recover: bool,
}

impl VerbsRx {
    /// Posts buffers and makes the queue ready. Flows are added after this.
    pub(crate) fn new(parts: Parts) -> Result<Self, SetupError> {
        let pool = parts.cache.pool().clone();
        let request =
            sys::ibv_recv_wr { wr_id: 0, next: null_mut(), sg_list: null_mut(), num_sge: 1 };
        // More may be granted than was asked for; but no more than the completion queue holds.
        let depth = parts.slots.min(parts.queue.cq().capacity()).min(pool.frames());
        let slot = Slot { id: 0, len: 0, meta: RxMeta::plain(0) };
        let write_at = pool.headroom().saturating_sub(parts.prefix);
        let room = (pool.frame_bytes() - write_at) as u32;
        let piece = sys::ibv_sge { addr: 0, length: room, lkey: parts.mr.lkey() };
        let mut rx = Self {
            flows: parts.flows,
            queue: parts.queue,
            watch: parts.watch,
            clock: parts.clock,
            base: pool.region().as_ptr(),
            frame_bytes: pool.frame_bytes(),
            write_at,
            prefix: parts.prefix,
            cache: ManuallyDrop::new(parts.cache),
            depth,
            posted: 0,
            with_card: vec![0; (pool.frames() as usize).div_ceil(64)].into(),
            window: Box::new([slot; MAX_BURST]),
            len: 0,
            failed: None,
            done: Box::new([Completion::default(); MAX_BURST]),
            requests: vec![request; MAX_BURST].into(),
            pieces: vec![piece; MAX_BURST].into(),
            recover_by_itself: parts.recover,
            no_buffer_before: parts.no_buffer.read(),
            no_buffer: parts.no_buffer,
            stats: RxStats::default(),
        };
        for i in 0..MAX_BURST {
            rx.requests[i].sg_list = &raw mut rx.pieces[i];
            if i + 1 < MAX_BURST {
                rx.requests[i].next = &raw mut rx.requests[i + 1];
            }
        }
        rx.start()?;
        read_counter(&mut rx.clock, rx.queue.context());
        Ok(rx)
    }

    /// Buffers, and ready.
    fn start(&mut self) -> Result<(), SetupError> {
        self.queue.to_init()?;
        let mut refused = 0;
        while self.posted < self.depth {
            let before = self.posted;
            refused = self.top_up();
            if self.posted == before {
                break;
            }
        }
        if self.posted == 0 {
            return Err(if refused != 0 {
                SetupError::os("ibv_post_recv", refused)
            } else {
                SetupError::os("ibv_post_recv", libc::ENOMEM)
                    .remedy("give the port a pool with free frames")
            });
        }
        self.queue.to_ready()
    }

    /// Posts fresh buffers as one list, as many as a burst. Gives the card's errno.
    #[inline]
    fn top_up(&mut self) -> i32 {
        let want = (self.depth - self.posted).min(MAX_BURST as u32) as usize;
        let mut n = 0;
        while n < want {
            let Some(id) = self.cache.alloc() else { break };
            self.fill(n, id);
            n += 1;
        }
        self.post(n)
    }

    /// Makes request `i` one for buffer `id`.
    #[inline]
    fn fill(&mut self, i: usize, id: u32) {
        let offset = id as usize * self.frame_bytes + self.write_at;
        self.pieces[i].addr = self.base as u64 + offset as u64;
        self.requests[i].wr_id = u64::from(id);
        self.with_card[id as usize / 64] |= 1 << (id % 64);
    }

    /// Notes that a buffer came back; `false` when the card did not have it.
    #[inline]
    fn comes_back(&mut self, id: u32) -> bool {
        let Some(word) = self.with_card.get_mut(id as usize / 64) else { return false };
        let had = *word >> (id % 64) & 1 == 1;
        *word &= !(1 << (id % 64));
        had
    }

    /// Posts the first `n` requests with one doorbell; their buffers are lent. What the card does
    /// not take goes back to the cache: of a list that fails, all before the bad one are posted.
    #[inline]
    fn post(&mut self, n: usize) -> i32 {
        if n == 0 {
            return 0;
        }
        let after = std::mem::replace(&mut self.requests[n - 1].next, null_mut());
        let mut bad = null_mut();
        // SAFETY: a live queue; a list of `n` requests, each of one piece inside registered
        // memory that is lent to the card until its completion.
        let rc = unsafe { self.queue.post(&mut self.requests[0], &mut bad) };
        self.requests[n - 1].next = after;
        let mut taken = n;
        if rc != 0 {
            let first = self.requests.as_ptr();
            taken = (0..n).find(|i| std::ptr::eq(bad, first.wrapping_add(*i))).unwrap_or(0);
            for i in taken..n {
                let id = self.requests[i].wr_id as u32;
                self.comes_back(id);
                self.cache.free(id);
            }
        }
        self.posted += taken as u32;
        rc.abs()
    }

    /// Sorts a completion into the window, the counters or trouble.
    #[inline]
    fn accept(&mut self, done: Completion) -> Result<(), Error> {
        let id = done.wr_id as u32;
        if done.wr_id > u64::from(u32::MAX) || !self.comes_back(id) {
            // A completion for a buffer that is not posted, or the second for one that was: the
            // card or its library is confused.
            return Err(Error::new(ErrorKind::QueueLost, "ibv_poll_cq"));
        }
        self.posted = self.posted.saturating_sub(1);
        if done.status != sys::IBV_WC_SUCCESS {
            self.cache.free(id);
            match done.status {
                sys::IBV_WC_LOC_LEN_ERR => self.stats.truncated += 1,
                sys::IBV_WC_WR_FLUSH_ERR => {}
                _ => self.stats.malformed += 1,
            }
            return Err(Error::new(ErrorKind::QueueLost, "ibv_poll_cq"));
        }
        let written = done.byte_len as usize;
        if written > self.frame_bytes - self.write_at || written < self.prefix {
            self.cache.free(id);
            self.stats.malformed += 1;
            return Ok(());
        }
        let len = (written - self.prefix) as u32;
        let (ts_ns, mut flags) = self.clock.utc(done.stamp);
        if done.wc_flags & sys::IBV_WC_IP_CSUM_OK != 0 {
            flags |= RxFlags::CSUM_OK;
        }
        let meta = RxMeta { ts_ns, wire_len: len, flags, mark: done.tag };
        self.window[self.len] = Slot { id, len, meta };
        self.len += 1;
        Ok(())
    }

    /// Puts a queue that fell into the error state back to work: RESET, fresh buffers, ready.
    /// Frames that had arrived and were not read are lost (`ring_lapped`), and so are those that
    /// come meanwhile (the card counts them).
    ///
    /// With [`Options::recover`](crate::Options::recover) (the default) the queue does this by
    /// itself.
    ///
    /// # Errors
    ///
    /// The card refuses: open the port anew.
    pub fn recover(&mut self) -> Result<(), Error> {
        self.release();
        let lost = |_: SetupError| Error::new(ErrorKind::QueueLost, "ibv_modify_qp");
        // In ERR nothing new is received; the providers throw away what is left in the
        // completion queue at RESET, so it is counted before.
        self.queue.to_error().map_err(lost)?;
        self.discard_completions()?;
        self.queue.to_reset().map_err(lost)?;
        self.discard_completions()?;
        self.watch.recovered();
        // In RESET the card has let go of every buffer, completed or not.
        self.cache.reclaim();
        self.with_card.fill(0);
        self.posted = 0;
        self.failed = None;
        self.start().map_err(lost)
    }

    fn discard_completions(&mut self) -> Result<(), Error> {
        loop {
            let n = self.queue.cq().poll(&mut self.done[..])?;
            for done in &self.done[..n] {
                match done.status {
                    sys::IBV_WC_SUCCESS => self.stats.ring_lapped += 1,
                    sys::IBV_WC_LOC_LEN_ERR => self.stats.truncated += 1,
                    sys::IBV_WC_WR_FLUSH_ERR => {}
                    _ => self.stats.malformed += 1,
                }
            }
            if n == 0 {
                return Ok(());
            }
        }
    }

    /// What to do about a queue that fell into the error state.
    #[cold]
    fn recover_or_tell(&mut self, error: Error) -> Result<(), Error> {
        self.watch.drain();
        match self.watch.error() {
            Err(e) if e.kind != ErrorKind::LinkDown => return Err(e),
            _ => {}
        }
        if self.recover_by_itself {
            self.recover()
        } else {
            self.failed = Some(error);
            Err(error)
        }
    }

    /// An event was noted: reads the rest, and acts.
    #[cold]
    fn trouble(&mut self) -> Result<(), Error> {
        self.watch.drain();
        if self.watch.failed() {
            self.recover_or_tell(Error::new(ErrorKind::QueueLost, "ibv_get_async_event"))?;
        }
        self.watch.error()
    }

    #[inline]
    fn show(&self, slot: &Slot) -> RxFrame<'_> {
        let offset = slot.id as usize * self.frame_bytes + self.write_at + self.prefix;
        // SAFETY: `accept` checked that the frame fits its buffer and that the buffer was lent to
        // the card, which has completed it and does not write it again until it is posted.
        let bytes = unsafe { std::slice::from_raw_parts(self.base.add(offset), slot.len as usize) };
        RxFrame { bytes, meta: slot.meta }
    }

    /// Steers a flow here in a way of its own: shared with the kernel, sniffed, all multicast, at
    /// a priority. [`Steer::add`] uses the port's [`Options::mode`](crate::Options::mode).
    ///
    /// # Errors
    ///
    /// As [`Steer::add`].
    pub fn add_rule(&mut self, rule: &FlowRule) -> Result<RuleId, SetupError> {
        self.flows.add(rule, self.queue.cq().has_tags())
    }
}

impl FrameRx for VerbsRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.release();
        if let Some(error) = self.failed.take() {
            self.recover_or_tell(error)?;
        }
        let n = self.queue.cq().poll(&mut self.done[..max.min(MAX_BURST)])?;
        if n == 0 {
            if self.posted < self.depth {
                self.top_up(); // the pool was dry before
            }
            if !self.watch.is_quiet() {
                self.trouble()?;
            }
            return Ok(0);
        }
        if self.clock.wants_anchor(self.done[n - 1].stamp) {
            read_counter(&mut self.clock, self.queue.context());
        }
        for i in 0..n {
            if let Err(error) = self.accept(self.done[i]) {
                self.failed = Some(error);
            }
        }
        Ok(self.len)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        self.show(&self.window[..self.len][i])
    }

    #[inline]
    fn release(&mut self) {
        if self.len == 0 {
            return;
        }
        // The same buffers go back to the card, without a way through the pool. A frame that was
        // taken is no longer lent; a fresh one replaces it.
        let mut n = 0;
        for i in 0..self.len {
            let Slot { id, meta, .. } = self.window[i];
            self.stats.bytes += u64::from(meta.wire_len);
            if self.cache.is_lent(id) {
                self.fill(n, id);
                n += 1;
            }
        }
        self.stats.frames += self.len as u64;
        self.len = 0;
        self.post(n);
        if self.posted < self.depth {
            self.top_up();
        }
    }

    fn stats(&mut self) -> RxStats {
        self.watch.drain();
        let lost = self.no_buffer.read().saturating_sub(self.no_buffer_before);
        // The device's counter may start again when its driver is reloaded; ours does not.
        self.stats.no_buffer = self.stats.no_buffer.max(lost);
        self.stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        if self.queue.cq().has_channel() { Some(self) } else { None }
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        let n = self.acquire(max)?;
        if n == 0 {
            return Ok(0);
        }
        // Nothing can be taken from within `f`: each buffer goes straight into the next list.
        // When `f` panics the window is still open, and the next call recycles all of it.
        let mut bytes = 0;
        for i in 0..n {
            let slot = self.window[i];
            f(self.show(&slot));
            bytes += u64::from(slot.len);
            self.fill(i, slot.id);
        }
        self.len = 0;
        self.stats.frames += n as u64;
        self.stats.bytes += bytes;
        self.post(n);
        Ok(n)
    }
}

impl BufRx for VerbsRx {
    fn take(&mut self, i: usize) -> Option<Buf> {
        let at = self.write_at + self.prefix;
        let slot = &mut self.window[..self.len][i];
        let buf = self.cache.take(slot.id, at, slot.len as usize)?;
        slot.len = 0; // the bytes are the buffer's alone now
        Some(buf)
    }
}

impl Clocked for VerbsRx {
    fn clock(&self) -> ClockInfo {
        self.clock.info()
    }
}

impl Waitable for VerbsRx {
    fn fd(&self) -> BorrowedFd<'_> {
        self.queue.cq().wait_fd()
    }

    fn arm(&mut self) -> Result<(), Error> {
        self.watch.drain();
        self.watch.error()?;
        self.queue.cq().arm()
    }
}

impl Steer for VerbsRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        self.add_rule(&FlowRule::of(*flow).mode(self.flows.mode()))
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        self.flows.remove(rule)
    }
}

impl Drop for VerbsRx {
    fn drop(&mut self) {
        let _ = self.queue.to_error();
        if self.queue.to_reset().is_ok() {
            // SAFETY: dropped once, here. In RESET the card has let go of every buffer, so they
            // may go back to the pool.
            unsafe { ManuallyDrop::drop(&mut self.cache) };
        }
        // Otherwise the card may still write into the frames: the pool does without them.
    }
}
