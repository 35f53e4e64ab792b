//! A bad line: frames lost, doubled, damaged and overtaken, the same ones for the same seed.

use std::collections::VecDeque;

use super::draft::Draft;
use super::rng::Rng;
use crate::buf::Buf;
use crate::clock::{ClockInfo, Clocked};
use crate::error::{Error, ErrorKind, SetupError};
use crate::flow::FlowSpec;
use crate::frame::{MAX_BURST, RxFrame, RxMeta};
use crate::rx::{BufRx, FrameRx};
use crate::stats::{RxStats, TxStats};
use crate::steer::{RuleId, Steer};
use crate::tx::FrameTx;
use crate::wait::Waitable;

/// How often something goes wrong: probabilities per frame from 0.0 to 1.0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// The frame is lost.
    pub drop: f64,
    /// The frame comes twice.
    pub duplicate: f64,
    /// One bit of the frame is flipped.
    pub corrupt: f64,
    /// The frame is overtaken by the next 1 to 8.
    pub reorder: f64,
    /// The same seed gives the same faults to the same frames, whatever the bursts.
    pub seed: u64,
}

/// What a [`Fault`] has done so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Frames lost.
    pub dropped: u64,
    /// Frames that came twice.
    pub duplicated: u64,
    /// Frames with a flipped bit.
    pub corrupted: u64,
    /// Frames held back for later ones.
    pub reordered: u64,
}

/// A queue on a bad line. For tests, not for speed: damaged, doubled and late frames are copied.
///
/// Around a receiver, lost frames count as [`RxStats::filtered`]; around a sender, as
/// [`TxStats::failed`]. A frame held back while nothing follows is let go after some empty polls
/// (a receiver's) or by the next [`kick`](FrameTx::kick) (a sender's).
#[derive(Debug)]
pub struct Fault<Q> {
    queue: Q,
    faults: Faults,
    rng: Rng,
    counts: FaultCounts,
    /// Frames to come, each with the number of frames that still have to pass it.
    late: VecDeque<(usize, Copied)>,
    /// The open window of a receiver.
    shown: Vec<Shown>,
    /// Polls that found nothing while frames were held back.
    idle: u32,
    delivered: (u64, u64),
    /// The frame that a sender's application is writing.
    draft: Draft,
}

/// A frame of the window.
#[derive(Debug)]
enum Shown {
    /// As it is, at this place in the window below.
    Below(usize),
    /// A copy.
    Own(Copied),
}

#[derive(Debug, Clone)]
struct Copied {
    bytes: Vec<u8>,
    meta: RxMeta,
}

/// What happens to one frame.
struct Fate {
    drop: bool,
    duplicate: bool,
    /// The bit to flip.
    corrupt: Option<usize>,
    /// How many frames overtake it.
    overtaken: usize,
}

/// Empty polls after which held frames are let go.
const MAX_IDLE: u32 = 64;

impl<Q> Fault<Q> {
    /// Puts `queue` on a bad line.
    pub fn new(queue: Q, faults: Faults) -> Self {
        Self {
            queue,
            rng: Rng::new(faults.seed),
            faults,
            counts: FaultCounts::default(),
            late: VecDeque::new(),
            shown: Vec::with_capacity(MAX_BURST),
            idle: 0,
            delivered: (0, 0),
            draft: Draft::default(),
        }
    }

    /// What has gone wrong so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.counts
    }

    /// The queue.
    pub fn queue_mut(&mut self) -> &mut Q {
        &mut self.queue
    }

    /// The queue, on a good line again. Frames that are held back are lost.
    pub fn into_queue(self) -> Q {
        self.queue
    }

    /// Decides about the next frame, of `len` bytes. Draws the same numbers for every frame, so
    /// that one frame's fate does not depend on another's.
    fn decide(&mut self, len: usize) -> Fate {
        let drop = self.rng.chance(self.faults.drop);
        let duplicate = self.rng.chance(self.faults.duplicate);
        let corrupt = self.rng.chance(self.faults.corrupt);
        let reorder = self.rng.chance(self.faults.reorder);
        let (bit, by) = (self.rng.below(len * 8), 1 + self.rng.below(8));
        let fate = Fate {
            drop,
            duplicate: duplicate && !drop,
            corrupt: (corrupt && !drop && len > 0).then_some(bit),
            overtaken: if reorder && !drop { by } else { 0 },
        };
        self.counts.dropped += u64::from(fate.drop);
        self.counts.duplicated += u64::from(fate.duplicate);
        self.counts.corrupted += u64::from(fate.corrupt.is_some());
        self.counts.reordered += u64::from(fate.overtaken > 0);
        fate
    }

    /// The next held frame that nothing has to pass any more.
    fn next_due(&mut self) -> Option<Copied> {
        let at = self.late.iter().position(|(wait, _)| *wait == 0)?;
        self.late.remove(at).map(|(_, copy)| copy)
    }

    /// A frame has passed the held ones.
    fn passed(&mut self) {
        for (wait, _) in &mut self.late {
            *wait = wait.saturating_sub(1);
        }
    }

    /// Nothing follows: the held ones need not wait any longer.
    fn let_go(&mut self) {
        for (wait, _) in &mut self.late {
            *wait = 0;
        }
    }
}

fn copy(bytes: &[u8], meta: RxMeta, flip: Option<usize>) -> Copied {
    let mut bytes = bytes.to_vec();
    if let Some(bit) = flip {
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    Copied { bytes, meta }
}

impl<R: FrameRx> FrameRx for Fault<R> {
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.release();
        let max = max.min(MAX_BURST);
        while self.shown.len() < max
            && let Some(due) = self.next_due()
        {
            self.shown.push(Shown::Own(due));
        }
        let n = self.queue.acquire(max - self.shown.len())?;
        for i in 0..n {
            let RxFrame { bytes, meta } = self.queue.frame(i);
            let (len, flags) = (bytes.len(), meta);
            let fate = self.decide(len);
            if fate.drop {
                continue;
            }
            let RxFrame { bytes, .. } = self.queue.frame(i);
            // Held frames come behind those that pass them.
            let second = fate.duplicate.then(|| copy(bytes, flags, None));
            if fate.overtaken > 0 {
                let held = copy(bytes, flags, fate.corrupt);
                self.late.push_back((fate.overtaken, held));
            } else {
                let shown = match fate.corrupt {
                    Some(_) => Shown::Own(copy(bytes, flags, fate.corrupt)),
                    None => Shown::Below(i),
                };
                self.shown.push(shown);
                self.passed();
            }
            if let Some(second) = second {
                self.late.push_back((0, second));
            }
            // As far as there is room beside the frames that are still to be decided.
            while self.shown.len() + (n - i - 1) < max
                && let Some(due) = self.next_due()
            {
                self.shown.push(Shown::Own(due));
            }
        }
        if n == 0 && max > 0 && !self.late.is_empty() {
            self.idle += 1;
            if self.idle >= MAX_IDLE {
                self.let_go();
            }
        } else {
            self.idle = 0;
        }
        let bytes: usize = (0..self.shown.len()).map(|i| self.frame(i).bytes.len()).sum();
        self.delivered.0 += self.shown.len() as u64;
        self.delivered.1 += bytes as u64;
        Ok(self.shown.len())
    }

    fn len(&self) -> usize {
        self.shown.len()
    }

    fn frame(&self, i: usize) -> RxFrame<'_> {
        match &self.shown[i] {
            Shown::Below(at) => self.queue.frame(*at),
            Shown::Own(Copied { bytes, meta }) => RxFrame { bytes, meta: *meta },
        }
    }

    fn release(&mut self) {
        self.shown.clear();
        self.queue.release();
    }

    /// The queue's own losses, its frames as far as they were delivered here, and the frames
    /// lost here as `filtered`.
    fn stats(&mut self) -> RxStats {
        let mut stats = self.queue.stats();
        (stats.frames, stats.bytes) = self.delivered;
        stats.filtered += self.counts.dropped;
        stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        self.queue.waitable()
    }
}

impl<R: BufRx> BufRx for Fault<R> {
    /// As [`BufRx::take`]; `None` also for a frame that is a copy.
    fn take(&mut self, i: usize) -> Option<Buf> {
        match &self.shown[i] {
            Shown::Below(at) => self.queue.take(*at),
            Shown::Own(_) => None,
        }
    }
}

impl<T: FrameTx> Fault<T> {
    /// Sends what is due, as far as the queue has room.
    fn send_due(&mut self) {
        while let Some(due) = self.next_due() {
            if !matches!(self.queue.send(&due.bytes), Ok(true)) {
                self.late.push_front((0, due));
                return;
            }
        }
    }

    fn send_with_fate(&mut self, frame: &[u8]) -> Result<bool, Error> {
        if frame.is_empty() || frame.len() > self.queue.max_len() {
            return Err(Error::new(ErrorKind::BadLength, "send"));
        }
        // Before the decision: a frame that finds no room has no fate yet.
        if self.queue.reserve(frame.len()).is_none() {
            return Ok(false);
        }
        let fate = self.decide(frame.len());
        if fate.drop {
            return Ok(true);
        }
        let meta = RxMeta::plain(frame.len());
        if fate.overtaken > 0 {
            self.late.push_back((fate.overtaken, copy(frame, meta, fate.corrupt)));
        } else {
            match fate.corrupt {
                Some(_) => self.queue.send(&copy(frame, meta, fate.corrupt).bytes)?,
                None => self.queue.send(frame)?,
            };
            self.passed();
        }
        if fate.duplicate {
            self.late.push_back((0, copy(frame, meta, None)));
        }
        self.send_due();
        Ok(true)
    }
}

impl<T: FrameTx> FrameTx for Fault<T> {
    fn max_len(&self) -> usize {
        self.queue.max_len()
    }

    fn room(&self) -> usize {
        self.queue.room()
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.draft.reserve(&mut self.queue, len)
    }

    fn commit(&mut self, len: usize) {
        let frame = self.draft.commit(len).to_vec();
        if !frame.is_empty() && !matches!(self.send_with_fate(&frame), Ok(true)) {
            self.counts.dropped += 1;
        }
    }

    fn kick(&mut self) -> Result<(), Error> {
        self.let_go();
        self.send_due();
        self.queue.kick()
    }

    fn reap(&mut self) -> usize {
        self.queue.reap()
    }

    /// The queue's, and the frames lost here as `failed`.
    fn stats(&mut self) -> TxStats {
        let mut stats = self.queue.stats();
        stats.frames += self.counts.dropped;
        stats.failed += self.counts.dropped;
        stats
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        self.send_with_fate(frame)
    }
}

impl<Q: Clocked> Clocked for Fault<Q> {
    fn clock(&self) -> ClockInfo {
        self.queue.clock()
    }
}

impl<R: Steer> Steer for Fault<R> {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        self.queue.add(flow)
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        self.queue.remove(rule)
    }
}
