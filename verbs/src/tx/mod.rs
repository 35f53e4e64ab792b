//! Sending: requests are linked as they are committed and posted with one doorbell at the kick.
//!
//! A request that is not signalled gives its slot back only when a later one that is completes.
//! The last request of every list is signalled, so nothing waits for traffic to come; inside
//! longer runs every 32nd is, so that slots come back before the ring is full.

mod completions;
mod list;
mod recovery;

use std::mem::ManuallyDrop;
use std::sync::Arc;

use linerate_common::pool::FrameCache;
use linerate_common::{
    Buf, BufTx, ClockInfo, Clocked, Error, ErrorKind, FrameTx, MAX_BURST, SetupError, TxStamp,
    TxStamps, TxStats,
};
use linerate_ibverbs_sys as sys;

use crate::clock::{StampClock, read_counter};
use crate::cq::{Completion, Reader};
use crate::event::Watch;
use crate::memory::Mr;
use crate::qp::Qp;
use crate::ud::Route;

/// mlx5 copies this many bytes of each frame's headers into its request and refuses shorter
/// frames. They are filled up with zeros; on the wire every frame has at least 60 bytes anyway.
const MIN_BYTES: usize = 18;

/// The transmit queue of a port: one queue pair that only sends.
///
/// * **Commit** only links a request; the 64th of a list posts it, and so does the kick.
/// * **Short frames** of less than 18 bytes are filled up with zeros.
/// * **Errors.** An error completion stops the pair: that frame and those behind it count as
///   `failed`, and the pair is reset. With [`Options::recover`](crate::Options::recover) off, or
///   when the card refuses, `kick` gives `QueueLost` until [`recover`](Self::recover). What a
///   post call refuses counts as `refused`; `kick` gives the card's errno.
/// * **Link.** While the card says that the link is down, `kick` gives `LinkDown` and what was
///   committed stays queued; `DeviceGone` stays.
/// * **Stamps** ([`TxStamps`], with [`Options::tx_timestamps`](crate::Options::tx_timestamps)):
///   when the card completed the request, just behind the last bit. Without the option or the
///   card's support all are [`NO_TS`](linerate_common::NO_TS).
#[derive(Debug)]
pub struct VerbsTx {
    qp: Arc<Qp>,
    cache: ManuallyDrop<FrameCache>,
    watch: Watch,
    clock: StampClock,
    base: *mut u8,
    frame_bytes: usize,
    headroom: usize,
    max_len: usize,
    /// Shortest that cards take, at least 1 and at most `max_len`.
    min_len: usize,
    inline_bytes: usize,
    /// Flags of every request, and of those that are copied when they are posted.
    flags: u32,
    inline_flags: u32,
    /// Whom datagrams go to; raw frames say so themselves.
    _route: Option<Route>,
    /// A frame taken from the cache to be written into, and the length it was reserved with:
    /// 0 when nothing is reserved.
    slot: Option<u32>,
    reserved: usize,
    /// Frames that came back, at hand without asking the cache. Never grows: the rest goes back
    /// to the cache.
    spare: Vec<u32>,
    /// The frames of requests by their numbers, a power of two of them; `head`, `posted` and
    /// `tail` count for ever.
    in_flight: Box<[u32]>,
    slots: u64,
    head: u64,
    /// Posted up to here; from here to `tail` committed only.
    posted: u64,
    tail: u64,
    /// Where `tail` must stop until requests are posted or completed.
    limit: u64,
    /// From which request on a frame's number among all that were committed is how much more than
    /// its request's. Requests that were refused lend their numbers to those behind them.
    shifts: Vec<(u64, u64)>,
    /// Requests in a circle, linked and described once; posting cuts it.
    requests: Box<[sys::ibv_send_wr; MAX_BURST]>,
    pieces: Box<[sys::ibv_sge; MAX_BURST]>,
    /// Of an extended completion queue, which is the usual kind.
    reader: Option<Reader>,
    done: Box<[Completion; MAX_BURST]>,
    recover_by_itself: bool,
    /// The pair stopped and was not brought back.
    broken: Option<Error>,
    /// What a full list met when it was posted from within a commit, for the next kick.
    refused: Option<Error>,
    stats: TxStats,
}

/// Where request `number` stands in the circle.
#[inline(always)]
fn place(number: u64) -> usize {
    (number % MAX_BURST as u64) as usize
}

// SAFETY: the queue owns its queue pair's send side; the pointers are into the pool's region,
// which the registration keeps mapped, and into lists of its own on the heap.
unsafe impl Send for VerbsTx {}

/// What [`VerbsTx::new`] is made of.
pub(crate) struct Parts {
    pub(crate) qp: Arc<Qp>,
    pub(crate) cache: FrameCache,
    pub(crate) mr: Arc<Mr>,
    pub(crate) watch: Watch,
    pub(crate) clock: StampClock,
    pub(crate) max_len: usize,
    pub(crate) slots: u32,
    /// Every completion carries a stamp that the caller wants to see.
    pub(crate) stamps: bool,
    /// The card fills in checksums.
    pub(crate) checksums: bool,
    pub(crate) route: Option<Route>,
    pub(crate) recover: bool,
}

impl VerbsTx {
    pub(crate) fn new(parts: Parts) -> Result<Self, SetupError> {
        parts.qp.to_init()?;
        parts.qp.to_ready()?;
        let pool = parts.cache.pool().clone();
        // More may be granted than was asked for; but no more than the completion queue holds.
        let granted = parts.qp.granted.max_send_wr.max(1);
        let slots = parts.slots.min(granted).min(parts.qp.cq().capacity().max(1));
        let max_len = parts.max_len.min(pool.frame_bytes() - pool.headroom());
        let min_len = if parts.route.is_some() { 1 } else { MIN_BYTES };
        if max_len < min_len {
            let what = format!("frames of at most {max_len} bytes");
            return Err(SetupError::new(ErrorKind::BadArgument, "pool", what)
                .remedy("build the pool with less headroom"));
        }
        // SAFETY: all-zero is a value of this plain struct.
        let mut request: sys::ibv_send_wr = unsafe { std::mem::zeroed() };
        request.num_sge = 1;
        request.opcode = sys::IBV_WR_SEND;
        if let Some(route) = &parts.route {
            request.wr = route.request();
        }
        let checksums = if parts.checksums { sys::IBV_SEND_IP_CSUM } else { 0 };
        let flags = checksums | if parts.stamps { sys::IBV_SEND_SIGNALED } else { 0 };
        // As many as a small pool can do without.
        let spare = (pool.frames() / 16).clamp(1, slots) as usize;
        let lkey = parts.mr.lkey();
        let piece = sys::ibv_sge { addr: 0, length: 0, lkey };
        let mut tx = Self {
            base: pool.region().as_ptr(),
            frame_bytes: pool.frame_bytes(),
            headroom: pool.headroom(),
            max_len,
            min_len,
            inline_bytes: parts.qp.granted.max_inline_data as usize,
            flags,
            inline_flags: flags | sys::IBV_SEND_INLINE,
            _route: parts.route,
            slot: None,
            reserved: 0,
            spare: Vec::with_capacity(spare),
            in_flight: vec![0; slots.next_power_of_two() as usize].into(),
            slots: u64::from(slots),
            head: 0,
            posted: 0,
            tail: 0,
            limit: 0,
            shifts: vec![(0, 0)],
            requests: Box::new([request; MAX_BURST]),
            pieces: Box::new([piece; MAX_BURST]),
            reader: parts.qp.cq().reader(),
            done: Box::new([Completion::default(); MAX_BURST]),
            recover_by_itself: parts.recover,
            broken: None,
            refused: None,
            stats: TxStats::default(),
            qp: parts.qp,
            cache: ManuallyDrop::new(parts.cache),
            watch: parts.watch,
            clock: parts.clock,
        };
        for i in 0..MAX_BURST {
            tx.requests[i].sg_list = &raw mut tx.pieces[i];
            tx.requests[i].next = &raw mut tx.requests[place(i as u64 + 1)];
        }
        tx.set_limit();
        read_counter(&mut tx.clock, tx.qp.context());
        Ok(tx)
    }

    /// Where the frame of request `number` is noted.
    #[inline(always)]
    fn in_flight(&mut self, number: u64) -> &mut u32 {
        let mask = self.in_flight.len() - 1;
        // SAFETY: `new` made at least one, and what is masked with the last index is no more
        // than that.
        unsafe { self.in_flight.get_unchecked_mut(number as usize & mask) }
    }

    /// A frame to write into.
    #[inline(always)]
    fn take_frame(&mut self) -> Option<u32> {
        match self.spare.pop() {
            None => self.fetch_frame(),
            id => id,
        }
    }

    #[cold]
    fn fetch_frame(&mut self) -> Option<u32> {
        self.cache.alloc()
    }

    /// A frame came back.
    #[inline(always)]
    fn give_back(&mut self, id: u32) {
        if self.spare.len() < self.spare.capacity() {
            self.spare.push(id);
        } else {
            self.free_frame(id);
        }
    }

    #[cold]
    fn free_frame(&mut self, id: u32) {
        self.cache.free(id);
    }

    /// Fills a frame at `start` up to the shortest that cards take; gives its length.
    ///
    /// # Safety
    ///
    /// The frame is ours, with room for the shortest behind `start`.
    #[inline]
    unsafe fn pad(&self, start: *mut u8, len: usize) -> usize {
        if len < self.min_len {
            // SAFETY: the caller's promise.
            unsafe { start.add(len).write_bytes(0, self.min_len - len) };
        }
        len.max(self.min_len)
    }

    /// Where `offset` in frame `id` lies.
    #[inline(always)]
    fn start(&self, id: u32, offset: usize) -> *mut u8 {
        self.base.wrapping_add(id as usize * self.frame_bytes + offset)
    }
}

impl VerbsTx {
    /// A frame that must be filled up, is too long, or is none.
    #[cold]
    fn send_short(&mut self, frame: &[u8]) -> Result<bool, Error> {
        let Some(slot) = self.reserve(frame.len()) else {
            let fits = (1..=self.max_len).contains(&frame.len());
            return if fits { Ok(false) } else { Err(Error::new(ErrorKind::BadLength, "send")) };
        };
        slot.copy_from_slice(frame);
        self.commit(frame.len());
        Ok(true)
    }
}

impl FrameTx for VerbsTx {
    fn max_len(&self) -> usize {
        self.max_len
    }

    #[inline]
    fn room(&self) -> usize {
        (self.slots - (self.tail - self.head)) as usize
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if len == 0 || len > self.max_len || self.is_full(0) {
            return None;
        }
        if self.slot.is_none() {
            self.slot = self.take_frame();
        }
        let start = self.start(self.slot?, self.headroom);
        self.reserved = len;
        // SAFETY: the frame is out of the cache and not with the card: only `slot` names it. The
        // length fits behind the headroom, and the borrow of `self` keeps it from being lent.
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        let reserved = std::mem::take(&mut self.reserved);
        if len == 0 {
            return;
        }
        assert!(len <= reserved, "commit of {len} bytes into a slot of {reserved}");
        let Some(id) = self.slot.take() else { return };
        let start = self.start(id, self.headroom);
        // SAFETY: the frame is ours until it is posted, and behind the headroom the shortest fits.
        let padded = unsafe { self.pad(start, len) };
        self.queue(id, start, padded);
    }

    #[inline]
    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        self.reserved = 0;
        let len = frame.len();
        // Lengths that need a closer look are those below the shortest and above the longest.
        if len.wrapping_sub(self.min_len) > self.max_len - self.min_len {
            return self.send_short(frame);
        }
        if self.is_full(0) {
            return Ok(false);
        }
        let Some(id) = self.take_frame() else { return Ok(false) };
        let start = self.start(id, self.headroom);
        // SAFETY: the frame is out of the cache and not with the card: only `id` names it, and the
        // length fits behind the headroom.
        unsafe { start.copy_from_nonoverlapping(frame.as_ptr(), len) };
        self.queue(id, start, len);
        Ok(true)
    }

    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        let posted = self.post();
        match self.refused.take() {
            Some(error) => Err(error),
            None => posted,
        }
    }

    fn reap(&mut self) -> usize {
        self.reap_and_show(None)
    }

    fn stats(&mut self) -> TxStats {
        self.watch.drain();
        self.stats
    }
}

impl BufTx for VerbsTx {
    fn push(&mut self, buf: Buf) -> Result<(), Buf> {
        let held = u64::from(self.reserved > 0);
        let no_room = buf.offset() + self.min_len > self.frame_bytes;
        if buf.is_empty() || buf.len() > self.max_len || no_room || self.is_full(held) {
            return Err(buf);
        }
        let (id, offset, len) = self.cache.accept(buf)?;
        let start = self.start(id, offset);
        // SAFETY: the frame is ours now, and that the shortest fits was checked.
        let padded = unsafe { self.pad(start, len) };
        self.queue(id, start, padded);
        Ok(())
    }
}

impl TxStamps for VerbsTx {
    fn reap_with(&mut self, f: &mut dyn FnMut(TxStamp)) -> usize {
        self.reap_and_show(Some(f))
    }
}

impl Clocked for VerbsTx {
    fn clock(&self) -> ClockInfo {
        self.clock.info()
    }
}

impl Drop for VerbsTx {
    fn drop(&mut self) {
        let _ = self.qp.to_error();
        if self.qp.to_reset().is_ok() {
            // SAFETY: dropped once, here. In RESET the card has let go of every frame, so they
            // may go back to the pool.
            unsafe { ManuallyDrop::drop(&mut self.cache) };
        }
        // Otherwise the card may still read the frames: the pool does without them.
    }
}
