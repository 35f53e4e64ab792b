//! The transmit queue.

use std::sync::Arc;
use std::time::Instant;

use linerate_common::{
    Error, ErrorKind, FrameTx, NO_TS, RxFlags, SetupError, TxStamp, TxStamps, TxStats,
};
use linerate_exanic_sys::tx::FRAME_OFFSET;

use crate::device::Device;
use crate::error;
use crate::port::Options;
use crate::room::{DRAIN, LINE, room_for};
use crate::sender::Sender;
use crate::stamp::{Stamp, Stamper};

/// Sizes tried when none is asked for, largest first.
const SIZES: [usize; 4] = [32 << 10, 16 << 10, 8 << 10, 4 << 10];
/// A frame of this size is what `room` reckons with.
const USUAL_FRAME: usize = 1514;

/// One sender on a port.
///
/// A frame goes straight into the card's memory and out: **`commit` sends**, and `kick` has
/// nothing left to do. Never blocks: without room (the queue of commands, or transmit memory)
/// `reserve` gives `None`. The card appends the check sequence and pads to 60 bytes.
///
/// [`send`](FrameTx::send) copies the caller's bytes to the card, once. [`reserve`](FrameTx::reserve)
/// gives a buffer of the host, which `commit` copies to the card in whole lines: transmit memory
/// itself cannot be lent as `&mut [u8]`, because what is read back from it is not what was written.
/// [`reserve_on_card`](Self::reserve_on_card) writes it in place, without reading.
///
/// # Completions and timestamps
///
/// The card confirms every frame in a word of host memory, which [`reap`](FrameTx::reap) reads:
/// no bus access. With [`Options::tx_stamps`] each reap that finds a frame done also reads the
/// port's register of the last transmit time (three to four bus reads). The register is shared by
/// all senders of the port, so **only frames that went out alone get a stamp**: sent with none of
/// this queue in flight, and with no other sender on the port until they were reaped. Others get
/// [`NO_TS`].
///
/// # Dropping
///
/// A dropped queue waits up to 20 ms for its frames to leave. If the card has not confirmed them
/// by then (its link is down, say), the transmit memory stays taken until the process ends, as
/// the next owner would write into frames that may still go out.
#[derive(Debug)]
pub struct ExanicTx {
    sender: Sender,
    stamper: Option<Stamper>,
    /// Where the chunks of frames in flight begin, by their numbers: a power of two of them.
    starts: Box<[usize]>,
    /// The frames from `oldest_seq` to `next_seq` are in flight; from `full_seq` on too many.
    oldest_seq: u64,
    next_seq: u64,
    full_seq: u64,
    /// Where the next chunk goes if it fits, and what is known to be free behind that: up to
    /// `free_to`. What came back since is found when it is needed.
    next: usize,
    free_to: usize,
    /// Header and frame of a reservation, as they will lie on the card.
    staging: Box<[u8]>,
    reserved: Option<Reserved>,
    stats: TxStats,
}

#[derive(Debug, Clone, Copy)]
struct Reserved {
    at: usize,
    len: usize,
}

/// What the card feeds back for frame `seq`. 0 is what the slot holds at first.
#[inline]
fn feedback_id(seq: u64) -> u16 {
    seq.wrapping_add(1) as u16
}

impl ExanicTx {
    pub(crate) fn new(
        device: &Arc<Device>,
        port: u32,
        options: &Options,
    ) -> Result<Self, SetupError> {
        let sender = open_sender(device, port, options.tx_buffer_bytes)?;
        let lead_ns = i64::from(options.clock_lead_s) * 1_000_000_000;
        let stamper = options.tx_stamps.then(|| Stamper::new(device, port, lead_ns));
        let staging = vec![0; room_for(sender.mtu())].into_boxed_slice();
        let queue = sender.queue();
        Ok(Self {
            free_to: sender.bytes(),
            full_seq: queue as u64,
            starts: vec![0; queue.next_power_of_two()].into_boxed_slice(),
            sender,
            stamper,
            oldest_seq: 0,
            next_seq: 0,
            next: 0,
            staging,
            reserved: None,
            stats: TxStats::default(),
        })
    }

    /// A frame to be written in place in the card's memory: no copy, for frames that are put
    /// together from pieces. `None` as for [`reserve`](FrameTx::reserve).
    ///
    /// ```no_run
    /// # use linerate_common::FrameTx;
    /// # use linerate_exanic::{Options, open};
    /// # let headers = [0_u8; 42];
    /// let mut tx = open("exanic0/0", &Options::default())?.tx()?;
    /// if let Some(mut frame) = tx.reserve_on_card(60) {
    ///     frame.put(0, &headers);
    ///     frame.put(42, b"eighteen bytes....");
    ///     frame.send();
    /// }
    /// # Ok::<(), linerate_common::SetupError>(())
    /// ```
    #[inline]
    pub fn reserve_on_card(&mut self, len: usize) -> Option<CardFrame<'_>> {
        self.reserved = None;
        let at = self.place(len)?;
        let header = self.sender.header(feedback_id(self.next_seq), len);
        self.sender.write(at, &header);
        Some(CardFrame { tx: self, at, len })
    }

    /// Runs the whole way of a send except for the command: code and data are in the caches
    /// and the way to the card is awake. Call it while waiting. Does nothing when there is no
    /// room.
    #[inline]
    pub fn warm(&mut self, frame: &[u8]) {
        if let Some(at) = self.place(frame.len()) {
            self.write(at, frame);
            self.sender.flush();
        }
    }

    /// Frames that the card has not confirmed yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        (self.next_seq - self.oldest_seq) as usize
    }

    /// The card this sends on.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        self.sender.device()
    }

    /// Where the start of frame `seq` is noted.
    #[inline(always)]
    fn start(&mut self, seq: u64) -> &mut usize {
        let mask = self.starts.len() - 1;
        // SAFETY: there is at least one, and what is masked with the last index is no more than
        // that.
        unsafe { self.starts.get_unchecked_mut(seq as usize & mask) }
    }

    /// Where a frame of `len` bytes can be written now.
    #[inline(always)]
    fn place(&mut self, len: usize) -> Option<usize> {
        if len.wrapping_sub(1) >= self.sender.mtu() {
            return None; // empty, or too long
        }
        let room = room_for(len);
        if self.next + room <= self.free_to && self.next_seq < self.full_seq {
            return Some(self.next);
        }
        self.make_room(room)
    }

    /// Looks for room, at first in what has come back already.
    #[cold]
    fn make_room(&mut self, room: usize) -> Option<usize> {
        self.fit(room).or_else(|| {
            self.reap();
            self.fit(room)
        })
    }

    /// Finds the free memory behind `next`, or at the beginning.
    fn fit(&mut self, room: usize) -> Option<usize> {
        if self.oldest_seq == self.next_seq {
            (self.next, self.free_to) = (0, self.sender.bytes());
        } else {
            // In flight is what lies from `oldest` up to `next`, perhaps around the end.
            let oldest = *self.start(self.oldest_seq);
            let behind = self.next > oldest;
            self.free_to = if behind { self.sender.bytes() } else { oldest };
            if behind && self.next + room > self.free_to && room <= oldest {
                (self.next, self.free_to) = (0, oldest);
            }
        }
        let fits = self.next + room <= self.free_to && self.next_seq < self.full_seq;
        fits.then_some(self.next)
    }

    #[inline(always)]
    fn write(&mut self, at: usize, frame: &[u8]) {
        let header = self.sender.header(feedback_id(self.next_seq), frame.len());
        self.sender.write_chunk(at, header, frame);
    }

    /// Commands the chunk at `at`, which holds a frame of `len` bytes, and books it.
    #[inline(always)]
    fn launch(&mut self, at: usize, len: usize) {
        self.sender.command(at);
        if let Some(stamper) = &mut self.stamper {
            stamper.sent(self.next_seq, self.oldest_seq == self.next_seq);
        }
        *self.start(self.next_seq) = at;
        self.next = at + room_for(len);
        self.next_seq += 1;
        self.stats.frames += 1;
        self.stats.bytes += len as u64;
    }

    /// Completed frames, oldest first, by the word that the card wrote.
    #[inline]
    fn done(&self) -> usize {
        let in_flight = self.in_flight();
        if in_flight == 0 {
            return 0;
        }
        let oldest = feedback_id(self.oldest_seq);
        // Shared memory is input: an id that is not in flight completes nothing.
        let done = usize::from(self.sender.fed_back().wrapping_sub(oldest).wrapping_add(1));
        if done <= in_flight { done } else { 0 }
    }

    /// The oldest `n` frames have left.
    #[inline]
    fn retire(&mut self, n: usize) {
        self.oldest_seq += n as u64;
        self.full_seq += n as u64;
        self.stats.completed += n as u64;
    }
}

/// As much as was asked for, or the most that there is.
fn open_sender(
    device: &Arc<Device>,
    port: u32,
    bytes: Option<usize>,
) -> Result<Sender, SetupError> {
    if let Some(bytes) = bytes {
        return Sender::open(device, port, bytes);
    }
    let mut last = error::argument("exanic_acquire_tx_buffer", "no size to try");
    for bytes in SIZES {
        match Sender::open(device, port, bytes) {
            Err(e) if e.to_string().contains("Cannot allocate") => last = e,
            other => return other,
        }
    }
    Err(last)
}

impl FrameTx for ExanicTx {
    fn max_len(&self) -> usize {
        self.sender.mtu()
    }

    /// Full-size frames (1514 bytes) that fit: longer ones may not, many more short ones may.
    #[inline]
    fn room(&self) -> usize {
        let slots = (self.full_seq - self.next_seq) as usize;
        let usual = room_for(USUAL_FRAME.min(self.sender.mtu()));
        let fits = if self.oldest_seq == self.next_seq {
            self.sender.bytes() / usual
        } else {
            let mask = self.starts.len() - 1;
            let oldest = self.starts[self.oldest_seq as usize & mask];
            if self.next > oldest {
                (self.sender.bytes() - self.next) / usual + oldest / usual
            } else {
                (oldest - self.next) / usual
            }
        };
        fits.min(slots)
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        let at = self.place(len)?;
        self.reserved = Some(Reserved { at, len });
        Some(&mut self.staging[FRAME_OFFSET..FRAME_OFFSET + len])
    }

    /// Sends the frame at once: one copy to the card, one fence, one store to a register.
    #[inline]
    #[track_caller]
    fn commit(&mut self, len: usize) {
        let Some(reserved) = self.reserved.take() else { panic!("commit without a reservation") };
        assert!(len <= reserved.len, "commit of more than was reserved");
        if len == 0 {
            return;
        }
        let header = self.sender.header(feedback_id(self.next_seq), len);
        self.staging[..FRAME_OFFSET].copy_from_slice(&header);
        self.sender.write(reserved.at, &self.staging[..FRAME_OFFSET + len]);
        self.launch(reserved.at, len);
    }

    /// Nothing is left to do: `commit` sends.
    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        Ok(())
    }

    #[inline]
    fn reap(&mut self) -> usize {
        if self.stamper.is_some() {
            return self.reap_with(&mut |_| {});
        }
        let done = self.done();
        self.retire(done);
        done
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }

    #[inline]
    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        self.reserved = None;
        let Some(at) = self.place(frame.len()) else { return self.not_sent(frame.len()) };
        self.write(at, frame);
        self.launch(at, frame.len());
        Ok(true)
    }
}

impl ExanicTx {
    /// Why a frame has no place.
    #[cold]
    fn not_sent(&self, len: usize) -> Result<bool, Error> {
        let fits = (1..=self.sender.mtu()).contains(&len);
        if fits { Ok(false) } else { Err(Error::new(ErrorKind::BadLength, "send")) }
    }
}

impl TxStamps for ExanicTx {
    fn reap_with(&mut self, f: &mut dyn FnMut(TxStamp)) -> usize {
        let mut reaped = 0;
        for _ in 0..self.done() {
            let seq = self.oldest_seq;
            let stamp = match &mut self.stamper {
                Some(stamper) => stamper.completed(seq),
                None => Stamp::Unknown,
            };
            let (ts_ns, flags) = match stamp {
                Stamp::At(ns, flags) => (ns, flags),
                Stamp::Unknown => (NO_TS, RxFlags::NONE),
                // Stamps come in order: those behind it wait as well.
                Stamp::Later => break,
            };
            self.retire(1);
            reaped += 1;
            f(TxStamp { seq, ts_ns, flags });
        }
        if self.oldest_seq == self.next_seq
            && let Some(stamper) = &mut self.stamper
        {
            stamper.idle();
        }
        reaped
    }
}

impl Drop for ExanicTx {
    fn drop(&mut self) {
        // Given back too early, another sender would write into a frame that is still to be sent.
        let start = Instant::now();
        while self.done() < self.in_flight() {
            if start.elapsed() > DRAIN {
                return self.sender.abandon();
            }
            std::thread::yield_now();
        }
    }
}

/// A frame in the card's memory, being written. Dropped unsent, it costs nothing.
#[derive(Debug)]
pub struct CardFrame<'a> {
    tx: &'a mut ExanicTx,
    at: usize,
    len: usize,
}

impl CardFrame<'_> {
    /// Length of the frame in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is it empty? Never.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes bytes at `offset` of the frame. Whole lines of 64 bytes in ascending order are the
    /// quickest. What is not written is what was sent there last.
    ///
    /// # Panics
    ///
    /// If they do not lie within the frame.
    #[inline]
    #[track_caller]
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset, "beyond the frame");
        self.tx.sender.write(self.at + FRAME_OFFSET + offset, bytes);
    }

    /// Sends it.
    #[inline]
    pub fn send(self) {
        let Self { tx, at, len } = self;
        tx.launch(at, len);
    }
}

const _: () = assert!(room_for(1) == LINE && room_for(54) == LINE && room_for(55) == 2 * LINE);

#[cfg(all(loom, test))]
mod models;
