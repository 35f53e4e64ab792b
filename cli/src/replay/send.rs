//! The thread that sends each frame when it is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use linerate::{AnyTx, Error, ErrorKind, FrameTx, TxStats};

use crate::args::ReplayArgs;
use crate::failure::Failure;
use crate::histogram;
use crate::lane::{Batch, LaneRx, Next};
use crate::meeting::is_back_pressure;
use crate::metrics::Poster;
use crate::pacer;
use crate::values::{Mac, Speed};

/// Most frames handed over with one kick.
const GROUP: usize = 64;
/// Time between the first frame at hand and its being due, for the reader to get ahead.
const LEAD: Duration = Duration::from_millis(5);
/// How long a link may be down before that is a failure.
const LINK_PATIENCE: Duration = Duration::from_secs(5);
/// How long to leave a port alone that stays full.
const FULL_NAP: Duration = Duration::from_micros(100);
/// How long to wait for the last frames to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the main thread sees and says.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// End early.
    pub(crate) stop: AtomicBool,
    /// Frames handed over.
    pub(crate) frames: AtomicU64,
    /// Bytes of those frames.
    pub(crate) bytes: AtomicU64,
    /// How late the last frame was, in ns.
    pub(crate) behind_ns: AtomicU64,
}

/// What happened to the frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Frames that came up.
    pub(crate) offered: u64,
    /// Frames handed over to the queue.
    pub(crate) frames: u64,
    /// Bytes of those frames.
    pub(crate) bytes: u64,
    /// Not sent: longer than the port takes.
    pub(crate) too_long: u64,
    /// Not sent: without a byte.
    pub(crate) empty: u64,
    /// Frames that were due when the port had no room.
    pub(crate) held_back: u64,
}

/// The end of it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) tally: Tally,
    /// ns between due and handed over, of every frame; empty for [`Speed::Top`].
    pub(crate) errors: Histogram<u64>,
    pub(crate) queue: TxStats,
    /// From the first frame's due time to the last hand-over.
    pub(crate) seconds: f64,
    pub(crate) failure: Option<Failure>,
}

/// The queue, the frames and the clock.
#[derive(Debug)]
pub(crate) struct Sender {
    tx: AnyTx,
    frames: Frames,
    shared: Arc<Shared>,
    poster: Poster,
    dst: Option<Mac>,
    measure: bool,
    max_len: usize,
    tally: Tally,
    errors: Histogram<u64>,
    /// Due times of the frames committed since the last kick.
    group: Vec<u64>,
    /// How often the port has had no room since the last frame went in.
    waits: u32,
}

impl Sender {
    pub(crate) fn new(
        tx: AnyTx,
        lane: LaneRx,
        args: &ReplayArgs,
        shared: Arc<Shared>,
        poster: Poster,
    ) -> Self {
        Self {
            max_len: tx.max_len(),
            tx,
            frames: Frames { lane, batch: None, at: 0 },
            shared,
            poster,
            dst: args.rewrite_dst,
            measure: args.speed != Speed::Top,
            tally: Tally::default(),
            errors: histogram::of_ns(),
            group: Vec::with_capacity(GROUP),
            waits: 0,
        }
    }

    pub(crate) fn run(mut self) -> Sent {
        let mut failure = None;
        let mut seconds = 0.0;
        if self.wait_for_frame() {
            let anchor = Instant::now() + LEAD;
            let outcome = self.send_all(anchor);
            seconds = anchor.elapsed().as_secs_f64();
            let outcome = outcome.and_then(|()| self.see_off());
            // Someone who ends a replay need not be told that its port had no room.
            failure = outcome.err().filter(|_| !self.stopped()).map(|e| {
                Failure::new(format!("sending failed after {} frames: {e}", self.tally.frames))
                    .remedy("is the interface up? ip -s link")
            });
        }
        let queue = self.tx.stats();
        let Self { tally, errors, .. } = self;
        Sent { tally, errors, queue, seconds, failure }
    }

    fn send_all(&mut self, anchor: Instant) -> Result<(), Error> {
        while self.wait_for_frame() {
            let Some(due) = self.frames.due() else { continue };
            let wake = anchor + Duration::from_nanos(due);
            if self.poster.is_due_before(wake) {
                let stats = self.tx.stats();
                self.poster.post(|ports| ports[0].tx(stats));
            }
            if !pacer::wait_until(wake, &self.shared.stop) {
                break;
            }
            let has_room = self.commit_due(anchor.elapsed());
            if !self.group.is_empty() {
                self.kick(anchor)?;
            }
            if !has_room {
                self.make_room()?;
            }
        }
        Ok(())
    }

    /// Queues the frames that are due by now, a group at most. `false`: there was no room for one.
    fn commit_due(&mut self, now: Duration) -> bool {
        while let Some(due) = self.frames.due().filter(|_| self.group.len() < GROUP) {
            if Duration::from_nanos(due) > now {
                break;
            }
            if !self.commit_one(due) {
                return false;
            }
        }
        true
    }

    /// Queues the frame at hand. `false`: there is no room, it stays at hand.
    fn commit_one(&mut self, due: u64) -> bool {
        let Some(frame) = self.frames.current() else { return true };
        if frame.is_empty() || frame.len() > self.max_len {
            let count =
                if frame.is_empty() { &mut self.tally.empty } else { &mut self.tally.too_long };
            *count += 1;
        } else {
            let Some(slot) = self.tx.reserve(frame.len()) else { return false };
            slot.copy_from_slice(frame);
            if let (Some(Mac(mac)), Some(dst)) = (self.dst, slot.first_chunk_mut()) {
                *dst = mac;
            }
            self.tx.commit(frame.len());
            self.waits = 0;
            self.tally.frames += 1;
            self.tally.bytes += frame.len() as u64;
            self.group.push(due);
        }
        self.tally.offered += 1;
        self.frames.step();
        true
    }

    /// Hands the group over and notes how late it was: the clock is read when the kernel or card
    /// has it.
    fn kick(&mut self, anchor: Instant) -> Result<(), Error> {
        self.doorbell()?;
        let now = anchor.elapsed().as_nanos() as u64;
        let mut behind = 0;
        for due in self.group.drain(..) {
            behind = now.saturating_sub(due);
            if self.measure {
                self.errors.saturating_record(behind);
            }
        }
        self.shared.behind_ns.store(behind, Ordering::Relaxed);
        self.shared.frames.store(self.tally.frames, Ordering::Relaxed);
        self.shared.bytes.store(self.tally.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// What was committed stays queued when the kernel has no room or the link is down: the first
    /// passes, the second may.
    fn doorbell(&mut self) -> Result<(), Error> {
        let mut down_since = None;
        loop {
            let Err(e) = self.tx.kick() else { return Ok(()) };
            let passes = match e.kind {
                ErrorKind::LinkDown => {
                    down_since.get_or_insert_with(Instant::now).elapsed() < LINK_PATIENCE
                }
                _ => is_back_pressure(e),
            };
            if !passes || self.stopped() {
                return Err(e);
            }
            self.tx.reap();
            self.wait_for_room();
        }
    }

    /// No slot was free for a frame that is due: nothing is skipped, it goes out late.
    fn make_room(&mut self) -> Result<(), Error> {
        self.doorbell()?;
        if self.tx.reap() == 0 {
            self.wait_for_room();
        }
        Ok(())
    }

    /// Lets others run; sleeps when the port stays full, as one without a link does.
    fn wait_for_room(&mut self) {
        if self.waits == 0 {
            self.tally.held_back += 1;
        }
        self.waits = self.waits.saturating_add(1);
        if self.waits < 100 { thread::yield_now() } else { thread::sleep(FULL_NAP) }
    }

    /// Waits for what was committed to leave.
    fn see_off(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        self.doorbell()?;
        loop {
            self.tx.reap();
            let queue = self.tx.stats();
            if queue.completed + queue.lost() >= self.tally.frames || begun.elapsed() > FAREWELL {
                return Ok(());
            }
            self.doorbell()?;
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Is a frame at hand? Waits for the reader. `false`: there are no more, or it is to stop.
    fn wait_for_frame(&mut self) -> bool {
        while self.frames.due().is_none() {
            if self.stopped() || !self.frames.refill() {
                return false;
            }
        }
        !self.stopped()
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }
}

/// The lane, frame by frame.
#[derive(Debug)]
struct Frames {
    lane: LaneRx,
    batch: Option<Box<Batch>>,
    at: usize,
}

impl Frames {
    /// The frame at hand.
    fn current(&self) -> Option<&[u8]> {
        let batch = self.batch.as_ref()?;
        (self.at < batch.len()).then(|| batch.frame(self.at).bytes)
    }

    /// When it is due.
    fn due(&self) -> Option<u64> {
        let batch = self.batch.as_ref()?;
        (self.at < batch.len()).then(|| batch.frame(self.at).meta.ts_ns)
    }

    /// On to the next one, in the next batch if that is there.
    fn step(&mut self) {
        self.at += 1;
        if self.due().is_none() {
            if let Some(batch) = self.batch.take() {
                self.lane.give_back(batch);
            }
            if let Next::Batch(batch) = self.lane.next() {
                self.batch = Some(batch);
                self.at = 0;
            }
        }
    }

    /// Waits a little for the next batch. `false`: there will be none.
    fn refill(&mut self) -> bool {
        match self.lane.next() {
            Next::Batch(batch) => {
                self.batch = Some(batch);
                self.at = 0;
                true
            }
            Next::Dry => {
                thread::sleep(Duration::from_micros(50));
                true
            }
            Next::End => false,
        }
    }
}
