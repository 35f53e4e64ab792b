//! Sending a load on a schedule.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use linerate::clock::{StepWatch, now_ns};
use linerate::{AnyTx, Error, ErrorKind, FrameTx, TxStats};

use super::Deck;
use crate::histogram;
use crate::meeting::is_back_pressure;
use crate::metrics::Poster;
use crate::pacer;

/// From the call to the first frame's due time.
const LEAD: Duration = Duration::from_millis(2);
/// How long to wait for the last frames to leave.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long to wait for a link that is down, and how long between two looks.
const LINK_PATIENCE: Duration = Duration::from_secs(10);
const LINK_NAP: Duration = Duration::from_millis(10);

/// How often to look whether the system's clock was set.
const CLOCK_LOOK: Duration = Duration::from_millis(100);

/// How much to send, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    /// `None`: as fast as the queue takes them.
    pub(crate) pps: Option<f64>,
    pub(crate) count: u64,
    pub(crate) duration: Duration,
    /// Frames handed over with one kick.
    pub(crate) burst: u64,
}

/// What others see and say meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// End early.
    pub(crate) stop: AtomicBool,
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// How late the last burst was, in ns.
    pub(crate) behind_ns: AtomicU64,
}

/// What was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// From the first frame's due time to the last hand-over.
    pub(crate) seconds: f64,
    /// Bursts that met a queue without room for some time.
    pub(crate) held_back: u64,
    /// ns between due and handed over, by frame; empty without a schedule.
    pub(crate) late: Histogram<u64>,
    /// Time spent on frames: marking, copying, kicking. Not the wait between them.
    pub(crate) busy_ns: u64,
    /// CPU time of the thread, the wait included; 0 where the kernel does not say.
    pub(crate) cpu_ns: u64,
    /// The queue's counters, of this load alone.
    pub(crate) queue: TxStats,
    pub(crate) error: Option<Error>,
}

/// Sends what the order says, or until stopped.
pub(crate) fn send(
    tx: &mut AnyTx,
    deck: &mut Deck,
    order: &Order,
    shared: &Shared,
    poster: &mut Poster,
) -> Sent {
    let before = tx.stats();
    let cpu = cpu_ns();
    let mut sender = Sender { tx, deck, shared, poster, sent: Sent::nothing(), held_back: false };
    let anchor = Instant::now() + LEAD;
    let outcome = sender.send_all(order, anchor);
    sender.sent.seconds = Instant::now().saturating_duration_since(anchor).as_secs_f64();
    sender.sent.cpu_ns = cpu_ns().saturating_sub(cpu);
    let outcome = outcome.and_then(|()| sender.see_off(&before));
    sender.sent.error = outcome.err();
    let mut sent = sender.sent;
    sent.queue = difference(&tx.stats(), &before);
    sent
}

impl Sent {
    fn nothing() -> Self {
        Self {
            frames: 0,
            bytes: 0,
            seconds: 0.0,
            held_back: 0,
            late: histogram::of_ns(),
            busy_ns: 0,
            cpu_ns: 0,
            queue: TxStats::default(),
            error: None,
        }
    }
}

struct Sender<'a> {
    tx: &'a mut AnyTx,
    deck: &'a mut Deck,
    shared: &'a Shared,
    poster: &'a mut Poster,
    sent: Sent,
    /// Has the burst at hand met a full queue?
    held_back: bool,
}

impl Sender<'_> {
    fn send_all(&mut self, order: &Order, anchor: Instant) -> Result<(), Error> {
        let mut anchor_ns = now_ns() + LEAD.as_nanos() as u64;
        let (mut clock, mut looked) = (StepWatch::new(), anchor);
        let end_ns = u64::try_from(order.duration.as_nanos()).unwrap_or(u64::MAX);
        while self.sent.frames < order.count && !self.stopped() {
            let (due, time) = match order.pps {
                Some(rate) => {
                    // One product for each burst: nothing adds up.
                    let due = (self.sent.frames as f64 * 1e9 / rate) as u64;
                    (Some(due), anchor_ns + due)
                }
                None => (None, now_ns()),
            };
            if due.is_some_and(|due| due >= end_ns) || nanos_since(anchor) >= end_ns {
                return Ok(());
            }
            let wake = due.map_or(anchor, |due| anchor + Duration::from_nanos(due));
            if self.poster.is_due_before(wake) {
                let stats = self.tx.stats();
                self.poster.post(|ports| ports[0].tx(stats));
            }
            if let Some(due) = due
                && !pacer::wait_until(anchor + Duration::from_nanos(due), &self.shared.stop)
            {
                return Ok(());
            }
            let begun = Instant::now();
            if begun.saturating_duration_since(looked) >= CLOCK_LOOK {
                looked = begun;
                // The schedule stays; the times in the frames follow the clock.
                anchor_ns = anchor_ns.saturating_add_signed(clock.look().unwrap_or(0));
            }
            let n = order.burst.min(order.count - self.sent.frames);
            let n = self.burst(n, time)?;
            let done = Instant::now();
            self.sent.busy_ns += (done - begun).as_nanos() as u64;
            if let Some(due) = due {
                let late = nanos_since(anchor).saturating_sub(due);
                self.sent.late.saturating_record_n(late, n);
                self.shared.behind_ns.store(late, Ordering::Relaxed);
            }
            self.shared.frames.store(self.sent.frames, Ordering::Relaxed);
            self.shared.bytes.store(self.sent.bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One group of frames, one kick. Fewer only when stopped.
    fn burst(&mut self, n: u64, time_ns: u64) -> Result<u64, Error> {
        self.held_back = false;
        for done in 0..n {
            let frame = self.deck.frame(time_ns);
            let len = frame.len() as u64;
            let mut queued = self.tx.send(frame)?;
            while !queued {
                if self.stopped() {
                    return Ok(done);
                }
                self.wait_for_room()?;
                queued = self.tx.send(self.deck.frame(time_ns))?;
            }
            self.deck.step();
            self.sent.frames += 1;
            self.sent.bytes += len;
        }
        self.doorbell()?;
        self.sent.held_back += u64::from(self.held_back);
        Ok(n)
    }

    fn wait_for_room(&mut self) -> Result<(), Error> {
        self.held_back = true;
        self.doorbell()?;
        if self.tx.reap() == 0 {
            thread::yield_now();
        }
        Ok(())
    }

    /// A full queue is back-pressure, not a failure, and a link may come back: what was committed
    /// stays queued.
    fn doorbell(&mut self) -> Result<(), Error> {
        let mut down_since = None;
        loop {
            let Err(e) = self.tx.kick() else { return Ok(()) };
            let passes = if e.kind == ErrorKind::LinkDown {
                thread::sleep(LINK_NAP);
                down_since.get_or_insert_with(Instant::now).elapsed() < LINK_PATIENCE
            } else {
                is_back_pressure(e)
            };
            if !passes {
                return Err(e);
            }
            if self.stopped() {
                // What is still queued is not sent; the ledger shows it.
                return Ok(());
            }
            self.held_back = true;
            self.tx.reap();
            thread::yield_now();
        }
    }

    /// Waits for what was committed to leave.
    fn see_off(&mut self, before: &TxStats) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            self.doorbell()?;
            self.tx.reap();
            let queue = difference(&self.tx.stats(), before);
            let settled = queue.completed + queue.lost() >= self.sent.frames;
            if settled || begun.elapsed() > FAREWELL {
                return Ok(());
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }
}

fn nanos_since(anchor: Instant) -> u64 {
    Instant::now().saturating_duration_since(anchor).as_nanos() as u64
}

/// What the counters grew by.
fn difference(now: &TxStats, before: &TxStats) -> TxStats {
    let mut grown = *now;
    grown.frames = now.frames.saturating_sub(before.frames);
    grown.bytes = now.bytes.saturating_sub(before.bytes);
    grown.completed = now.completed.saturating_sub(before.completed);
    grown.failed = now.failed.saturating_sub(before.failed);
    grown.queue_full = now.queue_full.saturating_sub(before.queue_full);
    grown.refused = now.refused.saturating_sub(before.refused);
    grown
}

/// CPU time that the calling thread has used, in ns.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}
