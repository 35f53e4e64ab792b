//! What the card and we share, in two kinds: the real ring and the standard library's atomics; and
//! for loom, whose models try every order in which the two sides can meet (`tests/trust.sh loom`),
//! a ring of four small chunks. Miri, which is slow, has a ring of 128.

#[cfg(not(all(any(loom, miri), test)))]
pub(crate) use linerate_exanic_sys::rx::RING_CHUNKS;
#[cfg(not(all(loom, test)))]
pub(crate) use linerate_exanic_sys::rx::{Chunk, PAYLOAD_BYTES, PAYLOAD_WORDS};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicU16, AtomicU64, fence};

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicU16, AtomicU64, fence};
#[cfg(all(loom, test))]
pub(crate) use small::{Chunk, PAYLOAD_BYTES, PAYLOAD_WORDS, RING_CHUNKS};

#[cfg(all(miri, test))]
pub(crate) const RING_CHUNKS: u32 = 128;

#[cfg(all(loom, test))]
mod small {
    use super::AtomicU64;

    pub(crate) const RING_CHUNKS: u32 = 4;
    pub(crate) const PAYLOAD_WORDS: usize = 2;
    pub(crate) const PAYLOAD_BYTES: usize = PAYLOAD_WORDS * 8;

    #[derive(Debug)]
    pub(crate) struct Chunk {
        pub(crate) payload: [AtomicU64; PAYLOAD_WORDS],
        pub(crate) info: AtomicU64,
    }
}
