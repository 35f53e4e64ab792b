//! Batches of frames as they are, for who looks at each.

use linerate::{RxFrame, RxMeta};

use super::{Gather, LaneRx, LaneTx, lane_of};

/// Bytes of frames in one batch.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;
/// Frames in one batch: with these, batches of frames of 128 bytes and more fill up by bytes.
const BATCH_FRAMES: usize = 2048;

/// Frames in order, copied.
#[derive(Debug)]
pub(crate) struct Batch {
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    meta: RxMeta,
    end: u32,
}

impl Batch {
    fn new() -> Box<Self> {
        let mut batch = Self {
            heads: Vec::with_capacity(BATCH_FRAMES),
            // Written once, so that the pages are there before the first frame is.
            bytes: vec![1; BATCH_BYTES],
        };
        batch.bytes.clear();
        Box::new(batch)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Frame `i`.
    pub(crate) fn frame(&self, i: usize) -> RxFrame<'_> {
        let start = if i == 0 { 0 } else { self.heads[i - 1].end as usize };
        let head = &self.heads[i];
        RxFrame { bytes: &self.bytes[start..head.end as usize], meta: head.meta }
    }
}

impl Gather for Batch {
    type Place = ();

    fn begin(&mut self, (): ()) {
        self.heads.clear();
        self.bytes.clear();
    }

    #[inline]
    fn push(&mut self, frame: &RxFrame<'_>, _lost_before: u32) -> bool {
        let fits =
            self.heads.len() < BATCH_FRAMES && frame.bytes.len() <= BATCH_BYTES - self.bytes.len();
        if fits {
            self.bytes.extend_from_slice(frame.bytes);
            // BATCH_BYTES fits 32 bits.
            self.heads.push(Head { meta: frame.meta, end: self.bytes.len() as u32 });
        }
        fits
    }

    fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    fn end(&self) {}
}

/// A lane with room for at least `bytes` of frames, and never fewer than three batches.
pub(crate) fn lane(bytes: u64) -> (LaneTx, LaneRx) {
    let batches = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(BATCH_BYTES).max(3);
    lane_of(std::iter::repeat_with(Batch::new).take(batches).collect(), ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(len: usize, ts_ns: u64) -> RxMeta {
        RxMeta { ts_ns, ..RxMeta::plain(len) }
    }

    #[test]
    fn frames_cross_in_order_with_their_content() {
        let (mut tx, mut rx) = lane(1);
        let sender = std::thread::spawn(move || {
            for i in 0..50_000_u64 {
                let bytes = vec![i as u8; 1 + (i % 1500) as usize];
                while !tx.push(&bytes, meta(bytes.len(), i)) {
                    std::thread::yield_now();
                }
            }
        });
        let mut at = 0;
        while let Some(batch) = rx.wait() {
            for frame in (0..batch.len()).map(|i| batch.frame(i)) {
                assert_eq!(frame.meta.ts_ns, at);
                assert_eq!(frame.bytes.len(), 1 + (at % 1500) as usize);
                assert!(frame.bytes.iter().all(|b| *b == at as u8));
                at += 1;
            }
            rx.give_back(batch);
        }
        sender.join().unwrap();
        assert_eq!(at, 50_000);
    }
}
