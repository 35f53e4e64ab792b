//! Receiving: completion → window → buffers posted again in one list.

use std::os::fd::BorrowedFd;
use std::ptr::null_mut;
use std::sync::Arc;

use linerate_common::clock::now_ns;
use linerate_common::pool::FrameCache;
use linerate_common::{
    Buf, BufRx, ClockInfo, Clocked, Error, ErrorKind, FlowSpec, FrameRx, MAX_BURST, RuleId,
    RxFlags, RxFrame, RxMeta, RxStats, SetupError, Steer, Waitable,
};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::clock::StampClock;
use crate::counter::NoBuffer;
use crate::cq::Completion;
use crate::event::Events;
use crate::flow::{Flow, FlowMode};
use crate::memory::Mr;
use crate::qp::Qp;

/// One frame of the open window.
#[derive(Debug, Clone, Copy)]
struct Slot {
    id: u32,
    len: u32,
    meta: RxMeta,
}

/// The receive queue of a port: one queue pair that only receives.
#[derive(Debug)]
pub struct VerbsRx {
    // Order of fields is order of dropping: the kernel refuses to destroy a queue pair that has
    // flows, and the frames may go back to the pool only after the pair is gone.
    flows: Vec<(RuleId, Flow)>,
    qp: Arc<Qp>,
    cache: FrameCache,
    mr: Arc<Mr>,
    events: Arc<Events>,
    mode: FlowMode,
    next_rule: u32,
    clock: StampClock,
    /// When the counter behind raw stamps was last read, ns.
    anchored_ns: u64,
    base: *mut u8,
    frame_bytes: usize,
    /// Where in a frame the card begins to write.
    headroom: usize,
    /// Buffers the queue pair holds at most, and holds now.
    depth: u32,
    posted: u32,
    window: [Slot; MAX_BURST],
    len: usize,
    /// The queue pair fell into the error state; told after the window at hand.
    failed: Option<Error>,
    requests: Vec<sys::ibv_recv_wr>,
    pieces: Vec<sys::ibv_sge>,
    recover_by_itself: bool,
    no_buffer: NoBuffer,
    /// What the counter showed when the queue was opened.
    no_buffer_before: u64,
    stats: RxStats,
}

// SAFETY: the queue owns its queue pair's receive side; the base pointer is into the pool's region,
// which the registration keeps mapped.
unsafe impl Send for VerbsRx {}

/// What [`VerbsRx::new`] is made of.
pub(crate) struct Parts {
    pub(crate) qp: Arc<Qp>,
    pub(crate) cache: FrameCache,
    pub(crate) mr: Arc<Mr>,
    pub(crate) events: Arc<Events>,
    pub(crate) mode: FlowMode,
    pub(crate) clock: StampClock,
    pub(crate) no_buffer: NoBuffer,
    pub(crate) recover: bool,
}

impl VerbsRx {
    /// Posts buffers and makes the pair ready. Flows are added after this.
    pub(crate) fn new(parts: Parts) -> Result<Self, SetupError> {
        let pool = parts.cache.pool().clone();
        let request =
            sys::ibv_recv_wr { wr_id: 0, next: null_mut(), sg_list: null_mut(), num_sge: 1 };
        let mut rx = Self {
            flows: Vec::new(),
            depth: parts.qp.granted.max_recv_wr.min(pool.frames()),
            qp: parts.qp,
            mr: parts.mr,
            events: parts.events,
            mode: parts.mode,
            next_rule: 1,
            clock: parts.clock,
            anchored_ns: 0,
            base: pool.region().as_ptr(),
            frame_bytes: pool.frame_bytes(),
            headroom: pool.headroom(),
            cache: parts.cache,
            posted: 0,
            window: [Slot { id: 0, len: 0, meta: RxMeta::plain(0) }; MAX_BURST],
            len: 0,
            failed: None,
            requests: vec![request; MAX_BURST],
            pieces: vec![sys::ibv_sge::default(); MAX_BURST],
            recover_by_itself: parts.recover,
            no_buffer_before: parts.no_buffer.read(),
            no_buffer: parts.no_buffer,
            stats: RxStats::default(),
        };
        rx.start()?;
        Ok(rx)
    }

    /// INIT, buffers, ready.
    fn start(&mut self) -> Result<(), SetupError> {
        self.qp.to_init()?;
        while self.posted < self.depth {
            let before = self.posted;
            self.post(MAX_BURST);
            if self.posted == before {
                break;
            }
        }
        if self.posted == 0 {
            return Err(SetupError::os("ibv_post_recv", libc::ENOMEM)
                .remedy("give the port a pool with free frames"));
        }
        self.qp.to_ready()
    }

    /// Posts up to `max` fresh buffers as one list, with one doorbell. What the card does not
    /// take goes back to the cache: of a list that fails, all before the bad one are posted.
    #[inline]
    fn post(&mut self, max: usize) {
        let want = (self.depth - self.posted).min(max.min(MAX_BURST) as u32);
        let mut n = 0;
        while n < want as usize {
            let Some(id) = self.cache.alloc() else { break };
            let offset = id as usize * self.frame_bytes + self.headroom;
            self.pieces[n] = sys::ibv_sge {
                addr: self.base as u64 + offset as u64,
                length: (self.frame_bytes - self.headroom) as u32,
                lkey: self.mr.lkey(),
            };
            self.requests[n].wr_id = u64::from(id);
            n += 1;
        }
        if n == 0 {
            return;
        }
        for i in 0..n {
            self.requests[i].sg_list = &raw mut self.pieces[i];
            let next = if i + 1 < n { &raw mut self.requests[i + 1] } else { null_mut() };
            self.requests[i].next = next;
        }
        let mut bad = null_mut();
        // SAFETY: a live pair; a list of `n` requests, each of one piece inside registered memory
        // that is lent to the card until its completion.
        let rc = unsafe { inline::post_recv(self.qp.as_raw(), &mut self.requests[0], &mut bad) };
        let mut taken = n;
        if rc != 0 {
            let first = self.requests.as_ptr();
            taken = (0..n).find(|i| std::ptr::eq(bad, first.wrapping_add(*i))).unwrap_or(0);
            for request in &self.requests[taken..n] {
                self.cache.free(request.wr_id as u32);
            }
        }
        self.posted += taken as u32;
    }

    /// Sorts completions into frames, bad frames and trouble.
    #[inline]
    fn accept(&mut self, done: &Completion, now_ns: u64) -> Result<(), Error> {
        self.posted = self.posted.saturating_sub(1);
        let id = done.wr_id as u32;
        let known = done.wr_id <= u64::from(u32::MAX) && self.cache.is_lent(id);
        if !known {
            // A completion for a buffer that is not posted: the card or its library is confused.
            return Err(Error::new(ErrorKind::QueueLost, "ibv_poll_cq"));
        }
        if done.status != sys::IBV_WC_SUCCESS {
            self.cache.free(id);
            match done.status {
                sys::IBV_WC_LOC_LEN_ERR => self.stats.truncated += 1,
                sys::IBV_WC_WR_FLUSH_ERR => {}
                _ => self.stats.malformed += 1,
            }
            return Err(Error::new(ErrorKind::QueueLost, "ibv_poll_cq"));
        }
        let len = done.byte_len;
        if len as usize > self.frame_bytes - self.headroom {
            self.cache.free(id);
            self.stats.truncated += 1;
            return Ok(());
        }
        let (ts_ns, mut flags) = self.clock.utc(done.stamp, now_ns);
        if done.wc_flags & sys::IBV_WC_IP_CSUM_OK != 0 {
            flags |= RxFlags::CSUM_OK;
        }
        let meta = RxMeta { ts_ns, wire_len: len, flags, mark: done.tag };
        self.window[self.len] = Slot { id, len, meta };
        self.len += 1;
        Ok(())
    }

    /// Puts a queue pair that fell into the error state back to work: RESET, INIT, fresh buffers,
    /// ready. Frames that came meanwhile are lost; the card counts them (`rx_out_of_buffer`).
    ///
    /// With [`Options::recover`](crate::Options::recover) (the default) the queue does this by
    /// itself.
    ///
    /// # Errors
    ///
    /// The card refuses: open the port anew.
    pub fn recover(&mut self) -> Result<(), Error> {
        self.release_window();
        let lost = |_: SetupError| Error::new(ErrorKind::QueueLost, "ibv_modify_qp");
        // Once in RESET the card has let go of every buffer, completed or not. What it completed
        // before is read first, so that no stale completion is taken for a new one.
        self.qp.to_reset().map_err(lost)?;
        let mut stale = [Completion::default(); MAX_BURST];
        while self.qp.cq().poll(&mut stale)? > 0 {}
        self.cache.reclaim();
        self.posted = 0;
        self.start().map_err(lost)
    }

    /// What to do about a pair that fell into the error state.
    #[cold]
    fn recover_or_tell(&mut self, error: Error) -> Result<(), Error> {
        self.events.drain();
        self.events.error()?;
        if self.recover_by_itself { self.recover() } else { Err(error) }
    }

    #[inline]
    fn slot_bytes(&self, slot: &Slot) -> &[u8] {
        let offset = slot.id as usize * self.frame_bytes + self.headroom;
        // SAFETY: `accept` checked that the frame fits its buffer and that the buffer was lent to
        // the card, which has completed it and does not write it again until it is posted.
        unsafe { std::slice::from_raw_parts(self.base.add(offset), slot.len as usize) }
    }

    #[inline]
    fn release_window(&mut self) {
        for i in 0..self.len {
            // A frame that was taken is no longer lent: `free` leaves it alone.
            self.cache.free(self.window[i].id);
        }
        self.len = 0;
    }

    /// Reads the counter behind raw stamps once a second.
    #[inline]
    fn keep_clock(&mut self, now: u64) {
        if !self.clock.wants_anchor() || now.saturating_sub(self.anchored_ns) < 1_000_000_000 {
            return;
        }
        let mut values = sys::ibv_values_ex {
            comp_mask: sys::IBV_VALUES_MASK_RAW_CLOCK,
            raw_clock: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        };
        // SAFETY: a live context; providers put the whole counter into the ns field.
        let rc = unsafe { inline::query_rt_values(self.qp.pd.context.as_raw(), &mut values) };
        if rc == 0 {
            self.clock.anchor(values.raw_clock.tv_nsec as u64, now_ns());
            self.anchored_ns = now;
        }
    }
}

impl FrameRx for VerbsRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        if self.len > 0 {
            self.release();
        }
        if let Some(error) = self.failed.take() {
            self.recover_or_tell(error)?;
        }
        let mut done = [Completion::default(); MAX_BURST];
        let n = self.qp.cq().poll(&mut done[..max.min(MAX_BURST)])?;
        if n == 0 {
            if self.posted < self.depth {
                self.post(MAX_BURST); // the pool was dry before
            }
            return Ok(0);
        }
        let now = if self.clock.wants_now() { now_ns() } else { 0 };
        self.keep_clock(now);
        for entry in &done[..n] {
            if let Err(error) = self.accept(entry, now) {
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
        let slot = &self.window[..self.len][i];
        RxFrame { bytes: self.slot_bytes(slot), meta: slot.meta }
    }

    #[inline]
    fn release(&mut self) {
        if self.len == 0 {
            return;
        }
        for slot in &self.window[..self.len] {
            self.stats.frames += 1;
            self.stats.bytes += u64::from(slot.meta.wire_len);
        }
        self.release_window();
        self.post(MAX_BURST);
    }

    fn stats(&mut self) -> RxStats {
        self.events.drain();
        let lost = self.no_buffer.read().saturating_sub(self.no_buffer_before);
        // The device's counter may start again when its driver is reloaded; ours does not.
        self.stats.no_buffer = self.stats.no_buffer.max(lost);
        self.stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        if self.qp.cq().has_channel() { Some(self) } else { None }
    }
}

impl BufRx for VerbsRx {
    fn take(&mut self, i: usize) -> Option<Buf> {
        let slot = &mut self.window[..self.len][i];
        let buf = self.cache.take(slot.id, self.headroom, slot.len as usize)?;
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
        self.qp.cq().wait_fd()
    }

    fn arm(&mut self) -> Result<(), Error> {
        self.events.drain();
        self.events.error()?;
        self.qp.cq().arm()
    }
}

impl Steer for VerbsRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        let rule = RuleId(self.next_rule);
        let tag = self.qp.cq().has_tags().then_some(rule.0);
        // A card may have no flow tags although its completions can carry them.
        let flow = match Flow::create(&self.qp, flow, self.mode, tag) {
            Err(e) if tag.is_some() && e.kind() == ErrorKind::Unsupported => {
                Flow::create(&self.qp, flow, self.mode, None)?
            }
            other => other?,
        };
        self.flows.push((rule, flow));
        self.next_rule += 1;
        Ok(rule)
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        let Some(at) = self.flows.iter().position(|(id, _)| *id == rule) else {
            let what = format!("there is no rule {}", rule.0);
            return Err(SetupError::new(ErrorKind::BadArgument, "ibv_destroy_flow", what));
        };
        self.flows.swap_remove(at);
        Ok(())
    }
}

impl Drop for VerbsRx {
    fn drop(&mut self) {
        // Stops the card before the fields go: flows, then the pair, then the frames.
        let _ = self.qp.to_error();
    }
}
