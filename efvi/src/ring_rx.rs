//! Receiving into posted buffers: EF10 cards (SFN7000 to X2, X4 full-feature).
//!
//! Buffers come from the pool and stay with the queue until somebody takes one: what was shown is
//! posted again. Each event names the buffer it filled, and one that names a buffer which the card
//! does not have is refused ([`Order`]), so no event sequence, however odd, puts a buffer in two
//! hands.

mod events;
mod merged;
mod order;
mod pieces;
mod refill;
mod run;

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::time::Duration;

use linerate_common::pool::{FrameCache, Pool};
use linerate_common::{
    Buf, BufRx, ClockInfo, Clocked, Error, FlowSpec, FrameRx, MAX_BURST, RuleId, RxFrame, RxMeta,
    RxStats, SetupError, Steer, Waitable,
};
use linerate_efvi_sys::{
    EF_VI_DMA_ALIGN, EF_VI_RX_EVENT_MERGE, EF_VI_RX_TIMESTAMPS, Library, ef_event, ef_vi,
};

use crate::discard::Discards;
use crate::error::{bad_argument, unsupported};
use crate::filter::Rules;
use crate::options::Options;
use crate::session::{DmaTable, Session};
use crate::stamp::{StampState, Stamper};
use crate::vistats::ViStats;
use merged::{Merged, length_offset};
use order::{Entry, Order};
use pieces::Fragment;

/// Events fetched at once.
const EVENTS: usize = MAX_BURST;

/// Looks in vain before the queue is read anyway, so that the last frames of a burst surface.
const LOOKS: u32 = 100;

/// A receive queue of posted buffers.
#[derive(Debug)]
pub struct RingRx {
    // Drops first: closes the driver handle, which stops the card.
    session: Session,
    // Drops after it: gives back the buffers of the card and of the queue.
    cache: FrameCache,
    vi: *mut ef_vi,
    lib: Library,
    /// Where the card starts to write in the pool's first buffer.
    areas: *mut u8,
    frame_bytes: usize,
    dma: DmaTable,
    /// Where in a buffer that is.
    dma_off: usize,
    /// Metadata bytes before the frame.
    prefix: usize,
    /// Longest part of a frame that one buffer holds.
    max_len: usize,
    /// Where the metadata has the frame's length; needed when events are merged.
    length_at: Option<usize>,
    refill: u32,
    order: Order,
    look_ahead: u32,
    looks: u32,
    deliver_bad: bool,
    events: Box<[ef_event; EVENTS]>,
    event_at: usize,
    event_n: usize,
    /// Where to stop reading events: at `event_n`, or at once while a merged one is shown.
    event_end: usize,
    merged: Merged,
    held: Option<Fragment>,
    /// Empty while it is being filled.
    window: Box<[Slot]>,
    open: usize,
    taken: u64,
    lost: Option<Error>,
    stamper: Stamper,
    stats: RxStats,
    discards: Discards,
    unknown_events: u64,
    vi_stats: ViStats,
    rules: Rules,
    options: Options,
}

// SAFETY: the pointers are to the session's own VI and to the pool's region, which the session's
// registration keeps; neither is bound to a thread, and the queue has one owner.
unsafe impl Send for RingRx {}

/// A frame of the window.
#[derive(Debug, Clone, Copy)]
struct Slot {
    start: *const u8,
    /// Where its buffer is in the ring's order.
    place: u32,
    len: u32,
    meta: RxMeta,
}

impl Slot {
    const NONE: Self =
        Self { start: NonNull::dangling().as_ptr(), place: 0, len: 0, meta: RxMeta::plain(0) };

    /// The frame.
    ///
    /// # Safety
    ///
    /// The buffer is not posted again while the frame is looked at.
    #[inline(always)]
    unsafe fn frame(&self) -> RxFrame<'_> {
        // SAFETY: the length was checked against the buffer, which the card is done with, and the
        // caller sees to it that it stays so.
        let bytes = unsafe { std::slice::from_raw_parts(self.start, self.len as usize) };
        RxFrame { bytes, meta: self.meta }
    }
}

impl RingRx {
    /// Takes over a session whose VI was allocated with a receive ring.
    pub(crate) fn new(
        mut session: Session,
        pool: &Pool,
        options: &Options,
    ) -> Result<Self, SetupError> {
        let (lib, vi) = (session.lib(), session.vi());
        // What the VI really has, whatever was asked for and whatever the environment says.
        // SAFETY: live and checked.
        let (prefix, capacity, flags) =
            unsafe { (lib.receive_prefix_len(vi), lib.receive_capacity(vi), lib.flags(vi)) };
        if pool.headroom() < prefix || !options.refill.is_multiple_of(8) || options.refill == 0 {
            return Err(bad_argument(
                "ef_vi_receive_init",
                format!("needs {prefix} B of headroom in the pool, and a refill of full eights"),
            ));
        }
        let dma_off = (pool.headroom() - prefix) & !(EF_VI_DMA_ALIGN - 1);
        let buffer_len = pool.frame_bytes() - dma_off;
        // SAFETY: nothing is posted yet, and the bytes lie in one frame of the pool.
        unsafe { lib.receive_set_buffer_len(vi, buffer_len as u32) };
        let merge = flags & EF_VI_RX_EVENT_MERGE != 0;
        let length_at = length_offset(&session);
        if merge && length_at.is_none_or(|at| at + 2 > prefix) {
            return Err(unsupported("ef_vi_receive_query_layout", "merged events without lengths"));
        }
        let ring = capacity & !7;
        let mut cache = pool.cache();
        cache.reserve(ring as usize)?;
        let dma = session.register(pool.region())?;
        let mut rx = Self {
            cache,
            vi,
            lib,
            areas: pool.region().as_ptr().wrapping_add(dma_off),
            frame_bytes: pool.frame_bytes(),
            dma,
            dma_off,
            prefix,
            max_len: buffer_len - prefix,
            length_at,
            refill: options.refill.min(ring),
            order: Order::new(ring),
            look_ahead: options.look_ahead,
            looks: 0,
            deliver_bad: options.deliver_bad,
            events: Box::new([ef_event::default(); EVENTS]),
            event_at: 0,
            event_n: 0,
            event_end: 0,
            merged: Merged::default(),
            held: None,
            window: Box::new([Slot::NONE; MAX_BURST]),
            open: 0,
            taken: 0,
            lost: None,
            stamper: Stamper::new(flags & EF_VI_RX_TIMESTAMPS != 0, options.clock_ahead_of_utc_s),
            stats: RxStats::default(),
            discards: Discards::default(),
            unknown_events: 0,
            vi_stats: ViStats::new(&session),
            rules: Rules::new(options),
            options: options.clone(),
            session,
        };
        rx.top_up();
        if rx.order.posted() == 0 {
            return Err(bad_argument("ef_vi_receive_init", "no buffer could be posted"));
        }
        Ok(rx)
    }

    /// Frames thrown away by the card, by reason.
    #[must_use]
    pub fn discards(&self) -> Discards {
        self.discards
    }

    /// Why frames carry no timestamps, or how good the last one was.
    #[must_use]
    pub fn stamps(&self) -> StampState {
        self.stamper.state()
    }

    /// Events of kinds this queue does not know, counted and passed over.
    #[must_use]
    pub fn unknown_events(&self) -> u64 {
        self.unknown_events
    }

    /// The driver's own counters of this queue, by its names. A system call.
    pub fn card_counters(&mut self) -> Vec<(String, u64)> {
        self.vi_stats.update(&self.session);
        self.vi_stats.named()
    }

    /// Buffers with the card right now.
    #[must_use]
    pub fn posted(&self) -> u32 {
        // SAFETY: a live VI.
        unsafe { self.lib.receive_fill_level(self.vi) }
    }

    /// Buffers this queue has out: with the card, in the open window, or in events that were
    /// fetched and not shown yet. When all has been read it is [`posted`](Self::posted).
    #[must_use]
    pub fn lent(&self) -> u32 {
        let window = self.open as u32 - self.taken.count_ones();
        self.order.posted() + window + u32::from(self.held.is_some())
    }

    /// The pool that frames arrive in.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.cache.pool()
    }

    /// Sleeps in the driver until something happens (`ef_eventq_wait`). `Ok(false)`: the time ran
    /// out or a signal came. Poll until empty first: frames already there do not end the sleep.
    ///
    /// # Errors
    ///
    /// The driver refused.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        if self.has_stash() {
            return Ok(true);
        }
        self.session.wait(timeout)
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn recipe(&self) -> (String, Options, Vec<FlowSpec>) {
        let mut options = self.options.clone();
        options.pool = Some(self.pool().clone());
        (self.session.name().to_owned(), options, self.rules.flows().collect())
    }

    /// Where the card writes in buffer `id` of the pool.
    #[inline]
    fn area(&self, id: u32) -> *mut u8 {
        // SAFETY: ids are those that the ring was given, which the cache had from the pool.
        unsafe { self.areas.add(id as usize * self.frame_bytes) }
    }

    /// What an empty read means.
    #[inline]
    fn nothing(&self) -> Result<usize, Error> {
        match self.lost {
            None => Ok(0),
            Some(e) => Err(e),
        }
    }
}

impl FrameRx for RingRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.release();
        let max = max.min(MAX_BURST);
        if self.lost.is_some() || max == 0 || !self.fetch(max) {
            return self.nothing();
        }
        let mut window = std::mem::take(&mut self.window);
        let (mut n, mut places) = (0, window.iter_mut());
        let mut open = |slot| {
            if let Some(place) = places.next() {
                *place = slot;
            }
        };
        while n < max {
            n += self.run(max - n, &mut open);
            let Some(slot) = (if n < max { self.next() } else { None }) else { break };
            open(slot);
            n += 1;
        }
        self.window = window;
        self.open = n;
        if n == 0 {
            self.top_up_if_low();
            return self.nothing();
        }
        Ok(n)
    }

    #[inline]
    fn len(&self) -> usize {
        self.open
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        let slot = &self.window[..self.open][i];
        // SAFETY: buffers of the open window are not posted, which needs `self` exclusively.
        unsafe { slot.frame() }
    }

    #[inline]
    fn release(&mut self) {
        if self.open > 0 {
            // What was not taken is in its place in the ring's order.
            self.open = 0;
            self.taken = 0;
            self.top_up_if_low();
        }
    }

    fn stats(&mut self) -> RxStats {
        let mut stats = self.stats;
        if self.vi_stats.update(&self.session) {
            stats.no_buffer += self.vi_stats.no_descriptor();
        }
        stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        Some(self)
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        self.release();
        if self.lost.is_some() {
            return self.nothing();
        }
        let mut n = 0;
        while n < max && self.fetch(max - n) {
            loop {
                n += self.show_run(max - n, &mut f);
                if n >= max || !self.has_stash() {
                    break;
                }
                let Some(slot) = self.next() else { break };
                n += 1;
                // SAFETY: nothing is posted while the closure runs: it cannot reach the queue.
                seldom(&mut f, unsafe { slot.frame() });
            }
            self.top_up_if_low();
            // Only after a full array of events can there be more.
            if self.event_n < EVENTS || self.lost.is_some() {
                break;
            }
        }
        if n == 0 { self.nothing() } else { Ok(n) }
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl BufRx for RingRx {
    #[inline]
    fn take(&mut self, i: usize) -> Option<Buf> {
        if self.taken >> i & 1 == 1 {
            return None;
        }
        let slot = &mut self.window[..self.open][i];
        let id = self.order.take(slot.place as usize).and_then(Entry::id)?;
        let buf = self.cache.take(id, self.dma_off + self.prefix, slot.len as usize)?;
        slot.len = 0; // the bytes are the buffer's alone now
        self.taken |= 1 << i;
        Some(buf)
    }
}

impl Clocked for RingRx {
    fn clock(&self) -> ClockInfo {
        self.stamper.clock()
    }
}

impl Waitable for RingRx {
    fn fd(&self) -> BorrowedFd<'_> {
        self.session.fd()
    }

    fn arm(&mut self) -> Result<(), Error> {
        self.session.prime()
    }
}

impl Steer for RingRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        self.rules.add(&mut self.session, flow)
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        self.rules.remove(&mut self.session, rule)
    }
}

/// Shows a frame out of the hot loop, so that the closure's code is in there once.
#[cold]
#[inline(never)]
fn seldom<F: FnMut(RxFrame<'_>)>(f: &mut F, frame: RxFrame<'_>) {
    f(frame);
}
