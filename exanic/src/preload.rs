//! Frames that lie in the card before they are needed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use linerate_common::{Error, ErrorKind, NO_TS, RxFlags, SetupError, TxStamp, TxStats};
use linerate_exanic_sys::tx::FRAME_OFFSET;

use crate::device::Device;
use crate::error;
use crate::room::{DRAIN, LINE, room_for};
use crate::sender::Sender;
use crate::stamp::{Stamp, Stamper};

/// Slots are numbered in the low byte of what the card feeds back.
const MOST_SLOTS: usize = 256;

/// Frames written into the card ahead of time and fired by one store each: the shortest way from
/// a decision to the wire, as nothing but the command has to cross the bus.
///
/// Load each slot with a whole frame, patch what changes (an order's price and size, and the
/// checksum over them), fire. A slot in flight cannot be patched or fired until the card has
/// confirmed it ([`reap`](Self::reap)); afterwards it holds the same frame and can be fired again
/// as it is. Slots are independent: fire any, in any order.
///
/// ```no_run
/// # let order = [0_u8; 100];
/// use linerate_exanic::{Options, open};
///
/// let mut orders = open("exanic0/1", &Options::default())?.preloaded(4, 200)?;
/// orders.load(0, &order)?;
/// // Later, on a tick:
/// orders.patch(0, 60, &42_u32.to_be_bytes())?;
/// orders.fire(0)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Preloaded {
    sender: Sender,
    stamper: Stamper,
    slots: Box<[Slot]>,
    slot_bytes: usize,
    max_len: usize,
    /// Slots in the order in which they were fired.
    fired: VecDeque<usize>,
    next_seq: u64,
    oldest_seq: u64,
    stats: TxStats,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    len: usize,
    in_flight: bool,
    /// Told apart from the slot's last flight by the high byte of what is fed back; never 0.
    round: u8,
}

impl Preloaded {
    pub(crate) fn new(
        device: &Arc<Device>,
        port: u32,
        slots: usize,
        max_len: usize,
        lead_s: i32,
    ) -> Result<Self, SetupError> {
        if slots == 0 || slots > MOST_SLOTS || max_len == 0 || max_len > 9728 {
            let e = error::argument("preloaded", "1 to 256 slots of 1 to 9728 bytes");
            return Err(e);
        }
        let slot_bytes = room_for(max_len);
        // One command per 512 bytes may be in flight; and the size comes in pages.
        let sender = Sender::open(device, port, (slots * slot_bytes).next_multiple_of(4096))?;
        Ok(Self {
            stamper: Stamper::new(device, port, i64::from(lead_s) * 1_000_000_000),
            fired: VecDeque::with_capacity(sender.queue()),
            sender,
            slots: vec![Slot { round: 1, ..Slot::default() }; slots].into_boxed_slice(),
            slot_bytes,
            max_len,
            next_seq: 0,
            oldest_seq: 0,
            stats: TxStats::default(),
        })
    }

    /// Number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Longest frame that a slot holds.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Writes a whole frame into a slot and pushes it out to the card. Off the critical path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadLength`]: empty or longer than [`max_len`](Self::max_len).
    /// [`ErrorKind::BadArgument`]: no such slot, or it is in flight.
    pub fn load(&mut self, slot: usize, frame: &[u8]) -> Result<(), Error> {
        const OP: &str = "load";
        let state = self.idle(slot, OP)?;
        if frame.is_empty() || frame.len() > self.max_len {
            return Err(Error::new(ErrorKind::BadLength, OP));
        }
        self.slots[slot].len = frame.len();
        let header = self.sender.header(feedback_id(slot, state.round), frame.len());
        self.sender.write(slot * self.slot_bytes, &header);
        self.sender.write(slot * self.slot_bytes + FRAME_OFFSET, frame);
        self.sender.flush();
        Ok(())
    }

    /// Overwrites part of a slot's frame. Goes to the card with the next fire at the latest.
    /// Checksums are the caller's: patch them too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadLength`]: beyond the loaded frame. [`ErrorKind::BadArgument`]: no such
    /// slot, or it is in flight.
    #[inline]
    pub fn patch(&mut self, slot: usize, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        const OP: &str = "patch";
        let state = self.idle(slot, OP)?;
        if offset > state.len || bytes.len() > state.len - offset {
            return Err(Error::new(ErrorKind::BadLength, OP));
        }
        self.sender.write(slot * self.slot_bytes + FRAME_OFFSET + offset, bytes);
        Ok(())
    }

    /// Sends a slot's frame: one fence, one store. `Ok(false)`: too many commands in flight,
    /// [`reap`](Self::reap) and try again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadArgument`]: no such slot, nothing loaded, or it is in flight.
    #[inline]
    pub fn fire(&mut self, slot: usize) -> Result<bool, Error> {
        const OP: &str = "fire";
        let state = self.idle(slot, OP)?;
        if state.len == 0 {
            return Err(Error::new(ErrorKind::BadArgument, OP));
        }
        if self.fired.len() >= self.sender.queue() {
            return Ok(false);
        }
        self.sender.command(slot * self.slot_bytes);
        // What follows is bookkeeping: the frame is on its way.
        self.stamper.sent(self.next_seq, self.fired.is_empty());
        self.slots[slot].in_flight = true;
        self.fired.push_back(slot);
        self.next_seq += 1;
        self.stats.frames += 1;
        self.stats.bytes += state.len as u64;
        Ok(true)
    }

    /// Takes back the slots that the card has sent, and arms them for the next time. Returns how
    /// many. Reads a word of host memory.
    pub fn reap(&mut self) -> usize {
        let done = self.done();
        for _ in 0..done {
            self.retire();
        }
        if done > 0 {
            self.stamper.forget();
        }
        done
    }

    /// [`reap`](Self::reap) that also shows each slot with its stamp. A frame gets one only when
    /// it went out alone, see [`ExanicTx`](crate::ExanicTx), and when the one before it was reaped
    /// here too. Reads the port's registers for each frame.
    pub fn reap_with(&mut self, f: &mut dyn FnMut(usize, TxStamp)) -> usize {
        let mut reaped = 0;
        for _ in 0..self.done() {
            let seq = self.oldest_seq;
            let (ts_ns, flags) = match self.stamper.completed(seq) {
                Stamp::At(ns, flags) => (ns, flags),
                Stamp::Unknown => (NO_TS, RxFlags::NONE),
                Stamp::Later => break,
            };
            let Some(slot) = self.retire() else { break };
            reaped += 1;
            f(slot, TxStamp { seq, ts_ns, flags });
        }
        if self.fired.is_empty() {
            self.stamper.idle();
        }
        reaped
    }

    /// Has the card still to send this slot's frame, as far as was reaped?
    #[must_use]
    pub fn is_in_flight(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|s| s.in_flight)
    }

    /// What was sent.
    #[must_use]
    pub fn stats(&self) -> TxStats {
        self.stats
    }

    #[inline]
    fn idle(&self, slot: usize, op: &'static str) -> Result<Slot, Error> {
        match self.slots.get(slot) {
            Some(state) if !state.in_flight => Ok(*state),
            _ => Err(Error::new(ErrorKind::BadArgument, op)),
        }
    }

    /// Fired slots, oldest first, that the card has sent: it serves them in order and feeds back
    /// the last.
    fn done(&self) -> usize {
        if self.fired.is_empty() {
            return 0;
        }
        let fed_back = self.sender.fed_back();
        let last = self
            .fired
            .iter()
            .position(|slot| feedback_id(*slot, self.slots[*slot].round) == fed_back);
        last.map_or(0, |last| last + 1)
    }

    /// Ends the oldest flight and arms its slot again.
    fn retire(&mut self) -> Option<usize> {
        let slot = self.fired.pop_front()?;
        self.oldest_seq += 1;
        self.stats.completed += 1;
        let state = &mut self.slots[slot];
        state.in_flight = false;
        state.round = state.round.checked_add(1).unwrap_or(1);
        let header = self.sender.header(feedback_id(slot, state.round), state.len);
        self.sender.write(slot * self.slot_bytes, &header);
        Some(slot)
    }
}

impl Drop for Preloaded {
    fn drop(&mut self) {
        // Given back too early, another sender would write into a frame that is still to be sent.
        let start = Instant::now();
        while self.done() < self.fired.len() {
            if start.elapsed() > DRAIN {
                return self.sender.abandon();
            }
            std::thread::yield_now();
        }
    }
}

/// Unique among all that are in flight or were fed back last: a slot has one flight at a time,
/// and the next one has another round.
#[inline]
fn feedback_id(slot: usize, round: u8) -> u16 {
    u16::from(round) << 8 | (slot % MOST_SLOTS) as u16
}

const _: () = assert!(LINE == 64);
