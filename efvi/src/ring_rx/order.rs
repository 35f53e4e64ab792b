//! The buffers of a receive ring in the order in which the card fills them.
//!
//! The card fills buffers in the order in which they were posted. So the buffer that an event may
//! name is known before it comes: the comparison with it proves that the card had the buffer, that
//! this is the first word of it, and that the number is one of the pool's. A buffer that was shown
//! stays in its place and is posted again from there: nothing is searched for, nothing moves.

use linerate_efvi_sys::ef_addr;

/// In place of a buffer. No event can name it: events have 32 bits for that.
const HOLE: u64 = u64::MAX;

/// A buffer of the pool, and where it is: for us and for the card.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(super) struct Entry {
    addr: ef_addr,
    area: *mut u8,
    /// The buffer's number, or [`HOLE`].
    id: u64,
}

impl Entry {
    const NONE: Self = Self { addr: 0, area: std::ptr::null_mut(), id: HOLE };

    pub(super) fn new(id: u32, addr: ef_addr, area: *mut u8) -> Self {
        Self { addr, area, id: id.into() }
    }

    /// Where the card writes.
    #[inline]
    pub(super) fn area(&self) -> *mut u8 {
        self.area
    }

    /// Its number; `None` for a hole.
    #[inline]
    pub(super) fn id(self) -> Option<u32> {
        (self.id != HOLE).then_some(self.id as u32)
    }

    /// Is it this buffer?
    #[inline]
    pub(super) fn is(&self, id: u32) -> bool {
        self.id == u64::from(id)
    }
}

/// Which buffers the card has, and which come next.
#[derive(Debug)]
pub(super) struct Order {
    /// As many as the card is given at most.
    entries: Box<[Entry]>,
    at: Cursor,
    holes: usize,
}

/// Going round: from `head` on `posted` buffers that the card has, up to `tail`, then those that
/// are ours until they are posted again, some of them holes.
#[derive(Debug)]
pub(super) struct Cursor {
    ring: usize,
    /// The buffer to be filled next.
    head: usize,
    /// The place to be posted next.
    tail: usize,
    posted: usize,
}

impl Cursor {
    /// The place of the buffer to be filled next.
    #[inline]
    pub(super) fn head(&self) -> usize {
        self.head
    }

    /// The first `n` of [`Order::next`] are filled: they are ours from here on.
    #[inline]
    pub(super) fn advance(&mut self, n: usize) {
        self.posted -= n;
        self.head += n;
        if self.head >= self.ring {
            self.head = 0;
        }
    }

    #[inline]
    fn post(&mut self, n: usize) {
        self.posted += n;
        self.tail += n;
        if self.tail >= self.ring {
            self.tail = 0;
        }
    }
}

impl Order {
    /// Of a ring of `ring` buffers.
    pub(super) fn new(ring: u32) -> Self {
        let ring = ring as usize;
        let at = Cursor { ring, head: 0, tail: 0, posted: 0 };
        Self { entries: vec![Entry::NONE; ring].into_boxed_slice(), at, holes: ring }
    }

    /// Buffers with the card.
    #[inline]
    pub(super) fn posted(&self) -> u32 {
        self.at.posted as u32
    }

    /// Buffers that the card could be given.
    #[inline]
    pub(super) fn missing(&self) -> u32 {
        (self.at.ring - self.at.posted) as u32
    }

    /// What the card fills next, as far as it lies in one piece, and where to say that it has.
    #[inline]
    pub(super) fn next(&mut self) -> (&[Entry], &mut Cursor) {
        let ahead = self.entries.get(self.at.head..).unwrap_or_default();
        (ahead.get(..self.at.posted).unwrap_or(ahead), &mut self.at)
    }

    /// Where buffer `id` was, which the card says it has filled: from here on it is ours. `None`:
    /// the card does not have it.
    #[inline]
    pub(super) fn filled(&mut self, id: u32) -> Option<usize> {
        if !self.next().0.first().is_some_and(|next| next.is(id)) {
            self.bring_forward(id)?;
        }
        let place = self.at.head;
        self.at.advance(1);
        Some(place)
    }

    /// Puts a buffer first that others were posted before. No card does that, but one that did
    /// would lose none of them.
    #[cold]
    fn bring_forward(&mut self, id: u32) -> Option<()> {
        let Cursor { ring, head, posted, .. } = self.at;
        let is = |place: &usize| self.entries.get(*place).is_some_and(|entry| entry.is(id));
        let place = (1..posted).map(|ahead| (head + ahead) % ring).find(is)?;
        self.entries.swap(head, place);
        Some(())
    }

    /// Takes the buffer out of a place that was [`filled`](Self::filled).
    #[inline]
    pub(super) fn take(&mut self, place: usize) -> Option<Entry> {
        let entry = self.exchange(place, Entry::NONE)?;
        self.holes += 1;
        Some(entry)
    }

    /// Puts `entry` into a place that was [`filled`](Self::filled), and gives what was there.
    #[inline]
    pub(super) fn exchange(&mut self, place: usize, entry: Entry) -> Option<Entry> {
        let was = std::mem::replace(self.entries.get_mut(place)?, entry);
        was.id().map(|_| was)
    }

    /// Posts up to `n` of the buffers that are missing, with fresh ones in place of those that
    /// were taken. Ends early when there are no more or `post` refuses one; says how many it took.
    #[inline]
    pub(super) fn post(
        &mut self,
        n: u32,
        mut fresh: impl FnMut() -> Option<Entry>,
        mut post: impl FnMut(ef_addr, u32) -> bool,
    ) -> u32 {
        let before = self.at.posted;
        let end = before + n.min(self.missing()) as usize;
        while self.at.posted < end && (self.holes == 0 || self.fill(&mut fresh)) {
            let mut posted = 0;
            let places = self.entries.get(self.at.tail..).unwrap_or_default();
            let places = places.get(..end - self.at.posted).unwrap_or(places);
            for entry in places {
                if entry.id == HOLE || !post(entry.addr, entry.id as u32) {
                    break;
                }
                posted += 1;
            }
            if posted == 0 {
                break;
            }
            self.at.post(posted);
        }
        (self.at.posted - before) as u32
    }

    /// Sees to it that the next place to be posted is no hole: with a fresh buffer, or with the
    /// one that was shown last. `false`: there is neither.
    #[cold]
    fn fill(&mut self, fresh: &mut impl FnMut() -> Option<Entry>) -> bool {
        let Cursor { ring, head, tail, posted } = self.at;
        let hole = |order: &Self, place: usize| {
            order.entries.get(place).is_none_or(|entry| entry.id == HOLE)
        };
        if !hole(self, tail) {
            return true;
        }
        if let Some(entry) = fresh() {
            self.holes -= 1;
            return self.exchange(tail, entry).is_none();
        }
        let ours = ring - posted;
        if self.holes >= ours {
            return false;
        }
        let mut last = (1..ours).map(|back| (head + ring - back) % ring);
        let Some(place) = last.find(|place| !hole(self, *place)) else { return false };
        self.entries.swap(tail, place);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring of 8 with 6 buffers posted, named 10 to 15.
    fn ring() -> Order {
        let mut order = Order::new(8);
        assert_eq!(post(&mut order, 8, &[10, 11, 12, 13, 14, 15]), [10, 11, 12, 13, 14, 15]);
        order
    }

    fn post(order: &mut Order, n: u32, fresh: &[u32]) -> Vec<u32> {
        let (mut fresh, mut posted) = (fresh.iter(), Vec::new());
        let n = order.post(
            n,
            || fresh.next().map(|id| Entry::new(*id, 0, std::ptr::null_mut())),
            |_, id| {
                posted.push(id);
                true
            },
        );
        assert_eq!(n as usize, posted.len());
        posted
    }

    #[test]
    fn what_was_shown_is_posted_again_in_its_order() {
        let mut order = ring();
        assert_eq!(post(&mut order, 2, &[16, 17]), [16, 17]);
        for round in 0..5 {
            for id in 10..18 {
                assert!(order.filled(id).is_some(), "{id} in round {round}");
                assert!(order.filled(id).is_none(), "{id} twice");
            }
            assert_eq!(order.posted(), 0);
            assert_eq!(post(&mut order, 3, &[]), [10, 11, 12]);
            assert_eq!(post(&mut order, 8, &[]), [13, 14, 15, 16, 17]);
        }
    }

    #[test]
    fn a_buffer_that_the_card_does_not_have_is_refused() {
        let mut order = ring();
        assert!([9, 16, u32::MAX].iter().all(|id| order.filled(*id).is_none()));
        assert_eq!(order.posted(), 6);
        (10..16).for_each(|id| assert!(order.filled(id).is_some()));
        assert!((0..20).all(|id| order.filled(id).is_none()));
    }

    #[test]
    fn out_of_order_none_is_lost_and_none_comes_twice() {
        let mut order = ring();
        for id in [13, 10, 15, 11] {
            assert!(order.filled(id).is_some());
            assert!(order.filled(id).is_none());
        }
        assert_eq!(order.posted(), 2);
        let mut again = post(&mut order, 8, &[]);
        again.sort_unstable();
        assert_eq!(again, [10, 11, 13, 15]);
        assert!([12, 14].iter().all(|id| order.filled(*id).is_some()));
    }

    #[test]
    fn holes_are_filled_and_do_not_keep_others_from_being_posted() {
        let mut order = ring();
        let places: Vec<_> = (10..16).filter_map(|id| order.filled(id)).collect();
        assert_eq!(order.take(places[0]).and_then(Entry::id), Some(10));
        assert_eq!(order.take(places[3]).and_then(Entry::id), Some(13));
        assert!(order.take(places[3]).is_none());
        // Two of the eight were never there.
        let mut posted = post(&mut order, 8, &[20]);
        posted.sort_unstable();
        assert_eq!(posted, [11, 12, 14, 15, 20]);
        assert_eq!(post(&mut order, 8, &[21, 22, 23, 24]), [21, 22, 23]);
        assert_eq!(order.missing(), 0);
    }

    #[test]
    fn a_buffer_that_is_not_taken_stays() {
        let mut order = ring();
        (10..14).for_each(|id| assert!(order.filled(id).is_some()));
        assert_eq!(
            order.post(8, || Some(Entry::new(20, 0, std::ptr::null_mut())), |_, _| false),
            0
        );
        assert_eq!(order.post(8, || None, |_, id| id != 12), 4);
        assert_eq!(post(&mut order, 8, &[]), [12]);
    }
}
