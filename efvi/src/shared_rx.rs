//! Receiving by packet reference: X3 and the low-latency datapath of X4 (efct).
//!
//! The card writes into buffers of the kernel that several programs may share; an event names a
//! frame in them. A frame is borrowed for the length of a window and must then be released, for
//! each one pins a whole buffer: so there is no [`BufRx`](linerate_common::BufRx) here.
//!
//! On a shared receive queue frames that other programs steered arrive too. Open the queue with
//! `exclusive`, or drop them by name with [`SharedRx::own_flows_only`].

mod events;
mod run;

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::time::Duration;

use linerate_common::{
    ClockInfo, Clocked, Error, FlowSpec, FrameRx, MAX_BURST, RuleId, RxFrame, RxMeta, RxStats,
    SetupError, Steer, Waitable,
};
use linerate_efvi_sys::{EF_VI_RX_TIMESTAMPS, EFCT_FUTURE_VALID_BYTES, Library, ef_event, ef_vi};

use crate::discard::Discards;
use crate::filter::Rules;
use crate::future::Future;
use crate::options::Options;
use crate::session::Session;
use crate::stamp::{StampState, Stamper};

/// Events fetched at once.
const EVENTS: usize = MAX_BURST;

/// Longest frame the card can refer to: a packet's share of a buffer.
const MAX_FRAME: usize = 2048;

/// A receive queue of packet references.
#[derive(Debug)]
pub struct SharedRx {
    session: Session,
    vi: *mut ef_vi,
    lib: Library,
    deliver_bad: bool,
    own_flows_only: bool,
    flows: Vec<FlowSpec>,
    events: Box<[ef_event; EVENTS]>,
    event_at: usize,
    event_n: usize,
    /// Empty while it is being filled.
    window: Box<[Slot]>,
    open: usize,
    lost: Option<Error>,
    stamper: Stamper,
    stats: RxStats,
    discards: Discards,
    unknown_events: u64,
    rules: Rules,
    options: Options,
}

// SAFETY: the pointers are to the session's own VI and to the kernel's buffers, which the VI
// keeps mapped; neither is bound to a thread, and the queue has one owner.
unsafe impl Send for SharedRx {}

/// A frame that has not been released yet.
#[derive(Debug, Clone, Copy)]
struct Slot {
    pkt_id: u32,
    len: u32,
    start: *const u8,
    meta: RxMeta,
}

impl Slot {
    const NONE: Self =
        Self { pkt_id: 0, len: 0, start: NonNull::dangling().as_ptr(), meta: RxMeta::plain(0) };

    /// The frame.
    ///
    /// # Safety
    ///
    /// The slot is not released while the frame is looked at.
    #[inline(always)]
    unsafe fn frame(&self) -> RxFrame<'_> {
        // SAFETY: the library gave the address for a frame of that length, which nobody writes
        // until it is released.
        let bytes = unsafe { std::slice::from_raw_parts(self.start, self.len as usize) };
        RxFrame { bytes, meta: self.meta }
    }
}

impl SharedRx {
    /// Takes over a session whose VI was allocated with a receive queue.
    pub(crate) fn new(session: Session, options: &Options) -> Self {
        let (lib, vi) = (session.lib(), session.vi());
        // SAFETY: live and checked.
        let flags = unsafe { lib.flags(vi) };
        Self {
            vi,
            lib,
            deliver_bad: options.deliver_bad,
            own_flows_only: false,
            flows: Vec::new(),
            events: Box::new([ef_event::default(); EVENTS]),
            event_at: 0,
            event_n: 0,
            window: Box::new([Slot::NONE; MAX_BURST]),
            open: 0,
            lost: None,
            stamper: Stamper::new(flags & EF_VI_RX_TIMESTAMPS != 0, options.clock_ahead_of_utc_s),
            stats: RxStats::default(),
            discards: Discards::default(),
            unknown_events: 0,
            rules: Rules::new(options),
            options: options.clone(),
            session,
        }
    }

    /// Drops frames that none of this queue's own flows matches, in software, and counts them as
    /// `filtered`: for queues shared with other programs.
    pub fn own_flows_only(&mut self, on: bool) {
        self.own_flows_only = on;
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

    /// Sleeps in the driver until something happens (`ef_eventq_wait`). `Ok(false)`: the time ran
    /// out or a signal came. Poll until empty first. The queue must have a flow.
    ///
    /// # Errors
    ///
    /// The driver refused.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        if self.event_at < self.event_n {
            return Ok(true);
        }
        self.session.wait(timeout)
    }

    /// A frame that is just arriving: its first 62 bytes are there, the rest and the verdict on
    /// its check sequence are not. `None`: none is arriving, or frames that came before it are
    /// waiting to be read.
    ///
    /// Cut-through: decide on the first bytes, then [`Future::finish`].
    #[inline]
    pub fn future(&mut self) -> Option<Future<'_>> {
        self.release();
        if self.event_at < self.event_n || self.lost.is_some() {
            return None;
        }
        // SAFETY: a live VI.
        let at = unsafe { (self.lib.efct_vi_rx_future_peek)(self.vi) }.cast::<u8>();
        if at.is_null() {
            return None;
        }
        // SAFETY: the library vouches for that many bytes, which stay mapped while the queue is
        // borrowed.
        Some(unsafe { Future::new(self, at, EFCT_FUTURE_VALID_BYTES) })
    }

    /// Fetches the events of the frame that `future` announced.
    pub(crate) fn finish_future<F: FnMut(RxFrame<'_>)>(&mut self, f: F) -> Result<usize, Error> {
        let room = EVENTS as i32;
        // SAFETY: a live VI that has just announced a frame, and room for the events.
        let got =
            unsafe { (self.lib.efct_vi_rx_future_poll)(self.vi, self.events.as_mut_ptr(), room) };
        self.fetched(got, EVENTS);
        self.show_all(MAX_BURST, f)
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn recipe(&self) -> (String, Options, Vec<FlowSpec>) {
        (self.session.name().to_owned(), self.options.clone(), self.rules.flows().collect())
    }

    #[inline]
    fn nothing(&self) -> Result<usize, Error> {
        match self.lost {
            None => Ok(0),
            Some(e) => Err(e),
        }
    }

    /// Shows the frames fetched, at most `max`, each released right after.
    #[inline]
    fn show_all<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        let mut n = 0;
        loop {
            n += self.show_run(max - n, &mut f);
            if n >= max || self.event_at >= self.event_n {
                break;
            }
            let Some(slot) = self.next() else { break };
            n += 1;
            seldom(&mut f, &Shown::new(self, slot));
        }
        if n == 0 { self.nothing() } else { Ok(n) }
    }
}

/// A frame while it is shown. Dropping it releases the frame, also when the closure panics.
struct Shown {
    slot: Slot,
    vi: *mut ef_vi,
    release: unsafe extern "C" fn(*mut ef_vi, u32),
}

impl Shown {
    #[inline(always)]
    fn new(rx: &SharedRx, slot: Slot) -> Self {
        Self { slot, vi: rx.vi, release: rx.lib.efct_vi_rxpkt_release }
    }
}

impl Drop for Shown {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the queue's live VI, and a reference out of its events which nobody else has.
        unsafe { (self.release)(self.vi, self.slot.pkt_id) };
    }
}

/// Shows a frame out of the hot loop, so that the closure's code is in there once.
#[cold]
#[inline(never)]
fn seldom<F: FnMut(RxFrame<'_>)>(f: &mut F, shown: &Shown) {
    // SAFETY: the slot is released when `shown` goes.
    f(unsafe { shown.slot.frame() });
}

impl FrameRx for SharedRx {
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
        if n == 0 { self.nothing() } else { Ok(n) }
    }

    #[inline]
    fn len(&self) -> usize {
        self.open
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        let slot = &self.window[..self.open][i];
        // SAFETY: slots of the open window are not released, which needs `self` exclusively.
        unsafe { slot.frame() }
    }

    #[inline]
    fn release(&mut self) {
        let (vi, release) = (self.vi, self.lib.efct_vi_rxpkt_release);
        for slot in self.window.get(..self.open).unwrap_or_default() {
            // SAFETY: a live VI, and each reference of the window is released once.
            unsafe { release(vi, slot.pkt_id) };
        }
        self.open = 0;
    }

    fn stats(&mut self) -> RxStats {
        self.stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        Some(self)
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, f: F) -> Result<usize, Error> {
        self.release();
        if self.lost.is_some() || max == 0 || !self.fetch(max) {
            return self.nothing();
        }
        self.show_all(max, f)
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl Drop for SharedRx {
    fn drop(&mut self) {
        self.release();
        if self.lost.is_some() {
            return;
        }
        // Frames of events that nobody read are ours to release too.
        while let Some(slot) = self.next() {
            self.give_back(slot.pkt_id);
        }
    }
}

impl Clocked for SharedRx {
    fn clock(&self) -> ClockInfo {
        self.stamper.clock()
    }
}

impl Waitable for SharedRx {
    fn fd(&self) -> BorrowedFd<'_> {
        self.session.fd()
    }

    fn arm(&mut self) -> Result<(), Error> {
        self.session.prime()
    }
}

impl Steer for SharedRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        let added = self.rules.add(&mut self.session, flow);
        self.flows = self.rules.flows().collect();
        added
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        let removed = self.rules.remove(&mut self.session, rule);
        self.flows = self.rules.flows().collect();
        removed
    }
}
