//! The receiving end.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, PoisonError};

use super::port::{Arrival, Wire};
use super::ring::{Consumer, Producer};
use crate::buf::Buf;
use crate::clock::{ClockInfo, Clocked};
use crate::error::{Error, ErrorKind, SetupError};
use crate::flow::FlowSpec;
use crate::frame::{MAX_BURST, RxFrame, RxMeta};
use crate::pool::{FrameCache, Pool};
use crate::rx::{BufRx, FrameRx};
use crate::stats::RxStats;
use crate::steer::{RuleId, Steer};
use crate::wait::Waitable;

/// The receiving end of a [`pair`](super::pair).
///
/// Frames arrive in buffers of [its pool](Self::pool). Without rules every frame is delivered;
/// with [rules](Steer) only those that one of them matches, marked with its id, and the others
/// count as [`RxStats::filtered`].
pub struct LoopRx {
    frames: FrameCache,
    posted: Producer<u32>,
    arrived: Consumer<Arrival>,
    wire: Arc<Wire>,
    stamps: bool,
    /// The open window.
    window: [Shown; MAX_BURST],
    len: usize,
    /// One bit per frame of the window: taken out.
    taken: u64,
    /// Buffers that could not be posted again because the pool was empty.
    missing: usize,
    rules: Vec<(RuleId, FlowSpec)>,
    next_rule: u32,
    stats: RxStats,
}

/// One frame of the window.
#[derive(Debug, Clone, Copy)]
struct Shown {
    id: u32,
    meta: RxMeta,
}

const NOT_SHOWN: Shown = Shown { id: 0, meta: RxMeta::plain(0) };

impl LoopRx {
    pub(super) fn new(
        frames: FrameCache,
        posted: Producer<u32>,
        arrived: Consumer<Arrival>,
        wire: Arc<Wire>,
        stamps: bool,
    ) -> Self {
        let missing = frames.available();
        let mut rx = Self {
            frames,
            posted,
            arrived,
            wire,
            stamps,
            window: [NOT_SHOWN; MAX_BURST],
            len: 0,
            taken: 0,
            missing,
            rules: Vec::new(),
            next_rule: 1,
            stats: RxStats::default(),
        };
        rx.refill();
        rx.posted.publish();
        rx
    }

    /// The pool that frames arrive in and that [`take`](BufRx::take) takes from.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.frames.pool()
    }

    /// Posts new buffers in place of those that were taken, as far as the pool has any.
    fn refill(&mut self) {
        while self.missing > 0 {
            let Some(id) = self.frames.alloc() else { return };
            self.post(id);
            self.missing -= 1;
        }
    }

    /// Puts a buffer up for the card; `publish` shows it.
    #[inline]
    fn post(&mut self, id: u32) {
        // As many buffers as slots are posted, on the way or in the window: never full.
        let posted = self.posted.stage(id);
        debug_assert!(posted, "more buffers than ring slots");
    }

    /// The next frame, of those that a rule wants if there are rules.
    #[inline(always)]
    fn next_wanted(&mut self) -> Option<Shown> {
        if !self.rules.is_empty() {
            return self.next_matching();
        }
        let a = self.arrived.next()?;
        let meta = RxMeta { ts_ns: a.ts_ns, flags: a.flags, ..RxMeta::plain(a.len as usize) };
        Some(Shown { id: a.id, meta })
    }

    #[cold]
    fn next_matching(&mut self) -> Option<Shown> {
        while let Some(a) = self.arrived.next() {
            let bytes = self.bytes(a.id, a.len as usize);
            if let Some((rule, _)) = self.rules.iter().find(|(_, flow)| flow.matches(bytes)) {
                let plain = RxMeta::plain(a.len as usize);
                let meta = RxMeta { ts_ns: a.ts_ns, flags: a.flags, mark: rule.0, ..plain };
                return Some(Shown { id: a.id, meta });
            }
            self.stats.filtered += 1;
            self.post(a.id);
        }
        None
    }

    #[inline]
    fn bytes(&self, id: u32, len: usize) -> &[u8] {
        let pool = self.frames.pool();
        debug_assert!(self.frames.is_lent(id));
        let offset = id as usize * pool.frame_bytes() + pool.headroom();
        // SAFETY: a frame of our cache, and `len` was checked against its size by the sender's
        // `max_len`. It has arrived and has not been posted again, so the card does not write
        // it. The slice borrows `self`, and every method that posts it takes `&mut self`.
        unsafe { std::slice::from_raw_parts(pool.region().as_ptr().add(offset), len) }
    }

    #[inline]
    fn count(&mut self, meta: &RxMeta) {
        self.stats.frames += 1;
        self.stats.bytes += u64::from(meta.wire_len);
    }
}

impl FrameRx for LoopRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.release();
        let max = max.min(MAX_BURST);
        if self.arrived.ready(max) == 0 {
            return Ok(0);
        }
        while self.len < max
            && let Some(shown) = self.next_wanted()
        {
            self.count(&shown.meta);
            if let Some(place) = self.window.get_mut(self.len) {
                *place = shown;
                self.len += 1;
            }
        }
        self.arrived.publish();
        if self.len == 0 {
            // All filtered: their buffers are posted again, though no window is open.
            self.posted.publish();
        }
        Ok(self.len)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    /// A frame that was taken shows no bytes any more: they are the [`Buf`]'s alone, which may
    /// be written or sent while the window is still open.
    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        let Shown { id, meta } = self.window[..self.len][i];
        let gone = self.taken >> i & 1 == 1;
        let bytes = if gone { &[] } else { self.bytes(id, meta.wire_len as usize) };
        RxFrame { bytes, meta }
    }

    #[inline]
    fn release(&mut self) {
        if self.len == 0 && self.missing == 0 {
            // An empty poll writes nothing: the line of the index stays with the sender.
            return;
        }
        let shown = std::mem::take(&mut self.len);
        // As many as there are: the bound is one that the compiler sees, too.
        for i in 0..shown.min(MAX_BURST) {
            if self.taken >> i & 1 == 0 {
                self.post(self.window[i].id);
            }
        }
        self.taken = 0;
        if self.missing > 0 {
            self.refill();
        }
        self.posted.publish();
    }

    fn stats(&mut self) -> RxStats {
        RxStats { no_buffer: self.wire.no_buffer.load(Ordering::Relaxed), ..self.stats }
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        Some(self)
    }

    /// Visits and recycles in one pass, without a window in between.
    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        self.release();
        if self.arrived.ready(max) == 0 {
            return Ok(0);
        }
        let mut visited = 0;
        let rx = Recycle { rx: self };
        while visited < max
            && let Some(shown) = rx.rx.next_wanted()
        {
            visited += 1;
            rx.rx.count(&shown.meta);
            // On the window in case that `f` panics: `Recycle` posts what is there.
            rx.rx.window[0] = shown;
            rx.rx.len = 1;
            f(RxFrame {
                bytes: rx.rx.bytes(shown.id, shown.meta.wire_len as usize),
                meta: shown.meta,
            });
            rx.rx.len = 0;
            rx.rx.post(shown.id);
        }
        Ok(visited)
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

/// Ends a fused poll, also by a panic of the handler: shows the card what was recycled.
struct Recycle<'a> {
    rx: &'a mut LoopRx,
}

impl Drop for Recycle<'_> {
    #[inline]
    fn drop(&mut self) {
        self.rx.release();
        self.rx.arrived.publish();
        self.rx.posted.publish();
    }
}

impl BufRx for LoopRx {
    #[inline]
    fn take(&mut self, i: usize) -> Option<Buf> {
        let Shown { id, meta } = self.window[..self.len][i];
        if self.taken >> i & 1 == 1 {
            return None;
        }
        let headroom = self.frames.pool().headroom();
        let buf = self.frames.take(id, headroom, meta.wire_len as usize)?;
        self.taken |= 1 << i;
        self.missing += 1;
        Some(buf)
    }
}

impl Steer for LoopRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        let rule = RuleId(self.next_rule);
        self.next_rule += 1;
        self.rules.push((rule, *flow));
        Ok(rule)
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        let Some(at) = self.rules.iter().position(|(id, _)| *id == rule) else {
            let what = format!("there is no rule {}", rule.0);
            return Err(SetupError::new(ErrorKind::BadArgument, "Steer::remove", what));
        };
        self.rules.remove(at);
        Ok(())
    }
}

impl Clocked for LoopRx {
    fn clock(&self) -> ClockInfo {
        if self.stamps { ClockInfo::KERNEL } else { ClockInfo::NONE }
    }
}

impl Waitable for LoopRx {
    fn fd(&self) -> BorrowedFd<'_> {
        self.wire.event.as_fd()
    }

    fn arm(&mut self) -> Result<(), Error> {
        // What the last wake-up left behind goes first: a wake-up after `armed` is set must stay.
        let mut count = [0_u8; 8];
        // SAFETY: `read` may write 8 bytes. EAGAIN: nothing was left behind.
        unsafe { libc::read(self.wire.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        self.wire.armed.store(true, Ordering::Relaxed);
        // Before the caller polls once more: see `LoopTx::wake`.
        fence(Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for LoopRx {
    fn drop(&mut self) {
        self.wire.rx_gone.store(true, Ordering::Relaxed);
        // The card may still be writing to posted buffers: see `Wire::rx_frames`.
        let none = self.frames.pool().cache();
        let frames = std::mem::replace(&mut self.frames, none);
        *self.wire.rx_frames.lock().unwrap_or_else(PoisonError::into_inner) = Some(frames);
    }
}

impl fmt::Debug for LoopRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopRx").field("stats", &self.stats).finish_non_exhaustive()
    }
}
