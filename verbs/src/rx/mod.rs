//! Receiving: completions are shown as they are read, and their buffers posted again in one list.

mod buffers;
mod recovery;
mod window;

use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use linerate_common::pool::FrameCache;
use linerate_common::{
    ClockInfo, Clocked, Error, ErrorKind, FlowSpec, FrameRx, MAX_BURST, RuleId, RxFlags, RxFrame,
    RxMeta, RxStats, SetupError, Steer, Waitable,
};
use linerate_ibverbs_sys as sys;

use crate::clock::{StampClock, read_counter};
use crate::counter::NoBuffer;
use crate::cq::{Completion, Reader};
use crate::event::Watch;
use crate::flow::FlowRule;
use crate::memory::Mr;
use crate::queue::RecvQueue;
use crate::seats::{Layout, Seats, Taken};
use crate::steering::Steering;
use window::Slot;

/// Completions that are no frames in one call, before it returns with what it has.
const BAD_PER_CALL: u32 = MAX_BURST as u32;

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
    /// Of an extended completion queue, which is the usual kind.
    reader: Option<Reader>,
    seats: Seats,
    /// Where in a buffer frames begin, and what the card puts in front of that.
    start: usize,
    prefix: u32,
    /// Longest frame that a buffer holds.
    max_len: u32,
    window: Box<[Option<Slot>; MAX_BURST]>,
    len: usize,
    /// The queue fell into the error state; told after the window at hand.
    failed: Option<Error>,
    done: Box<[Completion; MAX_BURST]>,
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
        // More may be granted than was asked for; but no more than the completion queue holds.
        let depth = parts.slots.min(parts.queue.cq().capacity()).min(pool.frames());
        let write_at = pool.headroom().saturating_sub(parts.prefix);
        let start = write_at + parts.prefix;
        let seats = Seats::new(
            depth,
            Layout {
                base: pool.region().as_ptr(),
                frame_bytes: pool.frame_bytes(),
                write_at,
                prefix: parts.prefix,
                lkey: parts.mr.lkey(),
            },
        );
        let mut rx = Self {
            flows: parts.flows,
            reader: parts.queue.cq().reader(),
            queue: parts.queue,
            watch: parts.watch,
            clock: parts.clock,
            seats,
            start,
            prefix: parts.prefix as u32,
            max_len: pool.frame_bytes().saturating_sub(start) as u32,
            cache: ManuallyDrop::new(parts.cache),
            window: Box::new([None; MAX_BURST]),
            len: 0,
            failed: None,
            done: Box::new([Completion::default(); MAX_BURST]),
            recover_by_itself: parts.recover,
            no_buffer_before: parts.no_buffer.read(),
            no_buffer: parts.no_buffer,
            stats: RxStats::default(),
        };
        rx.start()?;
        read_counter(&mut rx.clock, rx.queue.context());
        Ok(rx)
    }

    /// A completion's place, length and metadata, when it is of a frame.
    #[inline(always)]
    fn accept(&mut self, done: Completion) -> Option<(Taken, u32, RxMeta)> {
        if done.status != sys::IBV_WC_SUCCESS {
            self.unusable(done.wr_id, done.status);
            return None;
        }
        let Some(taken) = self.seats.completed(done.wr_id) else {
            self.unusable(done.wr_id, done.status);
            return None;
        };
        // Less than the prefix wraps around to too much.
        let len = done.byte_len.wrapping_sub(self.prefix);
        if len > self.max_len {
            self.unusable(done.wr_id, done.status);
            return None;
        }
        let (ts_ns, mut flags) = match self.clock.usual(done.stamp) {
            Some(time) => time,
            None => self.stamp(done.stamp),
        };
        if done.wc_flags & sys::IBV_WC_IP_CSUM_OK != 0 {
            flags |= RxFlags::CSUM_OK;
        }
        Some((taken, len, RxMeta { ts_ns, wire_len: len, flags, mark: done.tag }))
    }

    /// The time of a stamp that is not the usual kind.
    #[cold]
    fn stamp(&mut self, raw: u64) -> (u64, RxFlags) {
        self.clock.utc_at(raw, self.queue.context())
    }

    /// What there is to do before a burst, most of which there never is.
    #[inline(always)]
    fn prepare(&mut self) -> Result<(), Error> {
        self.release();
        if self.failed.is_some() { self.settle() } else { Ok(()) }
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
        self.seats.clear();
        self.failed = None;
        self.start().map_err(lost)
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
        self.prepare()?;
        let max = max.min(MAX_BURST);
        if max == 0 {
            return Ok(0);
        }
        match self.reader {
            Some(reader) => {
                let mut bad = BAD_PER_CALL;
                // SAFETY: the queue holds its completion queue, and owns it.
                let reading = unsafe { reader.begin() }?;
                if let Some(reading) = reading {
                    reading.each_received(|done| self.open(done, max, &mut bad));
                }
            }
            None => {
                let n = self.queue.cq().poll(&mut self.done[..max])?;
                (0..n).for_each(|i| _ = self.open(self.done[i], max, &mut 0));
            }
        }
        if self.len == 0 {
            self.nothing()?;
        }
        Ok(self.len)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        let Some(slot) = self.window.get(..self.len).and_then(|w| w.get(i).copied().flatten())
        else {
            panic!("frame {i} of {}", self.len)
        };
        // SAFETY: `accept` checked that the frame fits its buffer and that the buffer was with
        // the card, which has completed it and does not write it until it is posted again; that
        // takes `&mut self`. Of a buffer that was taken out no byte is shown.
        let bytes = unsafe { std::slice::from_raw_parts(slot.frame, slot.len as usize) };
        RxFrame { bytes, meta: slot.meta }
    }

    #[inline]
    fn release(&mut self) {
        if self.len > 0 {
            self.close();
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
        self.prepare()?;
        let Some(reader) = &self.reader else { return self.poll_window(max, f) };
        let max = max.min(MAX_BURST) as u64;
        if max == 0 {
            return Ok(0);
        }
        // SAFETY: the queue holds its completion queue, and owns it.
        let Some(reading) = unsafe { reader.begin() }? else {
            self.nothing()?;
            return Ok(0);
        };
        let mut bad = BAD_PER_CALL;
        let before = self.stats.frames;
        let last = before + max;
        let turn = Turn(self);
        reading.each_received(|done| {
            let rx = &mut *turn.0;
            let Some((taken, len, meta)) = rx.accept(done) else { return more(&mut bad) };
            // Before `f`: when it panics, this buffer goes back to the card as well.
            rx.seats.link(taken);
            rx.stats.frames += 1;
            rx.stats.bytes += u64::from(len);
            // SAFETY: `accept` checked that the frame fits its buffer and that the buffer was
            // with the card, which does not write it before it is posted: when `f` is through.
            let bytes = unsafe { std::slice::from_raw_parts(rx.seats.frame(taken), len as usize) };
            f(RxFrame { bytes, meta });
            if rx.stats.frames == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        drop(turn);
        Ok((self.stats.frames - before) as usize)
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

/// After a completion that was no frame: is there patience for more?
#[cold]
fn more(bad: &mut u32) -> ControlFlow<()> {
    *bad = bad.saturating_sub(1);
    if *bad > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// A fused poll: at its end, be it a panic of the handler, the buffers go back to the card.
struct Turn<'a>(&'a mut VerbsRx);

impl Drop for Turn<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.post();
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
