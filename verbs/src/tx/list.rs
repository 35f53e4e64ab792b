//! The list of requests: linked as they are committed, posted with one doorbell.

use std::ptr::null_mut;

use linerate_common::{Error, FrameTx, MAX_BURST};
use linerate_ibverbs_sys::{self as sys, inline};

use super::{VerbsTx, place};

/// Signalled at least every so many requests: those whose numbers are a multiple less one.
const SIGNAL_EVERY: u64 = 32;

/// The call that hands requests to the card.
const POST: &str = "ibv_post_send";

impl VerbsTx {
    /// A list has as many requests as a burst, the ring as many as the card has slots.
    #[inline(always)]
    pub(super) fn set_limit(&mut self) {
        self.limit = (self.posted + MAX_BURST as u64).min(self.head + self.slots);
    }

    /// Is there no room for one more beside `held` that are promised, in the ring or in the list?
    #[inline(always)]
    pub(super) fn is_full(&mut self, held: u64) -> bool {
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

    /// Posts before the kick asks for it. What the card refuses is told there.
    #[cold]
    fn post_early(&mut self) {
        match self.post() {
            // A link that is down or a pair that stopped is told when the kick meets it.
            Err(error) if error.op == POST => _ = self.refused.get_or_insert(error),
            _ => {}
        }
    }

    /// Appends one frame to the list, which lies at `start`; posts it when it is as long as a
    /// burst.
    #[inline(always)]
    pub(super) fn queue(&mut self, id: u32, start: *const u8, len: usize) {
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

    /// Nothing more fits: the list is as long as a burst, or the ring is full.
    #[cold]
    fn stop(&mut self) {
        if self.tail - self.posted == MAX_BURST as u64 {
            self.post_early();
        }
    }

    /// Posts the list with one doorbell.
    pub(super) fn post(&mut self) -> Result<(), Error> {
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
    pub(super) fn seq(&self, number: u64) -> u64 {
        let shift = self.shifts.iter().rev().find(|(from, _)| *from <= number);
        number + shift.map_or(0, |(_, more)| *more)
    }

    /// Forgets the shifts of requests that have all completed.
    #[cold]
    pub(super) fn forget_shifts(&mut self) {
        let passed = self.shifts.iter().filter(|(from, _)| *from <= self.head).count();
        self.shifts.drain(..passed.saturating_sub(1));
    }
}
