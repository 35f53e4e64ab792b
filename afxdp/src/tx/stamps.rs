//! When frames left, in the order in which they were sent.

use linerate_common::{NO_TS, RxFlags, TxStamp};

use crate::clock::TxClock;

/// Brings completions, which carry a frame's place, back into the order of sending.
#[derive(Debug)]
pub(super) struct StampLog {
    pub(super) clock: TxClock,
    /// The number under which each frame of the pool was sent last.
    seq_of: Box<[u64]>,
    /// Stamps by number, modulo the ring's size: in flight, or the reading (0 for none).
    done: Box<[Option<u64>]>,
    next_sent: u64,
    next_shown: u64,
}

impl StampLog {
    pub(super) fn new(clock: TxClock, frames: u32, slots: u32) -> Self {
        Self {
            clock,
            seq_of: vec![0; frames as usize].into_boxed_slice(),
            done: vec![None; slots as usize].into_boxed_slice(),
            next_sent: 0,
            next_shown: 0,
        }
    }

    fn place(&self, seq: u64) -> usize {
        (seq % self.done.len() as u64) as usize
    }

    #[inline(never)]
    pub(super) fn sent(&mut self, id: u32) {
        let seq = self.next_sent;
        self.next_sent += 1;
        self.seq_of[id as usize] = seq;
        let place = self.place(seq);
        self.done[place] = None;
        // No more than a ring is in flight, so what is forgotten here has completed.
        self.next_shown =
            self.next_shown.max(self.next_sent.saturating_sub(self.done.len() as u64));
    }

    #[inline(never)]
    pub(super) fn completed(&mut self, id: u32, reading: u64) {
        let place = self.place(self.seq_of[id as usize]);
        self.done[place] = Some(reading);
    }

    pub(super) fn show(&mut self, f: &mut dyn FnMut(TxStamp)) {
        while self.next_shown < self.next_sent
            && let Some(reading) = self.done[self.place(self.next_shown)]
        {
            let (ts_ns, flags) = self.clock.utc_of(reading).unwrap_or((NO_TS, RxFlags::NONE));
            f(TxStamp { seq: self.next_shown, ts_ns, flags });
            self.next_shown += 1;
        }
    }
}
