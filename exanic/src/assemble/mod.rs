//! From chunks to frames: the one loop that all copying receive modes share.

#[cfg(all(loom, test))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use std::sync::atomic::Ordering;

use linerate_exanic_sys::rx::{FRAME_ERROR_MASK, FRAME_OK, Info};

use crate::ring::{Found, Pos, Ring};
use crate::shared::{AtomicU64, PAYLOAD_BYTES, PAYLOAD_WORDS, fence};

/// What a turn of [`Assembler::next`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, or not all of a frame yet.
    Empty,
    /// A whole frame was copied and is intact.
    Frame(Whole),
    /// The card overwrote what was being read, or would have been. The reader stands behind the
    /// newest frame now.
    Lapped,
}

/// A frame that was copied whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Length in the ring, check sequence included.
    pub(crate) len: usize,
    /// Bytes of it that were copied: fewer when the buffer was too small.
    pub(crate) copied: usize,
    /// Metadata of the last chunk.
    pub(crate) info: Info,
    /// Where the timestamp changed within the frame, 0 when it did not: see `rx/collect.rs`.
    pub(crate) joint: usize,
}

/// A reader's place in a ring, and the part of a frame it has.
///
/// # Why the chunk before
///
/// The card writes a chunk's payload first and its metadata last. So a chunk that is just being
/// overwritten still shows its old generation: looking at it again after copying proves nothing.
/// But the card finishes the chunk *before* it first. If, after the last byte was copied, the
/// metadata of the chunk before the frame's first is still what it was, then the card had not
/// begun to overwrite the first, let alone the others, when they were copied.
///
/// In terms of the memory model: the copying loads are relaxed; the acquire fence after them,
/// with the order in which the card's writes become visible (on a bus: in order; in the
/// simulator: a release fence after each metadata), makes any overwritten byte that a load saw
/// imply that the load after the fence sees the overwritten metadata. Atomic loads, because a
/// plain load of memory that a card writes is undefined.
///
/// # Why the whole word
///
/// The generation has 8 bits. A reader that stalls for 256 laps (0.28 s of small frames at
/// 10 Gb/s) finds the generation it expects, or the one before it ("nothing new"), and would go on
/// as if nothing had happened. The metadata word also holds the frame's timestamp, length and
/// status, so the word that was in place when the reader left tells the laps apart without
/// reading a clock. It could only be mistaken if frame number N and frame number N + 256 laps had
/// the same 32 bits of time, which takes 2^32 ticks (27 s) between them to the tick.
#[derive(Debug)]
pub(crate) struct Assembler {
    ring: Ring,
    /// Chunk that is read next.
    next: Pos,
    /// First chunk of the frame at hand.
    start: Pos,
    /// Metadata of the chunk before `start` as it was.
    before: Info,
    /// Bytes of the frame at hand that came, whether or not they fitted.
    len: usize,
    /// Timestamp in the chunk before.
    timestamp: u32,
    joint: usize,
    /// What [`single`](Self::single) takes: this many lengths from [`SHORTEST`] on, and now; none
    /// while a frame is at hand or the next one must be looked at closely.
    usual: usize,
    single: usize,
    /// What an empty look at `next` found there, and where that was.
    stale: (Info, Pos),
}

/// Bytes of the frame check sequence, which the card leaves in the ring.
pub(crate) const FCS_BYTES: usize = 4;

/// Shortest frame that is one: the check sequence of nothing is not.
const SHORTEST: usize = FCS_BYTES + 1;

/// Generation and status: what decides whether a chunk is there and good.
const GENERATION_AND_STATUS: u64 = 0xff << 56 | (FRAME_ERROR_MASK as u64) << 32;
const _: () = assert!(FRAME_OK == 0);

impl Assembler {
    /// Frames of at most `most` bytes are for [`single`](Self::single), if a chunk holds them.
    pub(crate) fn new(ring: Ring, most: usize) -> Self {
        let (next, before) = ring.newest_end();
        let usual = (most.min(PAYLOAD_BYTES) + 1).saturating_sub(SHORTEST);
        Self {
            ring,
            next,
            start: next,
            before,
            len: 0,
            timestamp: 0,
            joint: 0,
            usual,
            single: usual,
            // As if it had been looked for elsewhere.
            stale: (before, next.prev()),
        }
    }

    /// Words of the frame at hand that are in the buffer. The next call must get the same bytes
    /// at the beginning of its buffer.
    pub(crate) fn words_held(&self) -> usize {
        self.len / 8
    }

    /// A good frame in a single chunk, as most market data comes: what [`next`](Self::next) does,
    /// without what other frames need. `None`, and nothing has changed: `next` looks closer.
    #[inline(always)]
    pub(crate) fn single(&mut self, buf: &mut [u64; PAYLOAD_WORDS]) -> Option<(usize, Info)> {
        let here = self.next;
        let chunk = self.ring.at(here);
        let info = Info(chunk.info.load(Ordering::Acquire));
        let len = usize::from(info.length());
        if info.0 & GENERATION_AND_STATUS != u64::from(here.generation()) << 56
            || len.wrapping_sub(SHORTEST) >= self.single
        {
            return None;
        }
        copy_chunk(&chunk.payload, buf);
        fence(Ordering::Acquire);
        // No frame is at hand, so `start` is here.
        if self.ring.info(here.prev(), Ordering::Relaxed) != self.before {
            return None;
        }
        (self.next, self.before) = (here.next(), info);
        Some((len, info))
    }

    /// Is the next chunk as an earlier look left it, which found nothing?
    ///
    /// Then nothing has happened at all: a card writes this chunk before any other, and what it
    /// writes differs (see "Why the whole word").
    #[inline(always)]
    pub(crate) fn is_still(&self) -> bool {
        let (info, pos) = self.stale;
        self.ring.info(self.next, Ordering::Acquire) == info && self.next == pos
    }

    /// Makes [`single`](Self::single) leave the next frame to `next`.
    pub(crate) fn look_closely(&mut self) {
        self.single = 0;
    }

    /// Copies what has arrived of the next frame into `buf`, as far as it fits.
    #[inline]
    pub(crate) fn next(&mut self, buf: &mut [u64]) -> Step {
        if self.len == 0 {
            self.start = self.next;
        }
        self.single = 0;
        loop {
            let info = match self.ring.find(self.next) {
                Found::Chunk(info) => info,
                Found::Nothing(info) if self.is_intact() => {
                    self.stale = (info, self.next);
                    if self.len == 0 {
                        self.single = self.usual;
                    }
                    return Step::Empty;
                }
                Found::Nothing(_) | Found::Lapped => return self.lapped(),
            };
            if self.len == 0 {
                self.timestamp = info.timestamp();
            } else if self.timestamp != info.timestamp() {
                self.timestamp = info.timestamp();
                self.joint = self.len;
            }
            // Input from shared memory: a length beyond a chunk is no length.
            let part = match usize::from(info.length()) {
                0 => PAYLOAD_BYTES,
                length => length.min(PAYLOAD_BYTES),
            };
            let at = self.len / 8;
            let payload = &self.ring.at(self.next).payload;
            // A whole chunk even where it holds less: a copy of constant size is the quickest,
            // and what lies beyond the frame is never shown.
            if let Some(to) = buf.get_mut(at..).and_then(<[u64]>::first_chunk_mut) {
                copy_chunk(payload, to);
            } else if let Some(to) = buf.get_mut(at..at + part.div_ceil(8)) {
                for (to, from) in to.iter_mut().zip(payload) {
                    *to = from.load(Ordering::Relaxed);
                }
            }
            self.next = self.next.next();
            self.len += part;
            if info.length() != 0 {
                fence(Ordering::Acquire);
                if !self.is_intact() {
                    return self.lapped();
                }
                let (len, joint) = (self.len, self.joint);
                self.begin(self.next, info);
                // Of a frame that is too long, the leading chunks that fitted whole.
                let fits = len.div_ceil(8) <= buf.len();
                let copied = if fits { len } else { buf.len() / PAYLOAD_WORDS * PAYLOAD_BYTES };
                return Step::Frame(Whole { len, copied, info, joint });
            }
        }
    }

    /// Is everything from `start` on as the card wrote it when this reader came to it?
    #[inline]
    fn is_intact(&self) -> bool {
        self.ring.info(self.start.prev(), Ordering::Relaxed) == self.before
    }

    #[inline]
    fn begin(&mut self, start: Pos, before: Info) {
        self.start = start;
        self.next = start;
        self.before = before;
        self.len = 0;
        self.joint = 0;
        self.single = self.usual;
    }

    #[cold]
    fn lapped(&mut self) -> Step {
        let (start, before) = self.ring.newest_end();
        self.begin(start, before);
        Step::Lapped
    }
}

/// Copies a chunk that the card may be writing: every byte by itself is one that was there.
#[inline]
fn copy_chunk(from: &[AtomicU64; PAYLOAD_WORDS], to: &mut [u64; PAYLOAD_WORDS]) {
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    // SAFETY: reads and writes the 120 bytes of the two arrays and nothing else. Loads of 16
    // bytes, which Rust has no atomic type for, in assembly: to the language they are the same as
    // the loads below, as nothing is concluded from more than single bytes before the check of
    // the chunk before.
    unsafe {
        std::arch::asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "movups {a}, [{from} + 64]",
            "movups {b}, [{from} + 80]",
            "movups {c}, [{from} + 96]",
            "movq {d}, qword ptr [{from} + 112]",
            "movups [{to} + 64], {a}",
            "movups [{to} + 80], {b}",
            "movups [{to} + 96], {c}",
            "movq qword ptr [{to} + 112], {d}",
            from = in(reg) from.as_ptr(),
            to = in(reg) to.as_mut_ptr(),
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.load(Ordering::Relaxed);
    }
}
