//! The thread that publishes the feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use linerate::clock::now_ns;
use linerate::{AnyTx, Error, FrameTx, TxStats};

use super::feed::{Addresses, CHANNELS, Event, Feed};
use crate::failure::Failure;
use crate::pacer;
use crate::threads::spawn;

/// Most datagrams handed over at once.
const GROUP: usize = 32;

/// What the main thread sees and says.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) frames: AtomicU64,
}

/// What was published.
#[derive(Debug)]
pub(crate) struct Published {
    /// Frames handed to the kernel.
    pub(crate) frames: u64,
    pub(crate) queue: TxStats,
    /// Last sequence number of each channel.
    pub(crate) last_seq: [u32; CHANNELS],
    pub(crate) withheld: [u64; 2],
    pub(crate) seconds: f64,
    pub(crate) failure: Option<Failure>,
}

/// Starts publishing for this long.
pub(crate) fn start(
    tx: AnyTx,
    addresses: Arc<Addresses>,
    duration: Duration,
    shared: Arc<Shared>,
) -> Result<JoinHandle<Published>, Failure> {
    let run = move || {
        let feed = Feed::new(now_ns());
        Publisher { tx, addresses, feed, shared, frames: 0, pending: 0 }.run(duration)
    };
    spawn("linerate-feed", run)
}

struct Publisher {
    tx: AnyTx,
    addresses: Arc<Addresses>,
    feed: Feed,
    shared: Arc<Shared>,
    frames: u64,
    /// Frames committed since the last kick.
    pending: usize,
}

impl Publisher {
    fn run(mut self, duration: Duration) -> Published {
        let begun = Instant::now();
        let outcome = self.publish(begun, duration.as_nanos() as u64);
        let seconds = begun.elapsed().as_secs_f64();
        let failure = outcome.err().map(|e| {
            Failure::new(format!("publishing the feed failed: {e}"))
                .remedy("is the loopback interface up? ip link set lo up")
        });
        Published {
            frames: self.frames,
            queue: self.tx.stats(),
            last_seq: self.feed.last_seq(),
            withheld: self.feed.withheld,
            seconds,
            failure,
        }
    }

    fn publish(&mut self, begun: Instant, until_ns: u64) -> Result<(), Error> {
        let mut event = self.feed.next();
        while event.due_ns < until_ns {
            if !pacer::wait_until(begun + Duration::from_nanos(event.due_ns), &self.shared.stop) {
                break;
            }
            let now = begun.elapsed().as_nanos() as u64;
            while event.due_ns <= now && event.due_ns < until_ns && self.pending < GROUP {
                self.send(&event)?;
                event = self.feed.next();
            }
            self.kick()?;
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        // Both copies of every message that was begun.
        self.send(&event)?;
        while let Some(event) = self.feed.rest() {
            self.send(&event)?;
        }
        self.kick()
    }

    /// Queues one datagram, waiting for room if need be.
    fn send(&mut self, event: &Event) -> Result<(), Error> {
        let mut frame = [0; Addresses::MAX_FRAME];
        let Some(len) = self.addresses.write(event, now_ns(), &mut frame) else { return Ok(()) };
        while !self.tx.send(&frame[..len])? {
            self.kick()?;
            if self.tx.reap() == 0 {
                thread::yield_now();
            }
        }
        self.frames += 1;
        self.pending += 1;
        Ok(())
    }

    fn kick(&mut self) -> Result<(), Error> {
        self.pending = 0;
        self.tx.kick()?;
        self.shared.frames.store(self.frames, Ordering::Relaxed);
        Ok(())
    }
}
