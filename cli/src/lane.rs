//! Frames from one thread to another: batches over two single-producer single-consumer rings.
//!
//! Full batches go one way, empty ones come back. After the start nothing is allocated, and the
//! sending side never waits: when no empty batch is there, the frame is refused and its owner
//! counts it. The receiving side may sleep; when it runs dry it raises a flag that asks the sender
//! to hand over what it has gathered so far.

mod blocks;
mod frames;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use linerate::{RxFrame, RxMeta};
use rtrb::{Consumer, Producer, RingBuffer};

pub(crate) use blocks::{FileBatch, Layout, file_lane};
pub(crate) use frames::{Batch, lane};

/// How long the receiving side sleeps when it has nothing.
const NAP: Duration = Duration::from_millis(1);

/// What frames are gathered in.
pub(crate) trait Gather {
    /// Where a batch begins, if that matters.
    type Place: Copy;

    /// Empties it, for frames from there on.
    fn begin(&mut self, at: Self::Place);

    /// Copies a frame in, and notes how many were lost before it. `false`: no room.
    fn push(&mut self, frame: &RxFrame<'_>, lost_before: u32) -> bool;

    /// Is there nothing in it?
    fn is_empty(&self) -> bool;

    /// Where the next batch begins.
    fn end(&self) -> Self::Place;
}

/// The end that frames are put in.
#[derive(Debug)]
pub(crate) struct LaneTx<B: Gather = Batch> {
    full: Producer<Box<B>>,
    empty: Consumer<Box<B>>,
    /// Empty batches, the one used last on top: it may still be in a cache.
    stock: Vec<Box<B>>,
    filling: Option<Box<B>>,
    /// Where the next batch begins.
    at: B::Place,
    refused: u32,
    dry: Arc<AtomicBool>,
}

/// The end that frames come out of.
#[derive(Debug)]
pub(crate) struct LaneRx<B = Batch> {
    full: Consumer<Box<B>>,
    empty: Producer<Box<B>>,
    dry: Arc<AtomicBool>,
}

/// A lane of these batches, the first of which begins there.
fn lane_of<B: Gather>(stock: Vec<Box<B>>, at: B::Place) -> (LaneTx<B>, LaneRx<B>) {
    let (full_tx, full_rx) = RingBuffer::new(stock.len());
    let (empty_tx, empty_rx) = RingBuffer::new(stock.len());
    let dry = Arc::new(AtomicBool::new(false));
    let tx = LaneTx {
        full: full_tx,
        empty: empty_rx,
        stock,
        filling: None,
        at,
        refused: 0,
        dry: Arc::clone(&dry),
    };
    (tx, LaneRx { full: full_rx, empty: empty_tx, dry })
}

impl<B: Gather> LaneTx<B> {
    /// Copies a frame in. `false`: there is no room, or the frame is longer than a batch.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8], meta: RxMeta) -> bool {
        let frame = RxFrame { bytes, meta };
        if let Some(batch) = &mut self.filling
            && self.refused == 0
            && batch.push(&frame, 0)
        {
            return true;
        }
        self.push_slowly(&frame)
    }

    #[cold]
    fn push_slowly(&mut self, frame: &RxFrame<'_>) -> bool {
        // Twice: into what is left of a batch, into an empty one.
        for _ in 0..2 {
            if self.filling.is_none() {
                self.filling = self.take_empty();
            }
            let Some(batch) = &mut self.filling else { break };
            if batch.push(frame, self.refused) {
                self.refused = 0;
                return true;
            }
            if batch.is_empty() {
                break;
            }
            self.hand_over();
        }
        self.refused = self.refused.saturating_add(1);
        false
    }

    fn take_empty(&mut self) -> Option<Box<B>> {
        // There is room for every batch there is.
        while let Ok(batch) = self.empty.pop() {
            self.stock.push(batch);
        }
        let mut batch = self.stock.pop()?;
        batch.begin(self.at);
        Some(batch)
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
        if let Some(batch) = self.filling.take_if(|batch| !batch.is_empty()) {
            self.dry.store(false, Ordering::Relaxed);
            self.at = batch.end();
            // The ring has room for every batch there is.
            let _ = self.full.push(batch);
        }
    }

    /// Has the other side gone away?
    pub(crate) fn is_cut(&self) -> bool {
        self.full.is_abandoned()
    }
}

impl<B: Gather> Drop for LaneTx<B> {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// What [`LaneRx::next`] found.
#[derive(Debug)]
pub(crate) enum Next<B = Batch> {
    /// Frames. Give the batch back.
    Batch(Box<B>),
    /// None at the moment.
    Dry,
    /// The sender has gone and everything has been taken.
    End,
}

impl<B> LaneRx<B> {
    /// The next batch, without waiting.
    pub(crate) fn next(&mut self) -> Next<B> {
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
    pub(crate) fn wait(&mut self) -> Option<Box<B>> {
        loop {
            match self.next() {
                Next::Batch(batch) => return Some(batch),
                Next::Dry => std::thread::sleep(NAP),
                Next::End => return None,
            }
        }
    }

    /// Returns a batch to be filled again.
    pub(crate) fn give_back(&mut self, batch: Box<B>) {
        // The ring holds every batch there is, so this has room.
        let _ = self.empty.push(batch);
    }
}
