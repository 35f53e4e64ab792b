//! The receive half of a queue.

mod anywhere;
mod fill;
mod meta;
mod rules;
mod run;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use linerate_common::clock::PhcWatch;
use linerate_common::pool::{FrameCache, Pool};
use linerate_common::{
    Buf, BufRx, Error, ErrorKind, FrameRx, MAX_BURST, RxFrame, RxMeta, RxStats, Waitable,
};

use crate::port::Shared;
use crate::ring::{Consumer, Desc, Producer};
use crate::socket::Socket;
use crate::sys::{self, XdpStatistics};
use crate::view::View;

pub(crate) use meta::Stamping;
use meta::{meta_of, meta_of_burst};
use run::in_place;

/// Receives the frames of one queue.
///
/// Frames lie in the pool, where the card (zero-copy) or the kernel (copy mode) put them, and are
/// lent from there. A spinning `poll` makes no system call, but for two cases: the driver asked to
/// be woken because the fill ring had run dry, and [`busy_poll`](crate::Options::busy_poll), whose
/// calls run the driver.
///
/// An interface that is deleted is an error ([`ErrorKind::DeviceGone`]) as soon as `arm` or `stats`
/// has had a look: a spinning `poll` asks nobody. One that only goes down and comes up again needs
/// nothing. Queues that are added under a port of all queues ([`ErrorKind::QueueLost`]) are noticed
/// by `stats`, and by `arm` within a second. So is a card's clock that is moved between UTC and TAI:
/// from there on stamps follow it, flagged `TS_UNSYNCED` until the next look has found the same, and
/// [`clock`](linerate_common::Clocked::clock) says so; until a look they are wrong by the difference.
/// **A reader that spins asks `stats` now and then (once a second), or learns of neither.**
///
/// Frames that the kernel could not deliver are in [`stats`](FrameRx::stats):
///
/// | loss | from |
/// |---|---|
/// | `no_buffer` | copy mode: the fill ring was empty. In zero-copy mode the card drops such frames and counts them itself (`ethtool -S`) |
/// | `ring_full` | the receive ring was full: this reader was slow |
/// | `truncated` | longer than a buffer (a jumbo frame, or several merged by LRO); thrown away whole |
/// | `malformed` | descriptors that did not name one of our frames; none are known to happen |
#[derive(Debug)]
pub struct XdpRx {
    socket: Arc<Socket>,
    shared: Arc<Shared>,
    rx: Consumer<Desc>,
    fill: Producer<u64>,
    frames: FrameCache,
    /// Frames to have lent to the kernel at any time.
    lend: u32,
    view: View,
    /// Slots of the fill ring that were written since a frame was taken last, at most its size.
    /// All of them: each slot names a frame that is lent. That is what [`in_place`] needs.
    settled: u32,
    window: Box<[Slot; MAX_BURST]>,
    /// What the window's frames come with, where each brings its own.
    metas: Box<[RxMeta; MAX_BURST]>,
    /// The same for all frames of the window, but for the length, where they do not.
    meta: RxMeta,
    len: usize,
    /// Descriptors of the receive ring that the open window, or a poll that panicked, covers.
    open: u32,
    /// All of these name the frame that the slot of the fill ring names in which it belongs.
    in_place: bool,
    stamps: Stamping,
    /// Of the card's clock, where that gives the stamps and can be read.
    phc: Option<PhcWatch>,
    busy_poll: bool,
    /// The interface was seen to be gone, or to have got more queues than the port has.
    trouble: Option<ErrorKind>,
    /// When the number of queues was last asked for.
    asked: Instant,
    stats: RxStats,
}

/// How often a reader that sleeps asks for the number of queues.
const ASK: Duration = Duration::from_secs(1);

/// A frame of the window.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Where it begins in the region.
    at: usize,
    /// Its bytes that may be shown: none once it was taken.
    len: u32,
}

impl XdpRx {
    /// All frames that `frames` has reserved are lent to the kernel, at once and from then on.
    pub(crate) fn new(
        socket: Arc<Socket>,
        shared: Arc<Shared>,
        frames: FrameCache,
        rx: Consumer<Desc>,
        fill: Producer<u64>,
        stamps: Stamping,
        busy_poll: bool,
    ) -> Self {
        let pool = frames.pool();
        let lend = (frames.available() as u32).min(fill.size());
        let cookie = shared.steering.as_ref().map_or(0, |s| s.meta_cookie());
        let view = View::new(pool, cookie);
        let mut queue = Self {
            socket,
            shared,
            rx,
            fill,
            frames,
            lend,
            view,
            settled: 0,
            window: Box::new([Slot { at: 0, len: 0 }; MAX_BURST]),
            metas: Box::new([RxMeta::plain(0); MAX_BURST]),
            meta: RxMeta::plain(0),
            len: 0,
            open: 0,
            in_place: false,
            stamps,
            phc: None,
            busy_poll,
            trouble: None,
            asked: Instant::now(),
            stats: RxStats::default(),
        };
        queue.refill(0);
        queue
    }

    /// Hardware stamps are by the clock that this watches.
    pub(crate) fn watch(&mut self, phc: PhcWatch) {
        self.stamps.hardware = Some(phc.scale());
        self.phc = Some(phc);
    }

    /// Frames may have metadata in front that begins with `cookie`.
    #[cfg(any(all(test, not(loom)), fuzzing))]
    pub(crate) fn expect_meta(&mut self, cookie: u64) {
        self.view = View::new(self.frames.pool(), cookie);
    }

    /// The receive queue of the card.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.socket.queue()
    }

    /// The pool that frames arrive in.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.frames.pool()
    }

    /// Does it share its pool's registration in the kernel with another socket?
    #[must_use]
    pub fn shares_registration(&self) -> bool {
        self.socket.is_shared()
    }

    /// The kernel's own counters (`XDP_STATISTICS`). One system call.
    #[must_use]
    pub fn kernel_stats(&self) -> XdpStatistics {
        self.socket.statistics()
    }

    #[cfg(test)]
    pub(crate) fn clock_is_hardware(&self) -> bool {
        self.stamps.hardware.is_some()
    }

    /// Where the frame starts that a descriptor names, if it names one that we lent to the kernel.
    #[inline]
    fn check(&self, desc: Desc) -> Option<u64> {
        self.view.lent_start(desc.addr, desc.len, self.frames.lent_bits())
    }

    /// Nothing is there: wakes the driver if it sleeps, or runs it in busy-poll mode.
    #[inline]
    fn idle(&mut self) -> Result<usize, Error> {
        if self.busy_poll || self.trouble.is_some() || self.fill.wants_wakeup() {
            return self.wake();
        }
        Ok(0)
    }

    #[cold]
    fn wake(&mut self) -> Result<usize, Error> {
        if let Some(kind) = self.trouble {
            return Err(in_trouble(kind, "acquire"));
        }
        match sys::wake_rx(self.socket.as_fd()) {
            Ok(()) | Err(libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ENOBUFS) => Ok(0),
            Err(errno) => Err(Error::os("recvfrom", errno)),
        }
    }

    fn look_for_loss(&mut self) {
        if self.socket.has_lost_its_interface() {
            self.trouble = Some(ErrorKind::DeviceGone);
        }
    }

    /// Looks whether the card's clock tells what it told, at most once a second.
    fn look_at_the_clock(&mut self) {
        if let Some(phc) = &mut self.phc {
            self.stamps.hardware = Some(phc.look());
        }
    }

    /// Frames on queues that came after the port was opened go to the kernel, and no counter of
    /// ours sees them: a port of all queues has to be opened again.
    fn look_for_trouble(&mut self) {
        self.look_for_loss();
        self.asked = Instant::now();
        if self.trouble.is_none() && self.shared.has_outgrown_the_port() {
            self.trouble = Some(ErrorKind::QueueLost);
        }
    }
}

#[cold]
fn in_trouble(kind: ErrorKind, op: &'static str) -> Error {
    match kind {
        ErrorKind::QueueLost => Error::new(kind, "queues (more than when it was opened)"),
        _ => Error::new(kind, op),
    }
}

impl FrameRx for XdpRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.release();
        let n = self.rx.available(max.min(MAX_BURST) as u32);
        if n == 0 {
            return self.idle();
        }
        self.open = n;
        let mut read = 0;
        if let Some((from, to)) = self.places(n) {
            let mut window = self.window.as_mut_ptr();
            let bytes;
            // SAFETY: `places` said so. The window is written no more often than there are open
            // descriptors, which are no more than it has places.
            (read, bytes) = unsafe {
                in_place(self.view, from, to, n, |at, len| {
                    window.write(Slot { at, len });
                    window = window.add(1);
                })
            };
            self.stats.bytes += bytes;
            self.len = read as usize;
        }
        self.in_place = read == n;
        if !self.in_place {
            self.acquire_anywhere(read);
        }
        self.stats.frames += self.len as u64;
        if self.view.has_meta() {
            let mut now = None;
            for (slot, meta) in self.window[..self.len].iter().zip(&mut *self.metas) {
                *meta = meta_of(self.view, self.stamps, slot.at, slot.len, &mut now);
            }
        } else {
            self.meta = meta_of_burst(self.stamps);
        }
        Ok(self.len)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        let Slot { at, len } = self.window[..self.len][i];
        let meta = if self.view.has_meta() {
            self.metas[i % MAX_BURST]
        } else {
            RxMeta { wire_len: len, ..self.meta }
        };
        // SAFETY: checked when the window was opened. The frame is out of the kernel's hands
        // until `release`, which needs the queue to itself.
        RxFrame { bytes: unsafe { self.view.bytes(at, len as usize) }, meta }
    }

    #[inline]
    fn release(&mut self) {
        if self.open > 0 {
            self.close();
        }
    }

    fn stats(&mut self) -> RxStats {
        self.look_for_trouble();
        self.look_at_the_clock();
        let kernel = self.socket.statistics();
        self.stats.ring_full = kernel.rx_ring_full;
        if self.socket.is_zero_copy() {
            self.stats.kernel_drop = kernel.rx_dropped;
        } else {
            // In copy mode each frame without a buffer is counted twice: once as such, once as
            // dropped. The rest was too long.
            self.stats.no_buffer = kernel.rx_fill_ring_empty_descs;
            let too_long = kernel.rx_dropped.saturating_sub(kernel.rx_fill_ring_empty_descs);
            self.stats.truncated = self.stats.truncated.max(too_long);
        }
        self.stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        Some(self)
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        self.release();
        let n = self.rx.available(u32::try_from(max).unwrap_or(u32::MAX));
        if n == 0 {
            return self.idle();
        }
        // Should `f` panic, this makes the next call recycle all of them.
        self.open = n;
        let (view, meta) = (self.view, meta_of_burst(self.stamps));
        let (mut shown, mut bytes) = (0, 0);
        if !view.has_meta()
            && let Some((from, to)) = self.places(n)
        {
            let show = |at, len| {
                // SAFETY: a frame that was lent and has come back, as `in_place` found; the kernel
                // gets it again only when the fill ring is submitted.
                let bytes = unsafe { view.bytes(at, len as usize) };
                f(RxFrame { bytes, meta: RxMeta { wire_len: len, ..meta } });
            };
            // SAFETY: `places` said so.
            (shown, bytes) = unsafe { in_place(view, from, to, n, show) };
        }
        if shown == n {
            self.finish(n);
        } else {
            let (more, len) = self.run_anywhere(shown, meta, &mut f);
            (shown, bytes) = (shown + more, bytes + len);
        }
        self.stats.frames += u64::from(shown);
        self.stats.bytes += bytes;
        Ok(shown as usize)
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl BufRx for XdpRx {
    #[inline]
    fn take(&mut self, i: usize) -> Option<Buf> {
        let slot = &mut self.window[..self.len][i];
        let id = self.view.id(slot.at as u64);
        let offset = self.view.offset(slot.at);
        let buf = self.frames.take(id, offset, slot.len as usize)?;
        slot.len = 0; // the bytes are the buffer's alone now
        (self.settled, self.in_place) = (0, false);
        Some(buf)
    }
}

impl Waitable for XdpRx {
    #[inline]
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket is readable while its ring is not empty, and waiting on it wakes the driver:
    /// nothing to arm. One system call to see whether the interface is still there, and once a second
    /// some more to see whether it has got queues that a port of all queues does not have, and what
    /// the card's clock tells.
    fn arm(&mut self) -> Result<(), Error> {
        self.look_at_the_clock();
        if self.asked.elapsed() < ASK {
            self.look_for_loss();
        } else {
            self.look_for_trouble();
        }
        self.trouble.map_or(Ok(()), |kind| Err(in_trouble(kind, "arm")))
    }
}

impl Drop for XdpRx {
    fn drop(&mut self) {
        if let Some(steering) = &self.shared.steering {
            steering.leave_queue(self.socket.queue());
        }
        // The transmit half may keep the socket open, and the kernel these frames with it.
        let empty = self.frames.pool().cache();
        self.socket.keep(std::mem::replace(&mut self.frames, empty));
    }
}
