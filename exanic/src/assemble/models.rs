//! Every order in which the card and a reader can meet in the ring.
//!
//! The card here writes as the simulated one does (`sim/src/exanic/memory.rs`): a chunk's payload,
//! its metadata, a fence, the next chunk. All of a frame's words and its timestamp are its number,
//! so a frame that is torn shows two numbers.

use std::array;
use std::ptr::NonNull;
use std::sync::Arc;

use loom::thread;

use super::*;
use crate::cut_through::Chunk as Shown;
use crate::shared::{Chunk, RING_CHUNKS};

struct Memory([Chunk; RING_CHUNKS as usize]);

impl Memory {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(u64::MAX);
        Arc::new(Self(array::from_fn(|_| Chunk {
            payload: array::from_fn(|_| word()),
            info: word(),
        })))
    }

    fn ring(&self) -> Ring {
        // SAFETY: the models keep it longer than its readers.
        unsafe { Ring::new(NonNull::from(&self.0).cast()) }
    }

    /// Frame `number` of `chunks` chunks, and all before it had as many.
    fn put(&self, number: u64, chunks: u64) {
        for i in 0..chunks {
            let pos = number * chunks + i;
            let chunk = &self.0[pos as usize % self.0.len()];
            for word in &chunk.payload {
                word.store(number, Ordering::Relaxed);
            }
            let length = if i + 1 == chunks { PAYLOAD_BYTES as u8 } else { 0 };
            let lap = (pos / self.0.len() as u64) as u8;
            let info = Info::new(number as u32, FRAME_OK, length, 0, lap);
            chunk.info.store(info.0, Ordering::Release);
            fence(Ordering::Release);
        }
    }
}

/// What a reader has seen, and whether it may have.
struct Seen<const WORDS: usize> {
    next: u64,
    lapped: bool,
    /// Keeps the beginning of a frame from one look to the next.
    buf: [u64; WORDS],
}

impl<const WORDS: usize> Seen<WORDS> {
    fn new(lapped: bool) -> Self {
        Self { next: 0, lapped, buf: [0; WORDS] }
    }

    fn frame(&mut self, words: usize, info: Info) {
        let words = &self.buf[..words];
        let number = u64::from(info.timestamp());
        assert!(words.iter().all(|word| *word == number), "torn: {words:?} in frame {number}");
        assert!(number == self.next || self.lapped && number > self.next, "{number} out of turn");
        self.next = number + 1;
        self.lapped = false;
    }

    /// One look, as the receive queue does it. `false`: nothing there.
    fn look(&mut self, walk: &mut Assembler) -> bool {
        let single = self.buf.first_chunk_mut().and_then(|cell| walk.single(cell));
        if let Some((len, info)) = single {
            self.frame(len / 8, info);
            return true;
        }
        match walk.next(&mut self.buf) {
            Step::Empty => false,
            Step::Frame(whole) => {
                assert_eq!((whole.len, whole.joint), (WORDS * 8, 0));
                self.frame(WORDS, whole.info);
                true
            }
            Step::Lapped => {
                self.lapped = true;
                true
            }
        }
    }
}

/// A reader looks a few times while the card goes on from the frames it has `written` to the
/// `last`, and then until there is nothing left.
fn read_beside<const WORDS: usize>(written: u64, last: u64, chunks: u64, looks: u32) {
    loom::model(move || {
        let memory = Memory::new();
        let mut walk = Assembler::new(memory.ring(), PAYLOAD_BYTES);
        (0..written).for_each(|number| memory.put(number, chunks));
        let theirs = Arc::clone(&memory);
        let card = thread::spawn(move || {
            (written..=last).for_each(|number| theirs.put(number, chunks));
        });
        let mut seen = Seen::<WORDS>::new(false);
        for _ in 0..looks {
            seen.look(&mut walk);
        }
        card.join().expect("no panic");
        while seen.look(&mut walk) {}
        assert!(seen.next == last + 1 || seen.lapped, "{} frames and nothing said", seen.next);
    });
}

#[test]
fn frames_of_one_chunk_are_whole_or_given_up() {
    read_beside::<PAYLOAD_WORDS>(3, 5, 1, 3);
}

#[test]
fn frames_of_two_chunks_are_whole_or_given_up() {
    read_beside::<{ 2 * PAYLOAD_WORDS }>(1, 2, 2, 2);
}

/// A reader that is opened while the card writes begins with a frame, whichever.
#[test]
fn a_reader_may_come_at_any_time() {
    loom::model(|| {
        let memory = Memory::new();
        (0..3).for_each(|number| memory.put(number, 1));
        let theirs = Arc::clone(&memory);
        let card = thread::spawn(move || (3..6).for_each(|number| theirs.put(number, 1)));
        let mut walk = Assembler::new(memory.ring(), PAYLOAD_BYTES);
        let mut seen = Seen::<PAYLOAD_WORDS>::new(true);
        seen.look(&mut walk);
        card.join().expect("no panic");
        while seen.look(&mut walk) {}
    });
}

#[test]
fn a_chunk_that_is_shown_early_is_valid_or_says_that_it_is_not() {
    loom::model(|| {
        let memory = Memory::new();
        let (pos, before) = memory.ring().newest_end();
        (0..3).for_each(|number| memory.put(number, 1));
        let theirs = Arc::clone(&memory);
        let card = thread::spawn(move || (3..5).for_each(|number| theirs.put(number, 1)));
        if let Found::Chunk(info) = memory.ring().find(pos) {
            let chunk = Shown::new(memory.ring(), pos, before, info);
            let mut bytes = [0; PAYLOAD_BYTES];
            assert_eq!(chunk.copy_to(&mut bytes), PAYLOAD_BYTES);
            let last: [u8; 8] = chunk.load(PAYLOAD_BYTES - 8);
            if chunk.still_valid() {
                assert_eq!((bytes, last), ([0; PAYLOAD_BYTES], [0; 8]), "frame 0 is all zeros");
            }
        }
        card.join().expect("no panic");
    });
}
