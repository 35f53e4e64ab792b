//! Sending: requests are linked as they are committed and posted with one doorbell at the kick.
//!
//! A request that is not signalled gives its slot back only when a later one that is completes.
//! The last request of every list is signalled, so nothing waits for traffic to come; inside
//! longer runs every 32nd is, so that slots come back before the ring is full.

use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::ptr::null_mut;
use std::sync::Arc;

use linerate_common::pool::FrameCache;
use linerate_common::{
    Buf, BufTx, ClockInfo, Clocked, Error, ErrorKind, FrameTx, MAX_BURST, NO_TS, RxFlags,
    SetupError, TxStamp, TxStamps, TxStats,
};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::clock::{StampClock, read_counter};
use crate::cq::{Completion, Reader};
use crate::event::Watch;
use crate::memory::Mr;
use crate::qp::Qp;
use crate::ud::Route;

/// Signalled at least every so many requests: those whose numbers are a multiple less one.
const SIGNAL_EVERY: u64 = 32;

/// The call that hands requests to the card.
const POST: &str = "ibv_post_send";

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
///   card's support all are [`NO_TS`].
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

/// Who wants to see stamps, if anybody does.
type Show<'a> = Option<&'a mut dyn FnMut(TxStamp)>;

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

    /// A list has as many requests as a burst, the ring as many as the card has slots.
    #[inline(always)]
    fn set_limit(&mut self) {
        self.limit = (self.posted + MAX_BURST as u64).min(self.head + self.slots);
    }

    /// Is there no room for one more beside `held` that are promised, in the ring or in the list?
    #[inline(always)]
    fn is_full(&mut self, held: u64) -> bool {
        self.tail + held >= self.limit && self.stays_full(held)
    }

    /// Posts and reaps to make room.
    #[cold]
    fn stays_full(&mut self, held: u64) -> bool {
        if self.tail - self.posted + held >= MAX_BURST as u64 {
            self.post_early();
        }
        if self.tail - self.head + held >= self.slots {
            self.reap();
        }
        self.tail + held >= self.limit
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

    /// Posts before the kick asks for it. What the card refuses is told there.
    #[cold]
    fn post_early(&mut self) {
        match self.post() {
            // A link that is down or a pair that stopped is told when the kick meets it.
            Err(error) if error.op == POST => _ = self.refused.get_or_insert(error),
            _ => {}
        }
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

    /// Appends one frame to the list, which lies at `start`; posts it when it is as long as a
    /// burst.
    #[inline(always)]
    fn queue(&mut self, id: u32, start: *const u8, len: usize) {
        let number = self.tail;
        let piece = &mut self.pieces[place(number)];
        (piece.addr, piece.length) = (start as u64, len as u32);
        let inline = len <= self.inline_bytes;
        let request = &mut self.requests[place(number)];
        request.wr_id = number;
        request.send_flags = if inline { self.inline_flags } else { self.flags };
        *self.in_flight(number) = id;
        self.tail = number + 1;
        self.stats.bytes += len as u64;
        if self.tail >= self.limit {
            self.stop();
        }
    }

    /// Where `offset` in frame `id` lies.
    #[inline(always)]
    fn start(&self, id: u32, offset: usize) -> *mut u8 {
        self.base.wrapping_add(id as usize * self.frame_bytes + offset)
    }

    /// Nothing more fits: the list is as long as a burst, or the ring is full.
    #[cold]
    fn stop(&mut self) {
        if self.tail - self.posted == MAX_BURST as u64 {
            self.post_early();
        }
    }

    /// Posts the list with one doorbell.
    fn post(&mut self) -> Result<(), Error> {
        let n = self.tail - self.posted;
        if n == 0 {
            return Ok(());
        }
        if let Some(error) = self.broken {
            return Err(error);
        }
        if !self.watch.is_quiet() {
            self.watch.drain();
            self.watch.error()?;
        }
        let (first, last) = (place(self.posted), place(self.tail - 1));
        let mut signal = self.posted | (SIGNAL_EVERY - 1);
        while signal < self.tail {
            self.requests[place(signal)].send_flags |= sys::IBV_SEND_SIGNALED;
            signal += SIGNAL_EVERY;
        }
        self.requests[last].send_flags |= sys::IBV_SEND_SIGNALED;
        let after = std::mem::replace(&mut self.requests[last].next, null_mut());
        let mut bad = null_mut();
        let list = &raw mut self.requests[first];
        // SAFETY: a live pair; a list of `n` requests, each of one piece inside registered memory
        // that is lent to the card until its completion; lengths were checked.
        let rc = unsafe { inline::post_send(self.qp.as_raw(), list, &mut bad) };
        self.requests[last].next = after;
        if rc != 0 {
            return Err(self.refused(rc, bad));
        }
        self.posted = self.tail;
        self.stats.frames += n;
        self.set_limit();
        Ok(())
    }

    /// All before the bad request are on their way; the bad one and those behind it are lost,
    /// under a name. If the last that was posted is not signalled, its slot comes back with a
    /// later one.
    #[cold]
    fn refused(&mut self, rc: i32, bad: *mut sys::ibv_send_wr) -> Error {
        let is_bad = |number: &u64| std::ptr::eq(bad, &raw const self.requests[place(*number)]);
        let taken = (self.posted..self.tail).find(is_bad).unwrap_or(self.posted);
        let (first_seq, lost) = (self.seq(taken), self.tail - taken);
        for number in taken..self.tail {
            self.stats.bytes -= u64::from(self.pieces[place(number)].length);
            let id = *self.in_flight(number);
            self.give_back(id);
        }
        self.shifts.push((taken, first_seq + lost - taken));
        self.stats.refused += lost;
        self.stats.frames += taken - self.posted;
        (self.posted, self.tail) = (taken, taken);
        self.set_limit();
        Error::os(POST, rc.abs())
    }

    /// The number of a request's frame among all that were ever committed.
    fn seq(&self, number: u64) -> u64 {
        let shift = self.shifts.iter().rev().find(|(from, _)| *from <= number);
        number + shift.map_or(0, |(_, more)| *more)
    }

    /// Forgets the shifts of requests that have all completed.
    #[cold]
    fn forget_shifts(&mut self) {
        let passed = self.shifts.iter().filter(|(from, _)| *from <= self.head).count();
        self.shifts.drain(..passed.saturating_sub(1));
    }

    /// Takes back the frames up to and including the request numbered by `done`, and shows each
    /// with its stamp.
    #[inline(always)]
    fn complete(&mut self, done: Completion, show: &mut Show<'_>) -> usize {
        let last = done.wr_id;
        if last.wrapping_sub(self.head) >= self.posted - self.head {
            return 0; // not a number of ours that is in flight
        }
        let failed = done.status != sys::IBV_WC_SUCCESS;
        let n = last + 1 - self.head;
        self.stats.completed += n;
        self.stats.failed += u64::from(failed);
        match show {
            None => self.take_back(n as usize),
            Some(show) => {
                while self.head <= last {
                    let number = self.head;
                    let id = *self.in_flight(number);
                    self.give_back(id);
                    // Before it is shown: a handler that panics does not see it again.
                    self.head += 1;
                    let stamped = number == last && !failed;
                    let (ts_ns, flags) =
                        if stamped { self.stamp(done.stamp) } else { (NO_TS, RxFlags::NONE) };
                    show(TxStamp { seq: self.seq(number), ts_ns, flags });
                }
            }
        }
        if self.shifts.len() > 1 {
            self.forget_shifts();
        }
        self.set_limit();
        n as usize
    }

    /// Takes back the frames of the oldest `n` requests.
    #[inline(always)]
    fn take_back(&mut self, n: usize) {
        let first = self.head as usize & (self.in_flight.len() - 1);
        self.head += n as u64;
        let all = self.in_flight.get(first..first + n);
        match all.filter(|all| all.len() <= self.spare.capacity() - self.spare.len()) {
            Some(all) => self.spare.extend_from_slice(all),
            None => self.take_back_singly(n as u64),
        }
    }

    /// The same around the ring's end, or when there are more spare frames than are kept.
    #[cold]
    fn take_back_singly(&mut self, n: u64) {
        for number in self.head - n..self.head {
            let id = *self.in_flight(number);
            self.give_back(id);
        }
    }

    #[cold]
    fn stamp(&mut self, raw: u64) -> (u64, RxFlags) {
        self.clock.utc_at(raw, self.qp.context())
    }

    /// Reads all completions. The second value says whether one was an error.
    #[inline(always)]
    fn collect(&mut self, show: &mut Show<'_>) -> (usize, bool) {
        let (mut freed, mut error) = (0, false);
        let read = match &self.reader {
            // SAFETY: the queue holds its completion queue, and owns it.
            Some(reader) => match unsafe { reader.begin() } {
                Ok(None) => Ok(()),
                Ok(Some(reading)) => {
                    reading.each_sent(|done| {
                        error |= done.status != sys::IBV_WC_SUCCESS;
                        freed += self.complete(done, show);
                        ControlFlow::Continue(())
                    });
                    Ok(())
                }
                Err(e) => Err(e),
            },
            None => self.collect_basic(&mut freed, &mut error, show),
        };
        if let Err(e) = read {
            self.broken = Some(e);
            error = false;
        }
        (freed, error)
    }

    /// The same from a completion queue of the basic kind.
    #[cold]
    fn collect_basic(
        &mut self,
        freed: &mut usize,
        error: &mut bool,
        show: &mut Show<'_>,
    ) -> Result<(), Error> {
        loop {
            let n = self.qp.cq().poll(&mut self.done[..])?;
            for i in 0..n {
                let done = self.done[i];
                *error |= done.status != sys::IBV_WC_SUCCESS;
                *freed += self.complete(done, show);
            }
            if n < MAX_BURST {
                return Ok(());
            }
        }
    }

    #[inline(always)]
    fn reap_and_show(&mut self, mut show: Show<'_>) -> usize {
        let (freed, error) = self.collect(&mut show);
        if error { freed + self.mend(&mut show) } else { freed }
    }

    /// After an error completion: back to work, or the error for the next kick.
    #[cold]
    fn mend(&mut self, show: &mut Show<'_>) -> usize {
        self.watch.drain();
        let error = match self.watch.error() {
            Err(e) if e.kind != ErrorKind::LinkDown => e,
            _ if !self.recover_by_itself => Error::new(ErrorKind::QueueLost, "ibv_poll_cq"),
            _ => match self.reset(show) {
                Ok(freed) => return freed,
                Err(e) => e,
            },
        };
        self.broken = Some(error);
        0
    }

    /// RESET, ready. What was in flight and has not completed counts as failed.
    fn reset(&mut self, show: &mut Show<'_>) -> Result<usize, Error> {
        let lost = |_: SetupError| Error::new(ErrorKind::QueueLost, "ibv_modify_qp");
        // What has completed by now is told apart from what has not.
        let (mut freed, _) = self.collect(show);
        self.qp.to_reset().map_err(lost)?;
        while self.qp.cq().poll(&mut self.done[..])? > 0 {}
        while self.head < self.posted {
            let flushed = Completion {
                wr_id: self.head,
                status: sys::IBV_WC_WR_FLUSH_ERR,
                ..Completion::default()
            };
            freed += self.complete(flushed, show);
        }
        self.watch.recovered();
        self.qp.to_init().and_then(|()| self.qp.to_ready()).map_err(lost)?;
        self.broken = None;
        Ok(freed)
    }

    /// Brings the queue pair back from the error state: RESET, ready. What was in flight counts
    /// as failed; what was committed and not kicked is still there.
    ///
    /// # Errors
    ///
    /// The card refuses: open the port anew.
    pub fn recover(&mut self) -> Result<(), Error> {
        self.reset(&mut None).map(|_| ())
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
