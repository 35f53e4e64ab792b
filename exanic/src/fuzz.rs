//! Doors for `fuzz/`: a ring whose card writes anything anywhere.

use std::array;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use linerate_exanic_sys::rx::{Chunk, Info, RING_CHUNKS};

use crate::assemble::{Assembler, Step};
use crate::ring::Ring;

/// Reads `bytes` as a list of what a card does to chunks around the reader's place, with a look
/// of the reader after each, into a buffer that may be too small.
pub fn chunks(bytes: &[u8]) {
    thread_local! {
        static CHUNKS: Box<[Chunk]> = (0..RING_CHUNKS)
            .map(|_| Chunk {
                payload: array::from_fn(|_| AtomicU64::new(u64::MAX)),
                info: AtomicU64::new(u64::MAX),
            })
            .collect();
    }
    CHUNKS.with(|chunks| {
        // SAFETY: a whole ring, which outlives the reader.
        let ring = unsafe { Ring::new(NonNull::from(&**chunks).cast()) };
        let Some((&words, steps)) = bytes.split_first() else { return };
        let mut buf = vec![0_u64; usize::from(words)];
        let mut walk = Assembler::new(ring, 120);
        let (mut pos, mut touched) = (0_usize, Vec::new());
        for step in steps.chunks_exact(8) {
            let &[how, jump, length, status, generation, ts, more, _] = step else { break };
            // Mostly the next chunk, as a card does; sometimes another.
            if how & 3 == 0 {
                pos = pos.wrapping_add(usize::from(jump));
            }
            let at = pos % chunks.len();
            let lap = if how & 4 == 0 { (pos / chunks.len()) as u8 } else { generation };
            let info = Info::new(u32::from(ts), status & 15, length, more, lap);
            chunks[at].payload[0].store(u64::from(ts), Ordering::Relaxed);
            chunks[at].info.store(info.0, Ordering::Release);
            touched.push(at);
            pos = pos.wrapping_add(1);
            for _ in 0..4 {
                match walk.next(&mut buf) {
                    Step::Empty => break,
                    Step::Lapped => {}
                    Step::Frame(whole) => {
                        assert!(whole.copied <= whole.len);
                        assert!(whole.copied <= buf.len() * 8, "shown beyond the buffer");
                        assert!(whole.joint <= whole.len);
                    }
                }
            }
        }
        for at in touched {
            chunks[at].info.store(u64::MAX, Ordering::Relaxed);
        }
    });
}
