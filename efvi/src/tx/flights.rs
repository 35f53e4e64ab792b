//! The buffers of a send queue: those at hand, and those that the card has.
//!
//! The card sends in the order in which it was given frames, so the buffer that a completion may
//! name is known before it comes. The comparison with it proves that the card had the buffer, and
//! had it once; what does not match is looked for among the others, and refused when not found.

use linerate_efvi_sys::{ef_addr, ef_request_id};

/// In place of a buffer. No event can name it: events have 32 bits for that.
const HOLE: u64 = u64::MAX;

/// A buffer of the pool, and where the card finds what is behind its headroom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    pub(super) addr: ef_addr,
    /// The buffer's number, above it the slot of programmed I/O that its frame is in, plus one.
    key: u64,
}

impl Buffer {
    const NONE: Self = Self { addr: 0, key: HOLE };

    pub(super) fn new(id: u32, addr: ef_addr) -> Self {
        Self { addr, key: id.into() }
    }

    #[inline]
    pub(super) fn id(self) -> u32 {
        self.key as u32
    }

    /// With its frame in a slot of programmed I/O.
    pub(super) fn in_slot(self, slot: u8) -> Self {
        Self { key: u64::from(self.id()) | (u64::from(slot) + 1) << 32, ..self }
    }

    /// Takes the slot of programmed I/O off.
    pub(super) fn without_slot(self) -> (Self, Option<u8>) {
        let slot = (self.key >> 32).checked_sub(1).map(|slot| slot as u8);
        (Self { key: self.id().into(), ..self }, slot)
    }

    fn is_hole(&self) -> bool {
        self.key == HOLE
    }
}

/// Buffers at hand, the one that came back last on top: it is still in the CPU's cache.
#[derive(Debug)]
pub(super) struct Spare {
    stack: Box<[Buffer]>,
    n: usize,
}

impl Spare {
    pub(super) fn new(room: usize) -> Self {
        Self { stack: vec![Buffer::NONE; room].into_boxed_slice(), n: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.n
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Buffer> {
        let n = self.n.wrapping_sub(1);
        let top = *self.stack.get(n)?;
        self.n = n;
        Some(top)
    }

    /// `false`: no room.
    #[inline]
    pub(super) fn push(&mut self, buffer: Buffer) -> bool {
        let Some(place) = self.stack.get_mut(self.n) else { return false };
        *place = buffer;
        self.n += 1;
        true
    }
}

/// What the card has, in the order of sending; holes are frames that are done already.
#[derive(Debug)]
pub(super) struct Flights {
    /// A power of two of them, at least the ring.
    places: Box<[Buffer]>,
    head: u64,
    /// The number of the next frame.
    tail: u64,
}

impl Flights {
    /// Of a ring of `ring` frames.
    pub(super) fn new(ring: u32) -> Self {
        let places = (ring as usize).next_power_of_two();
        let places = vec![Buffer::NONE; places].into_boxed_slice();
        Self { places, head: 0, tail: 0 }
    }

    #[inline(always)]
    fn at(&self, number: u64) -> usize {
        number as usize & (self.places.len() - 1)
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// The number of the frame that completes next.
    #[inline(always)]
    pub(super) fn first(&self) -> u64 {
        self.head
    }

    /// The number of the oldest frame that the card has, or of the next.
    pub(super) fn oldest(&mut self) -> u64 {
        self.skip_holes();
        self.head
    }

    /// Frames so far, and so the number of the next.
    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.tail
    }

    /// The card has the next frame. There must be fewer than the ring holds.
    #[inline(always)]
    pub(super) fn push(&mut self, buffer: Buffer) {
        let at = self.at(self.tail);
        if let Some(place) = self.places.get_mut(at) {
            *place = buffer;
        }
        self.tail += 1;
    }

    /// The next frame has a number, but the card does not have it.
    pub(super) fn push_hole(&mut self) {
        self.push(Buffer::NONE);
        self.skip_holes();
    }

    /// Moves the buffers of frames `ids` to those at hand, as long as each is the next one and not
    /// one of programmed I/O; says how many.
    #[inline]
    pub(super) fn land(&mut self, ids: &[ef_request_id], spare: &mut Spare) -> usize {
        let head = self.at(self.head);
        let next = self.places.get(head..).unwrap_or_default();
        let next = next.get(..self.len()).unwrap_or(next);
        let room = spare.stack.get_mut(spare.n..).unwrap_or_default();
        let mut landed = 0;
        for ((id, buffer), place) in ids.iter().zip(next).zip(room) {
            if buffer.key != u64::from(*id as u32) {
                break;
            }
            *place = *buffer;
            landed += 1;
        }
        spare.n += landed;
        self.head += landed as u64;
        landed
    }

    /// The number and the buffer of frame `id`, wherever it is.
    pub(super) fn pop(&mut self, id: u32) -> Option<(u64, Buffer)> {
        let numbers = self.head..self.tail;
        let is = |at: usize| self.places.get(at).is_some_and(|x| !x.is_hole() && x.id() == id);
        let number = { numbers }.find(|number| is(self.at(*number)))?;
        let buffer = self.take(number)?;
        self.skip_holes();
        Some((number, buffer))
    }

    /// The first frame's buffer, to take back all of them.
    pub(super) fn pop_any(&mut self) -> Option<Buffer> {
        self.skip_holes();
        let buffer = if self.head < self.tail { self.take(self.head) } else { None };
        self.skip_holes();
        buffer
    }

    fn take(&mut self, number: u64) -> Option<Buffer> {
        let at = self.at(number);
        let buffer = std::mem::replace(self.places.get_mut(at)?, Buffer::NONE);
        (!buffer.is_hole()).then_some(buffer)
    }

    fn skip_holes(&mut self) {
        while self.head < self.tail
            && self.places.get(self.at(self.head)).is_none_or(Buffer::is_hole)
        {
            self.head += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights(ids: impl IntoIterator<Item = u32>) -> Flights {
        let mut flights = Flights::new(7);
        ids.into_iter().for_each(|id| flights.push(Buffer::new(id, 0)));
        flights
    }

    /// Has frame `id` landed in its turn?
    fn lands(flights: &mut Flights, id: u32) -> bool {
        let mut spare = Spare::new(1);
        let landed = flights.land(&[id as i32], &mut spare) == 1;
        assert_eq!(spare.pop().map(Buffer::id), landed.then_some(id));
        landed
    }

    #[test]
    fn each_completes_once_and_none_that_was_not_sent() {
        let mut flights = flights(1..8);
        assert_eq!(flights.len(), 7);
        assert!(!lands(&mut flights, u32::MAX) && !lands(&mut flights, 2));
        for id in 1..8 {
            assert!(lands(&mut flights, id));
            assert!(!lands(&mut flights, id) && flights.pop(id).is_none());
        }
        assert_eq!((flights.len(), flights.sent()), (0, 7));
        // Round again, over places that were used.
        (10..17).for_each(|id| flights.push(Buffer::new(id, 0)));
        assert!((1..8).all(|id| flights.pop(id).is_none()));
        assert!((10..17).all(|id| lands(&mut flights, id)));
    }

    #[test]
    fn what_completes_early_leaves_a_hole_that_is_passed_over() {
        let mut flights = flights(1..5);
        assert_eq!(flights.pop(3).map(|(n, x)| (n, x.id())), Some((2, 3)));
        assert!(lands(&mut flights, 1));
        assert_eq!(flights.pop(2).map(|(n, _)| n), Some(1));
        assert_eq!(flights.len(), 1);
        assert!(lands(&mut flights, 4));
        flights.push_hole();
        assert_eq!((flights.len(), flights.sent()), (0, 5));
    }

    #[test]
    fn frames_of_programmed_io_bring_their_slot_back() {
        let mut flights = flights([]);
        flights.push(Buffer::new(9, 5).in_slot(0));
        assert!(!lands(&mut flights, 9));
        let (buffer, slot) = flights.pop(9).unwrap().1.without_slot();
        assert_eq!((buffer.id(), buffer.addr, slot), (9, 5, Some(0)));
        assert_eq!(Buffer::new(9, 5).without_slot().1, None);
    }

    #[test]
    fn all_can_be_taken_back() {
        let mut flights = flights(1..7);
        flights.pop(4);
        let ids: Vec<_> = std::iter::from_fn(|| flights.pop_any()).map(Buffer::id).collect();
        assert_eq!(ids, [1, 2, 3, 5, 6]);
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn many_land_at_once_as_far_as_there_is_room() {
        let mut flights = flights(1..7);
        let mut spare = Spare::new(4);
        assert_eq!(flights.land(&[1, 2, 4], &mut spare), 2);
        assert_eq!(flights.land(&[3, 4, 5, 6], &mut spare), 2);
        assert_eq!((flights.len(), spare.len(), flights.first()), (2, 4, 4));
        assert_eq!(spare.pop().map(Buffer::id), Some(4));
    }

    #[test]
    fn the_last_one_put_back_is_the_first_at_hand() {
        let mut spare = Spare::new(2);
        assert!(spare.pop().is_none());
        assert!([1, 2].iter().all(|id| spare.push(Buffer::new(*id, 0))));
        assert!(!spare.push(Buffer::new(3, 0)));
        assert_eq!(spare.pop().map(Buffer::id), Some(2));
        assert_eq!(spare.len(), 1);
    }
}
