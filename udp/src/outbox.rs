//! Frames that were committed and not sent yet.

use std::ops::Range;

use crate::sys::RawAddr;

/// A ring of slots; each holds a whole frame, of which the payload will be sent.
pub(crate) struct Outbox {
    memory: Vec<u8>,
    stride: usize,
    max_len: usize,
    letters: Vec<Letter>,
    /// Count slots taken and given back; their difference is how many are in use.
    head: u64,
    tail: u64,
    /// Slots before this one have been kicked.
    kicked: u64,
}

/// One committed frame.
#[derive(Clone, Copy)]
pub(crate) struct Letter {
    pub(crate) to: RawAddr,
    pub(crate) v6: bool,
    /// Where in its slot the payload is.
    start: u32,
    pub(crate) len: u32,
    pub(crate) frame_len: u32,
}

impl Outbox {
    pub(crate) fn new(slots: usize, max_len: usize) -> Self {
        let slots = slots.clamp(1, 1 << 16);
        let stride = max_len.next_multiple_of(64);
        let empty = Letter { to: RawAddr::EMPTY, v6: false, start: 0, len: 0, frame_len: 0 };
        let (memory, letters) = (vec![0; slots * stride], vec![empty; slots]);
        Self { memory, stride, max_len, letters, head: 0, tail: 0, kicked: 0 }
    }

    pub(crate) fn max_len(&self) -> usize {
        self.max_len
    }

    /// Slots that are free.
    pub(crate) fn room(&self) -> usize {
        self.letters.len() - self.waiting()
    }

    /// Frames that are committed and not sent.
    pub(crate) fn waiting(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// Frames that are to be sent now: a kick asked for them.
    pub(crate) fn due(&self) -> usize {
        (self.kicked - self.head) as usize
    }

    /// Everything that waits is due.
    pub(crate) fn kick(&mut self) {
        self.kicked = self.tail;
    }

    /// Begins anew at the first slot if nothing waits: it is the one that is in the cache. Call
    /// only while the slot at the tail is nobody's.
    #[inline]
    pub(crate) fn rewind(&mut self) {
        if self.head == self.tail {
            (self.head, self.tail, self.kicked) = (0, 0, 0);
        }
    }

    fn slot(&self, at: u64) -> usize {
        // Mostly the ring has not turned since it was empty, and a division takes its time.
        let slots = self.letters.len() as u64;
        (if at < slots { at } else { at % slots }) as usize
    }

    /// The free slot at the tail; call only with room.
    pub(crate) fn tail_mut(&mut self, len: usize) -> &mut [u8] {
        let at = self.slot(self.tail) * self.stride;
        &mut self.memory[at..at + len]
    }

    /// Makes the slot at the tail a letter: `payload` of a frame of `frame_len` bytes.
    pub(crate) fn seal(&mut self, to: RawAddr, v6: bool, payload: Range<usize>, frame_len: usize) {
        let slot = self.slot(self.tail);
        self.letters[slot] = Letter {
            to,
            v6,
            start: payload.start as u32,
            len: payload.len() as u32,
            frame_len: frame_len as u32,
        };
        self.tail += 1;
    }

    /// Letter `i` of those that wait, oldest first.
    pub(crate) fn letter(&self, i: usize) -> &Letter {
        debug_assert!(i < self.waiting());
        &self.letters[self.slot(self.head + i as u64)]
    }

    /// Its payload.
    pub(crate) fn payload(&self, i: usize) -> &[u8] {
        let slot = self.slot(self.head + i as u64);
        let (letter, at) = (&self.letters[slot], slot * self.stride);
        &self.memory[at..at + self.stride][letter.start as usize..][..letter.len as usize]
    }

    /// Gives the oldest slot back; call only while something is due.
    pub(crate) fn pop(&mut self) -> Letter {
        let letter = *self.letter(0);
        self.head += 1;
        letter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_outbox_begins_anew_and_no_other() {
        let mut outbox = Outbox::new(3, 100);
        outbox.seal(RawAddr::EMPTY, false, 40..42, 60);
        outbox.rewind();
        assert_eq!((outbox.waiting(), outbox.due()), (1, 0));
        outbox.kick();
        outbox.pop();
        outbox.rewind();
        assert_eq!((outbox.tail, outbox.due(), outbox.room()), (0, 0, 3));
    }

    #[test]
    fn letters_leave_in_order_however_often_the_ring_turns() {
        let mut outbox = Outbox::new(3, 100);
        let mut sent = 0u8;
        for n in 0..50u8 {
            outbox.tail_mut(100)[40..42].copy_from_slice(&[n, n]);
            outbox.seal(RawAddr::EMPTY, false, 40..42, 60);
            if outbox.room() == 0 {
                outbox.kick();
                while outbox.due() > 1 {
                    assert_eq!(outbox.payload(0), [sent, sent]);
                    assert_eq!(outbox.payload(1), [sent + 1, sent + 1]);
                    assert_eq!(outbox.pop().frame_len, 60);
                    sent += 1;
                }
            }
        }
        assert_eq!((outbox.waiting(), outbox.room(), outbox.due()), (2, 1, 1));
    }
}
