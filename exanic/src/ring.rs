//! A mapped receive ring and positions in it.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use linerate_exanic_sys::rx::Info;

use crate::shared::{Chunk, RING_CHUNKS};

/// Which chunk of which lap: the index in the low 14 bits, the generation in the next 8. Wraps
/// as the card's own count does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pos(u32);

const INDEX_BITS: u32 = RING_CHUNKS.trailing_zeros();

impl Pos {
    pub(crate) const fn new(generation: u8, index: u32) -> Self {
        Self(((generation as u32) << INDEX_BITS).wrapping_add(index))
    }

    #[inline]
    pub(crate) const fn index(self) -> usize {
        (self.0 % RING_CHUNKS) as usize
    }

    #[inline]
    pub(crate) const fn generation(self) -> u8 {
        (self.0 >> INDEX_BITS) as u8
    }

    #[inline]
    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    #[inline]
    pub(crate) const fn prev(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }
}

/// What the card's write position looks like from a chunk's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The chunk is there.
    Chunk(Info),
    /// It has not been written yet: this is what was there before.
    Nothing(Info),
    /// Something else is there: the card came round.
    Lapped,
}

/// A ring that stays mapped as long as its reader is open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ring(NonNull<Chunk>);

// SAFETY: a ring is a shared array of atomics; see `at`.
unsafe impl Send for Ring {}

impl Ring {
    /// # Safety
    ///
    /// `base` is a whole ring that stays mapped while this is used.
    pub(crate) const unsafe fn new(base: NonNull<Chunk>) -> Self {
        Self(base)
    }

    #[inline]
    pub(crate) fn at(&self, pos: Pos) -> &Chunk {
        // SAFETY: mapped by the constructor's contract, the index is below RING_CHUNKS, and a
        // chunk is made of atomics, so that the card may write it at any time.
        unsafe { self.0.add(pos.index()).as_ref() }
    }

    #[inline]
    pub(crate) fn info(&self, pos: Pos, order: Ordering) -> Info {
        Info(self.at(pos).info.load(order))
    }

    /// Looks for the chunk at `pos`. When it is there its payload may be loaded.
    #[inline]
    pub(crate) fn find(&self, pos: Pos) -> Found {
        let info = self.info(pos, Ordering::Acquire);
        if info.generation() == pos.generation() {
            Found::Chunk(info)
        } else if info.generation() == pos.generation().wrapping_sub(1) {
            Found::Nothing(info)
        } else {
            Found::Lapped
        }
    }

    /// The place behind the newest complete frame, and the metadata of the chunk before it.
    ///
    /// `__exanic_rx_catchup` walks back through up to the whole ring; the generations form two
    /// runs, so the card's position is found by halving, and the end of a frame within a few
    /// chunks before it.
    pub(crate) fn newest_end(&self) -> (Pos, Info) {
        let mut end = self.try_newest_end();
        // A retry is needed when the card came round during the search, which takes it a
        // thousand times longer than the search unless this thread was suspended in it.
        for _ in 0..100 {
            if end.2 {
                break;
            }
            end = self.try_newest_end();
        }
        (end.0, end.1)
    }

    /// As above; false: the card overwrote what was looked at.
    fn try_newest_end(&self) -> (Pos, Info, bool) {
        let lap = self.info(Pos(0), Ordering::Acquire).generation();
        // Chunks below `low` are of this lap, those from `high` on of the one before.
        let (mut low, mut high) = (1, RING_CHUNKS);
        while low < high {
            let middle = u32::midpoint(low, high);
            if self.info(Pos(middle), Ordering::Acquire).generation() == lap {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let written = Pos::new(lap, low);
        let mut pos = written;
        for _ in 0..RING_CHUNKS {
            let before = self.info(pos.prev(), Ordering::Acquire);
            if before.generation() != pos.prev().generation() {
                return (pos, before, false);
            }
            // The length is 0 in all chunks of a frame but the last. Never-written chunks have
            // all bits set.
            if before.length() != 0 {
                return (pos, before, true);
            }
            pos = pos.prev();
        }
        // No frame ends anywhere, which no card does: start at the card's position.
        (written, self.info(written.prev(), Ordering::Acquire), true)
    }
}

#[cfg(all(test, not(loom)))]
pub(crate) mod tests {
    use super::*;
    use crate::shared::AtomicU64;

    /// A ring in memory, written as a card would.
    pub(crate) struct TestRing {
        chunks: Box<[Chunk]>,
        pub(crate) pos: u64,
    }

    impl TestRing {
        pub(crate) fn new() -> Self {
            let word = || AtomicU64::new(u64::MAX);
            let chunk = || Chunk { payload: std::array::from_fn(|_| word()), info: word() };
            Self { chunks: (0..RING_CHUNKS).map(|_| chunk()).collect(), pos: 0 }
        }

        pub(crate) fn ring(&self) -> Ring {
            // SAFETY: the tests keep it alive longer.
            unsafe { Ring::new(NonNull::from(&*self.chunks).cast()) }
        }

        /// One chunk; length 0 is a full one.
        pub(crate) fn put(&mut self, bytes: &[u8], ts: u32, status: u8, last: bool) {
            let chunk = &self.chunks[self.pos as usize % self.chunks.len()];
            for (word, part) in chunk.payload.iter().zip(bytes.chunks(8)) {
                let mut whole = [0xee; 8];
                whole[..part.len()].copy_from_slice(part);
                word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
            }
            let generation = (self.pos / u64::from(RING_CHUNKS)) as u8;
            let length = if last { bytes.len() as u8 } else { 0 };
            chunk.info.store(Info::new(ts, status, length, 0, generation).0, Ordering::Release);
            self.pos += 1;
        }

        pub(crate) fn put_frame(&mut self, bytes: &[u8], ts: u32, status: u8) {
            let parts = bytes.chunks(120).count();
            for (i, part) in bytes.chunks(120).enumerate() {
                self.put(part, ts, status, i + 1 == parts);
            }
        }
    }

    #[test]
    fn positions_wrap_as_the_card_counts() {
        let last = Pos::new(255, RING_CHUNKS - 1);
        assert_eq!((last.next().generation(), last.next().index()), (0, 0));
        assert_eq!(Pos::new(0, 0).prev().generation(), 255);
        assert_eq!(Pos::new(3, 0).prev().index(), RING_CHUNKS as usize - 1);
    }

    #[test]
    fn a_fresh_ring_begins_at_its_beginning() {
        let ring = TestRing::new();
        let (pos, _) = ring.ring().newest_end();
        assert_eq!((pos.generation(), pos.index()), (0, 0));
    }

    #[test]
    fn the_newest_end_is_found_wherever_the_card_is() {
        let mut ring = TestRing::new();
        let laps = 3 * u64::from(RING_CHUNKS);
        let mut end = 0;
        while ring.pos < laps {
            // One to four chunks; looked at after each chunk, so in mid-frame too.
            let chunks = 1 + (ring.pos * 7 / 3 % 4);
            for i in 0..chunks {
                ring.put(&[1; 120], 5, 0, i + 1 == chunks);
                if i + 1 == chunks {
                    end = ring.pos;
                }
                if ring.pos.is_multiple_of(37) || ring.pos % u64::from(RING_CHUNKS) < 3 {
                    let generation = (end / u64::from(RING_CHUNKS)) as u8;
                    let expected = Pos::new(generation, end as u32 % RING_CHUNKS);
                    let (pos, before) = ring.ring().newest_end();
                    assert_eq!((pos.index(), pos.generation()), (expected.index(), generation));
                    assert_eq!(before, ring.ring().info(pos.prev(), Ordering::Relaxed));
                }
            }
        }
    }
}
