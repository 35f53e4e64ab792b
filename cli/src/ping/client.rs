//! The thread that sends, waits for answers, and says how long they took.

mod answers;
mod plan;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use linerate::clock::now_ns;
use linerate::{AnyRx, Error, FrameRx, FrameTx, wait_readable};
use rtrb::Producer;

use super::out::Out;
use super::record::Sample;
use super::stamp::Stamp;
use super::tally::{Ended, Shared, Stray, Tally};
use crate::failure::Failure;
use crate::meeting::may_pass;
use crate::metrics::Poster;
use crate::probe::{Kind, Mark, any_number};
pub(crate) use plan::Plan;

/// Longest sleep of a blocking wait without looking whether to stop.
const NAP: Duration = Duration::from_millis(20);
/// Most frames handed over with one kick.
const GROUP: usize = 64;
/// Looks for an answer without looking at the clock, where nothing else is to be done.
const LOOKS: usize = 32;

/// A frame that is out.
#[derive(Debug, Clone, Copy)]
struct Pending {
    due_ns: u64,
    sent_ns: u64,
    /// As written into the frame.
    time_ns: u64,
    warm: bool,
    /// When the answer came, since the beginning of the run, and its stamp.
    answer: Option<(u64, Stamp)>,
    left: Stamp,
}

/// The queues and the frames that are out.
#[derive(Debug)]
pub(crate) struct Client {
    plan: Plan,
    rx: Vec<AnyRx>,
    tx: Out,
    samples: Producer<Sample>,
    shared: Arc<Shared>,
    poster: Poster,
    stream: u8,
    /// Number of the oldest frame in `pending`; the others follow.
    oldest: u64,
    pending: VecDeque<Pending>,
    tallies: Vec<Tally>,
    stray: Stray,
    /// Does the queue say when frames left? Learnt from the first stamp.
    stamped: bool,
}

/// What the frames of one run have in common.
#[derive(Debug, Clone, Copy)]
struct Run {
    index: usize,
    size: usize,
    start: Instant,
    /// `start` as time of day.
    start_ns: u64,
}

impl Run {
    fn now_ns(&self) -> u64 {
        Instant::now().saturating_duration_since(self.start).as_nanos() as u64
    }
}

impl Client {
    pub(crate) fn new(
        plan: Plan,
        rx: Vec<AnyRx>,
        tx: Out,
        samples: Producer<Sample>,
        shared: Arc<Shared>,
        poster: Poster,
    ) -> Self {
        let tallies = vec![Tally::default(); plan.sizes.len()];
        Self {
            plan,
            rx,
            tx,
            samples,
            shared,
            poster,
            stream: any_number() as u8,
            oldest: 0,
            pending: VecDeque::with_capacity(1 << 16),
            tallies,
            stray: Stray::default(),
            stamped: false,
        }
    }

    pub(crate) fn run(mut self) -> Ended {
        let mut failure = None;
        for (index, size) in self.plan.sizes.clone().into_iter().enumerate() {
            if self.stopped() {
                break;
            }
            // A moment for the last answer's echo, and for the first frame to be on time.
            let start = Instant::now() + Duration::from_millis(1);
            let run = Run { index, size, start, start_ns: now_ns() + 1_000_000 };
            if let Out::Slots(slots) = &mut self.tx {
                slots.clear();
            }
            if let Err(e) = self.run_size(run) {
                let sent = self.shared.sent.load(Ordering::Relaxed);
                failure = Some(
                    Failure::new(format!("failed after {sent} frames: {e}"))
                        .remedy("is the interface up? ip -s link"),
                );
                break;
            }
        }
        let queue = self.tx.stats();
        Ended { tallies: self.tallies, stray: self.stray, queue, failure }
    }

    fn run_size(&mut self, run: Run) -> Result<(), Error> {
        let warm_up = self.plan.warm_up;
        let mut sent: u64 = 0;
        let mut measure_from = (warm_up == 0).then_some(0);
        loop {
            let now = run.now_ns();
            if measure_from.is_none() && sent >= warm_up && self.pending.is_empty() {
                measure_from = Some(now);
            }
            let left = match self.plan.gap_ns {
                // The warm-up runs into what is measured: the schedule has no hole.
                Some(gap) => due_now(sent, gap, now),
                None => u64::from(self.pending.is_empty()),
            };
            let over = self.stopped()
                || sent >= warm_up.saturating_add(self.plan.count)
                || self.time_is_up(sent, measure_from, now);
            if over && self.pending.is_empty() {
                return Ok(());
            }
            let left = if over { 0 } else { left };
            let left = left.min(warm_up.saturating_add(self.plan.count) - sent);
            let mut committed = 0;
            while committed < left {
                let due = self.plan.gap_ns.map_or(now, |gap| (sent as f64 * gap) as u64);
                if !self.commit(run, due, sent)? {
                    break;
                }
                sent += 1;
                committed += 1;
            }
            if committed > 0 {
                self.kick(committed)?;
            } else if left > 0 {
                // No room: what is due now goes out late, and counts from when it was due.
                self.kick(0)?;
                self.tx.reap()?;
            }
            let mut came = self.receive(run)?;
            if self.plan.gap_ns.is_none() && !self.plan.sleeps {
                let mut looks = 0;
                while came == 0 && looks < LOOKS {
                    came = self.receive(run)?;
                    looks += 1;
                }
            }
            self.collect_stamps();
            self.settle(run, now);
            if !over {
                self.load_ahead(run, sent)?;
            }
            if self.poster.is_due() {
                let Self { rx, tx, poster, .. } = self;
                poster.post(|ports| {
                    ports[0].rx(rx.iter_mut().map(FrameRx::stats));
                    ports[0].tx(tx.stats());
                });
            }
            if self.plan.sleeps && came == 0 && committed == 0 {
                let next = self.plan.gap_ns.map_or(u64::MAX, |gap| (sent as f64 * gap) as u64);
                self.sleep(run, next)?;
            }
        }
    }

    /// With a duration, has the last frame been sent?
    fn time_is_up(&self, sent: u64, measure_from: Option<u64>, now: u64) -> bool {
        if self.plan.duration_ns == u64::MAX || sent < self.plan.warm_up {
            return false;
        }
        let from = match self.plan.gap_ns {
            Some(gap) => (self.plan.warm_up as f64 * gap) as u64,
            None => measure_from.unwrap_or(now),
        };
        now.saturating_sub(from) >= self.plan.duration_ns
    }

    /// Number of the next frame.
    fn next_number(&self) -> u64 {
        self.oldest + self.pending.len() as u64
    }

    /// Writes the frames that are sent next into free slots, where there are slots.
    fn load_ahead(&mut self, run: Run, sent: u64) -> Result<(), Error> {
        let number = self.next_number();
        let Out::Slots(_) = &self.tx else { return Ok(()) };
        self.tx.reap()?;
        let Out::Slots(slots) = &mut self.tx else { return Ok(()) };
        let Some(stencil) = self.plan.stencils.get_mut(run.index) else { return Ok(()) };
        while slots.has_room(number + slots.len() as u64) {
            let ahead = slots.len() as u64;
            let due = |gap| ((sent + ahead) as f64 * gap) as u64;
            let time_ns = run.start_ns + self.plan.gap_ns.map_or_else(|| run.now_ns(), due);
            let seq = (number + ahead) as u32;
            let mark = Mark { kind: Kind::Ping, stream: self.stream, seq, time_ns };
            slots.load(number + ahead, stencil.marked(&mark), time_ns)?;
        }
        Ok(())
    }

    /// Queues frame `sent` of this run, or fires its slot. `false`: there is no room.
    fn commit(&mut self, run: Run, due_ns: u64, sent: u64) -> Result<bool, Error> {
        let warm = sent < self.plan.warm_up;
        let number = self.next_number();
        if matches!(&self.tx, Out::Slots(slots) if slots.len() == 0) {
            self.load_ahead(run, sent)?;
        }
        let sent_ns = run.now_ns();
        let time_ns = match &mut self.tx {
            Out::Queue(tx) => {
                let time_ns = run.start_ns + due_ns;
                let seq = number as u32;
                let mark = Mark { kind: Kind::Ping, stream: self.stream, seq, time_ns };
                let Some(stencil) = self.plan.stencils.get_mut(run.index) else { return Ok(false) };
                if !tx.send(stencil.marked(&mark))? {
                    return Ok(false);
                }
                time_ns
            }
            Out::Slots(slots) => match slots.fire(number)? {
                Some(time_ns) => time_ns,
                None => return Ok(false),
            },
        };
        let left = Stamp::default();
        self.pending.push_back(Pending { due_ns, sent_ns, time_ns, warm, answer: None, left });
        self.tallies[run.index].sent += u64::from(!warm);
        Ok(true)
    }

    /// Rings the doorbell. What is back-pressure keeps the frames in the queue.
    fn kick(&mut self, committed: u64) -> Result<(), Error> {
        let sent = &self.shared.sent;
        sent.store(sent.load(Ordering::Relaxed) + committed, Ordering::Relaxed);
        match self.tx.kick() {
            Err(e) if may_pass(e) => Ok(()),
            done => done,
        }
    }

    /// Sleeps until an answer comes, a frame is due, or one is overdue.
    fn sleep(&mut self, run: Run, next_due_ns: u64) -> Result<(), Error> {
        let overdue = self.pending.front().map_or(u64::MAX, |p| p.due_ns + self.plan.timeout_ns);
        let now = run.now_ns();
        let left = Duration::from_nanos(next_due_ns.min(overdue).saturating_sub(now)).min(NAP);
        let Some(queue) = self.rx.first_mut() else { return Ok(()) };
        let Some(waitable) = queue.waitable() else { return Ok(()) };
        waitable.arm()?;
        if self.receive(run)? > 0 || left.is_zero() {
            return Ok(());
        }
        if let Some(waitable) = self.rx.first_mut().and_then(|q| q.waitable()) {
            wait_readable(waitable.fd(), Some(left))?;
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }
}

/// How many frames are due and not out.
fn due_now(sent: u64, gap_ns: f64, now: u64) -> u64 {
    let due = (now as f64 / gap_ns) as u64 + 1;
    due.saturating_sub(sent).min(GROUP as u64)
}
