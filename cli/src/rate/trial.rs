//! One trial: a load at one rate, sent and counted.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use linerate::loops::pin_to_cpu;
use linerate::{AnyRx, AnyTx, ErrorKind, FlowSpec, FrameRx, RxStats};

use crate::args::RateArgs;
use crate::failure::Failure;
use crate::histogram::Spread;
use crate::load::{self, Deck, Order, Shared, Tally};
use crate::metrics::{Feed, Poster};
use crate::signals::Interrupt;
use crate::threads::cannot_start;

/// The receiver waits this long after the last frame, once everything has been sent.
const QUIET: Duration = Duration::from_millis(100);
/// And this long in all.
const PATIENCE: Duration = Duration::from_secs(2);
/// A rate has been kept up when this share of the frames went out in time.
const KEPT_UP: f64 = 0.98;
const TICK: Duration = Duration::from_millis(10);

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) size: usize,
    /// `None`: full speed.
    pub(crate) offered_pps: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) sent: u64,
    /// Each number once.
    pub(crate) received: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
    pub(crate) damaged: u64,
    /// Losses that the queues at either end know of, by name.
    pub(crate) known: Vec<(&'static str, u64)>,
    /// Was the rate kept up?
    pub(crate) kept_up: bool,
    pub(crate) passed: bool,
    /// From due to taken, in ns.
    pub(crate) latency: Option<Spread>,
}

impl Trial {
    pub(crate) fn sent_pps(&self) -> f64 {
        crate::format::per_second(self.sent as f64, self.seconds)
    }

    pub(crate) fn received_pps(&self) -> f64 {
        crate::format::per_second(self.received as f64, self.seconds)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// The two ends.
pub(crate) struct Bench {
    tx: AnyTx,
    rx: Vec<AnyRx>,
    flow: FlowSpec,
    cpus: [Option<u32>; 2],
    posters: [Poster; 2],
}

impl Bench {
    pub(crate) fn new(
        tx: AnyTx,
        rx: Vec<AnyRx>,
        flow: FlowSpec,
        cpus: [Option<u32>; 2],
        feed: &Feed,
    ) -> Self {
        Self { tx, rx, flow, cpus, posters: [feed.poster(), feed.poster()] }
    }

    /// Runs one. `None`: the user asked for an end.
    pub(crate) fn run(
        &mut self,
        deck: &mut Deck,
        size: usize,
        offered_pps: Option<f64>,
        args: &RateArgs,
        interrupt: &Interrupt,
        feed: &mut Feed,
    ) -> Result<Option<Trial>, Failure> {
        deck.begin_anew();
        let order = Order {
            pps: offered_pps,
            count: u64::MAX,
            duration: Duration::from_secs_f64(args.duration),
            burst: args.burst.into(),
        };
        let before = sum(&mut self.rx);
        let tally = Tally::new(&[self.flow]).only(deck.stream());
        let (shared, all_sent) = (Shared::default(), AtomicBool::new(false));
        let Self { tx, rx, cpus, posters: [tx_poster, rx_poster], .. } = self;
        let [tx_cpu, rx_cpu] = *cpus;
        let (sent, counted) = thread::scope(|scope| {
            let receiver = thread::Builder::new().spawn_scoped(scope, || {
                pin(rx_cpu);
                receive(rx, tally, &all_sent, rx_poster)
            })?;
            let sender = thread::Builder::new().spawn_scoped(scope, || {
                pin(tx_cpu);
                load::send(tx, deck, &order, &shared, tx_poster)
            });
            let sender = sender.inspect_err(|_| all_sent.store(true, Ordering::Relaxed))?;
            while !sender.is_finished() {
                if interrupt.asked() || receiver.is_finished() {
                    shared.stop.store(true, Ordering::Relaxed);
                }
                feed.tick();
                thread::sleep(TICK);
            }
            let sent = sender.join();
            all_sent.store(true, Ordering::Relaxed);
            Ok((sent, receiver.join()))
        })
        .map_err(|e: io::Error| cannot_start("linerate-rate", &e))?;
        let bug = |_| Failure::new("a thread of the trial panicked; please report it");
        let sent = sent.map_err(bug)?;
        let tally = counted.map_err(bug)??;
        if let Some(e) = sent.error {
            return Err(Failure::new(format!("sending failed: {e}")).remedy("ip -s link"));
        }
        if interrupt.asked() {
            return Ok(None);
        }
        let totals = tally.totals();
        let received = totals.frames - totals.duplicates;
        let after = sum(&mut self.rx);
        let grown = after.losses().zip(before.losses()).map(|((name, n), (_, m))| (name, n - m));
        let known = grown.chain(sent.queue.losses()).filter(|(_, n)| *n > 0).collect();
        let due = offered_pps.map_or(0.0, |rate| rate * args.duration);
        let kept_up = sent.frames as f64 >= due * KEPT_UP && sent.frames > 0;
        let tolerated = args.loss / 100.0 * sent.frames as f64;
        let lost = sent.frames.saturating_sub(received);
        Ok(Some(Trial {
            size,
            offered_pps,
            seconds: sent.seconds,
            sent: sent.frames,
            received,
            duplicates: totals.duplicates,
            reordered: totals.reordered,
            damaged: tally.damaged,
            known,
            kept_up,
            passed: kept_up && lost as f64 <= tolerated && tally.damaged == 0,
            latency: Spread::of(&tally.handled),
        }))
    }
}

fn pin(cpu: Option<u32>) {
    if let Some(cpu) = cpu {
        // Tried before on another thread: it works.
        let _ = pin_to_cpu(cpu);
    }
}

/// Counts until everything has been sent and nothing more comes.
fn receive(
    rx: &mut [AnyRx],
    mut tally: Tally,
    all_sent: &AtomicBool,
    poster: &mut Poster,
) -> Result<Tally, Failure> {
    let mut last_frame = Instant::now();
    let mut sent_at = None;
    let mut idle = 0_u32;
    loop {
        let mut came = 0;
        for queue in &mut *rx {
            came += match queue.poll(256, |frame| tally.see(&frame)) {
                Err(e) if e.kind == ErrorKind::LinkDown => 0,
                polled => polled.map_err(Failure::new)?,
            };
        }
        if poster.is_due() {
            poster.post(|ports| ports[1].rx(rx.iter_mut().map(FrameRx::stats)));
        }
        if came > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle == 1 {
            last_frame = Instant::now();
        }
        if all_sent.load(Ordering::Relaxed) {
            let since = *sent_at.get_or_insert_with(Instant::now);
            if last_frame.elapsed() > QUIET && since.elapsed() > QUIET || since.elapsed() > PATIENCE
            {
                return Ok(tally);
            }
        }
        // On a machine with few cores the sender may be waiting for this one.
        if idle > 64 { thread::yield_now() } else { std::hint::spin_loop() }
    }
}

fn sum(rx: &mut [AnyRx]) -> RxStats {
    let mut all = RxStats::default();
    rx.iter_mut().for_each(|queue| all += queue.stats());
    all
}
