//! Batches of frames as they will lie in a capture file, in memory that the disk can fetch from: a
//! frame is copied once, from the ring into a batch.

use linerate::RxFrame;
use linerate::file::{Blocks, InterfaceId};

use super::{Gather, LaneRx, LaneTx, lane_of};

/// Bytes of a batch: a disk wants few and long writes, a small lane several batches. Of the longest
/// a disk takes several requests at once, so that it has the next to do while this program waits
/// for a CPU.
const SHORTEST: usize = 256 << 10;
const LONGEST: usize = 8 << 20;
/// What a batch has beside the room for frames: all of it together is whole huge pages, and not a
/// few bytes more than whole requests.
const BESIDE: usize = 12 << 10;
/// A lane is made of about as many.
const BATCHES: u64 = 8;
/// … and never of fewer.
const FEWEST: usize = 3;

/// Frames in order, copied.
#[derive(Debug)]
pub(crate) struct FileBatch {
    pub(crate) blocks: Blocks,
    layout: Layout,
}

/// Where frames come to lie in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Where the first frame of each file is.
    pub(crate) first_frame_at: u64,
    /// The length at which a file is full.
    pub(crate) full_at: u64,
}

impl FileBatch {
    /// Are these the last of their file?
    pub(crate) fn ends_file(&self) -> bool {
        self.blocks.end() >= self.layout.full_at
    }
}

impl Gather for FileBatch {
    /// In the file.
    type Place = u64;

    fn begin(&mut self, at: u64) {
        self.blocks.begin(at);
    }

    #[inline]
    fn push(&mut self, frame: &RxFrame<'_>, lost_before: u32) -> bool {
        // The first frame of a file is in it, however small the files.
        let full = self.ends_file() && !self.blocks.is_empty();
        !full && self.blocks.frame(InterfaceId::FIRST, frame, lost_before.into())
    }

    fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    fn end(&self) -> u64 {
        if self.ends_file() { self.layout.first_frame_at } else { self.blocks.end() }
    }
}

/// A lane with room for about `bytes` of files, and never fewer than three batches.
pub(crate) fn file_lane(bytes: u64, layout: Layout) -> (LaneTx<FileBatch>, LaneRx<FileBatch>) {
    // No batch goes beyond the end of its file: of short files there have to be many.
    let one = (bytes / BATCHES).min(layout.full_at);
    let one = usize::try_from(one).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST).next_power_of_two();
    let batches = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(one).max(FEWEST);
    let new = || Box::new(FileBatch { blocks: Blocks::with_capacity(one - BESIDE), layout });
    let stock = std::iter::repeat_with(new).take(batches).collect();
    lane_of(stock, layout.first_frame_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Next;
    use linerate::RxMeta;

    const ONE_FILE: Layout = Layout { first_frame_at: 132, full_at: u64::MAX };

    fn meta(len: usize, ts_ns: u64) -> RxMeta {
        RxMeta { ts_ns, ..RxMeta::plain(len) }
    }

    /// The frames of a batch: time, number refused before, bytes.
    fn frames(batch: &FileBatch) -> Vec<(u64, u64, Vec<u8>)> {
        let mut file = linerate::file::preamble("test", &[Default::default()]);
        file.extend_from_slice(batch.blocks.bytes());
        let mut reader = linerate::file::Reader::new(std::io::Cursor::new(file)).unwrap();
        let mut frames = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            frames.push((record.info.ts_ns, record.info.drops_before, record.bytes.to_vec()));
        }
        assert_eq!(frames.len() as u64, batch.blocks.frames());
        frames
    }

    #[test]
    fn frames_cross_in_order_with_their_content() {
        let (mut tx, mut rx) = file_lane(1, ONE_FILE);
        let sender = std::thread::spawn(move || {
            for i in 0..50_000_u64 {
                let bytes = vec![i as u8; 1 + (i % 1500) as usize];
                while !tx.push(&bytes, meta(bytes.len(), i)) {
                    std::thread::yield_now();
                }
            }
        });
        let (mut number, mut at) = (0, 132);
        while let Some(batch) = rx.wait() {
            assert_eq!((batch.blocks.at(), batch.ends_file()), (at, false));
            at = batch.blocks.end();
            for (ts_ns, _, bytes) in frames(&batch) {
                assert_eq!(ts_ns, number);
                assert_eq!(bytes.len(), 1 + (number % 1500) as usize);
                assert!(bytes.iter().all(|b| *b == number as u8));
                number += 1;
            }
            rx.give_back(batch);
        }
        sender.join().unwrap();
        assert_eq!(number, 50_000);
    }

    #[test]
    fn a_full_lane_refuses_and_recovers() {
        let (mut tx, mut rx) = file_lane(1, ONE_FILE);
        let frame = [7; 1000];
        let mut held = 0;
        while tx.push(&frame, meta(1000, held)) {
            held += 1;
        }
        assert!(held >= 3 * ((SHORTEST - BESIDE) as u64 / 1032), "{held}");
        let batch = rx.wait().unwrap();
        rx.give_back(batch);
        assert!(tx.push(&frame, meta(1000, held)));
        assert!(!tx.push(&vec![0; 2 * SHORTEST], meta(2 * SHORTEST, 0)));
        let batch = rx.wait().unwrap();
        rx.give_back(batch);
        assert!(tx.push(&frame, meta(1000, 0)));
        drop(tx);
        let mut lost = Vec::new();
        while let Some(batch) = rx.wait() {
            lost.extend(frames(&batch).into_iter().map(|f| f.1).filter(|lost| *lost > 0));
            rx.give_back(batch);
        }
        assert_eq!(lost, [1, 1], "each refusal is noted on the next frame that got through");
    }

    #[test]
    fn a_dry_receiver_gets_a_part_of_a_batch() {
        let (mut tx, mut rx) = file_lane(1, ONE_FILE);
        assert!(tx.push(b"frame", meta(5, 0)));
        tx.pause();
        assert!(matches!(rx.next(), Next::Dry));
        tx.pause();
        let Next::Batch(batch) = rx.next() else { panic!("nothing was handed over") };
        assert_eq!(frames(&batch)[0].2, b"frame");
        drop(tx);
        assert!(matches!(rx.next(), Next::End));
    }

    #[test]
    fn a_lane_has_room_for_many_short_files() {
        let (mut tx, _rx) = file_lane(64_000_000, Layout { first_frame_at: 100, full_at: 200_000 });
        let frame = [7; 1000];
        let mut held = 0;
        while tx.push(&frame, meta(1000, held)) {
            held += 1;
        }
        assert!(held * 1032 > 32_000_000, "half of the room at least: {held} frames");
    }

    #[test]
    fn a_file_ends_with_the_frame_that_fills_it() {
        let (mut tx, mut rx) = file_lane(1, Layout { first_frame_at: 100, full_at: 1_000 });
        for i in 0..20 {
            assert!(tx.push(&[1; 100], meta(100, i)));
        }
        drop(tx);
        let mut seen = Vec::new();
        while let Some(batch) = rx.wait() {
            let blocks = &batch.blocks;
            seen.push((blocks.at(), blocks.end(), blocks.frames(), batch.ends_file()));
            rx.give_back(batch);
        }
        // 132 bytes a frame: the seventh goes beyond 1000.
        assert_eq!(seen, [(100, 1024, 7, true), (100, 1024, 7, true), (100, 892, 6, false)]);
    }
}
