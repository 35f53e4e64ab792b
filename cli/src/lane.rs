//! Frames from one thread to another: batches over two single-producer single-consumer rings.
//!
//! Full batches go one way, empty ones come back. After the start nothing is allocated, and the
//! sending side never waits: when no empty batch is there, the frame is refused and its owner
//! counts it. The receiving side may sleep; when it runs dry it raises a flag that asks the sender
//! to hand over what it has gathered so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use linerate::{RxFrame, RxMeta};
use rtrb::{Consumer, Producer, RingBuffer};

/// Bytes of frames in one batch.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;
/// Frames in one batch: with these, batches of frames of 128 bytes and more fill up by bytes.
const BATCH_FRAMES: usize = 2048;
/// How long the receiving side sleeps when it has nothing.
const NAP: Duration = Duration::from_millis(1);

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
    lost_before: u32,
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

    fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
    }

    fn fits(&self, len: usize) -> bool {
        self.heads.len() < BATCH_FRAMES && len <= BATCH_BYTES - self.bytes.len()
    }

    fn push(&mut self, bytes: &[u8], meta: RxMeta, lost_before: u32) {
        self.bytes.extend_from_slice(bytes);
        // BATCH_BYTES fits 32 bits.
        self.heads.push(Head { meta, end: self.bytes.len() as u32, lost_before });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The frames in order, each with the number of frames refused just before it.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (RxFrame<'_>, u32)> {
        (0..self.len()).map(|i| (self.frame(i), self.heads[i].lost_before))
    }

    /// Frame `i`.
    pub(crate) fn frame(&self, i: usize) -> RxFrame<'_> {
        let start = if i == 0 { 0 } else { self.heads[i - 1].end as usize };
        let head = &self.heads[i];
        RxFrame { bytes: &self.bytes[start..head.end as usize], meta: head.meta }
    }
}

/// The end that frames are put in.
#[derive(Debug)]
pub(crate) struct LaneTx {
    full: Producer<Box<Batch>>,
    empty: Consumer<Box<Batch>>,
    filling: Option<Box<Batch>>,
    refused: u32,
    dry: Arc<AtomicBool>,
}

/// The end that frames come out of.
#[derive(Debug)]
pub(crate) struct LaneRx {
    full: Consumer<Box<Batch>>,
    empty: Producer<Box<Batch>>,
    dry: Arc<AtomicBool>,
}

/// A lane with room for at least `bytes` of frames, and never fewer than three batches.
pub(crate) fn lane(bytes: u64) -> (LaneTx, LaneRx) {
    let batches = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(BATCH_BYTES).max(3);
    let (full_tx, full_rx) = RingBuffer::new(batches);
    let (mut empty_tx, empty_rx) = RingBuffer::new(batches);
    for _ in 0..batches {
        // The ring was made with this much room.
        let _ = empty_tx.push(Batch::new());
    }
    let dry = Arc::new(AtomicBool::new(false));
    let tx =
        LaneTx { full: full_tx, empty: empty_rx, filling: None, refused: 0, dry: Arc::clone(&dry) };
    (tx, LaneRx { full: full_rx, empty: empty_tx, dry })
}

impl LaneTx {
    /// Copies a frame in. `false`: there is no room, or the frame is longer than a batch.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8], meta: RxMeta) -> bool {
        if let Some(batch) = &mut self.filling
            && self.refused == 0
            && batch.fits(bytes.len())
        {
            batch.push(bytes, meta, 0);
            return true;
        }
        self.push_slowly(bytes, meta)
    }

    #[cold]
    fn push_slowly(&mut self, bytes: &[u8], meta: RxMeta) -> bool {
        if bytes.len() > BATCH_BYTES {
            self.refused = self.refused.saturating_add(1);
            return false;
        }
        if self.filling.as_ref().is_some_and(|batch| !batch.fits(bytes.len())) {
            self.hand_over();
        }
        if self.filling.is_none() {
            self.filling = self.empty.pop().ok();
        }
        let Some(batch) = &mut self.filling else {
            self.refused = self.refused.saturating_add(1);
            return false;
        };
        batch.push(bytes, meta, std::mem::take(&mut self.refused));
        true
    }

    /// Hands over what has been gathered if the other side has nothing to do. Call it whenever
    /// there is a pause.
    #[inline]
    pub(crate) fn pause(&mut self) {
        if self.dry.load(Ordering::Relaxed) {
            self.hand_over();
        }
    }

    /// Hands over what has been gathered.
    pub(crate) fn hand_over(&mut self) {
        if let Some(batch) = self.filling.take() {
            self.dry.store(false, Ordering::Relaxed);
            // A batch is taken to put a frame into it, so it is not empty; and the ring has room
            // for every batch there is.
            let _ = self.full.push(batch);
        }
    }

    /// Has the other side gone away?
    pub(crate) fn is_cut(&self) -> bool {
        self.full.is_abandoned()
    }
}

impl Drop for LaneTx {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// What [`LaneRx::next`] found.
#[derive(Debug)]
pub(crate) enum Next {
    /// Frames. Give the batch back.
    Batch(Box<Batch>),
    /// None at the moment.
    Dry,
    /// The sender has gone and everything has been taken.
    End,
}

impl LaneRx {
    /// The next batch, without waiting.
    pub(crate) fn next(&mut self) -> Next {
        // In this order: a sender that is gone puts nothing in after we found the ring empty.
        let gone = self.full.is_abandoned();
        match self.full.pop() {
            Ok(batch) => Next::Batch(batch),
            Err(_) if gone => Next::End,
            Err(_) => {
                self.dry.store(true, Ordering::Relaxed);
                Next::Dry
            }
        }
    }

    /// The next batch; naps until there is one. `None`: the end.
    pub(crate) fn wait(&mut self) -> Option<Box<Batch>> {
        loop {
            match self.next() {
                Next::Batch(batch) => return Some(batch),
                Next::Dry => std::thread::sleep(NAP),
                Next::End => return None,
            }
        }
    }

    /// Returns a batch to be filled again.
    pub(crate) fn give_back(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        // The ring holds every batch there is, so this has room.
        let _ = self.empty.push(batch);
    }
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
            for (frame, _) in batch.frames() {
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

    #[test]
    fn a_full_lane_refuses_and_recovers() {
        let (mut tx, mut rx) = lane(1);
        let frame = [7; 1000];
        let mut held = 0;
        while tx.push(&frame, meta(1000, held)) {
            held += 1;
        }
        assert_eq!(held, 3 * (BATCH_BYTES as u64 / 1000));
        let batch = rx.wait().unwrap();
        rx.give_back(batch);
        assert!(tx.push(&frame, meta(1000, held)));
        assert!(!tx.push(&vec![0; BATCH_BYTES + 1], meta(0, 0)));
        assert!(tx.push(&frame, meta(1000, 0)));
        drop(tx);
        let mut lost = Vec::new();
        while let Some(batch) = rx.wait() {
            lost.extend(batch.frames().map(|(_, lost)| lost).filter(|lost| *lost > 0));
            rx.give_back(batch);
        }
        assert_eq!(lost, [1, 1], "each refusal is noted on the next frame that got through");
    }

    #[test]
    fn a_dry_receiver_gets_a_part_of_a_batch() {
        let (mut tx, mut rx) = lane(1);
        assert!(tx.push(b"frame", meta(5, 0)));
        tx.pause();
        assert!(matches!(rx.next(), Next::Dry));
        tx.pause();
        let Next::Batch(batch) = rx.next() else { panic!("nothing was handed over") };
        assert_eq!(batch.frame(0).bytes, b"frame");
        drop(tx);
        assert!(matches!(rx.next(), Next::End));
    }
}
