//! Measuring how old frames are when they are handed over, and how far apart they came.

use hdrhistogram::Histogram;

use super::tap::FrameSink;
use crate::clock::now_ns;
use crate::frame::RxFrame;

/// Longest time that is told apart, in ns: a minute.
const MAX_NS: u64 = 60_000_000_000;

/// A sink for a [`Tap`](super::Tap) that measures. Costs one read of `CLOCK_REALTIME` per frame
/// and no allocation.
///
/// A delay is *now* minus the frame's stamp, so it means something only when the stamp's clock
/// and this machine's agree: see [`ClockInfo`](crate::ClockInfo). Frames without a stamp are not
/// measured.
///
/// ```
/// use linerate_common::adapter::{Latency, Tap};
/// use linerate_common::loopback::{self, Options};
/// use linerate_common::{FrameRx, FrameTx};
///
/// let (mut tx, rx) = loopback::pair(&Options::default())?;
/// let mut rx = Tap::new(rx, Latency::new());
/// tx.send(b"tick")?;
/// tx.kick()?;
/// rx.poll(64, |_| ())?;
/// println!("p99 {} ns", rx.sink_mut().delays().value_at_quantile(0.99));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Latency {
    delays: Histogram<u64>,
    gaps: Histogram<u64>,
    early: u64,
    last_ts: Option<u64>,
}

impl Latency {
    /// Nothing measured yet. Two histograms of some 200 kB, from 1 ns to a minute to 0.1 %.
    #[must_use]
    pub fn new() -> Self {
        Self { delays: histogram(), gaps: histogram(), early: 0, last_ts: None }
    }

    /// From the stamp to the hand-over, in ns; more than a minute counts as a minute.
    #[must_use]
    pub fn delays(&self) -> &Histogram<u64> {
        &self.delays
    }

    /// Between the stamps of successive frames, in ns; 0 when a stamp is older than the one
    /// before.
    #[must_use]
    pub fn gaps(&self) -> &Histogram<u64> {
        &self.gaps
    }

    /// Frames stamped in the future: the two clocks disagree by more than the delay.
    #[must_use]
    pub fn early(&self) -> u64 {
        self.early
    }

    /// Forgets what was measured.
    pub fn reset(&mut self) {
        self.delays.reset();
        self.gaps.reset();
        (self.early, self.last_ts) = (0, None);
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameSink for Latency {
    fn frame(&mut self, frame: &RxFrame<'_>) {
        let Some(ts) = frame.meta.timestamp() else { return };
        match now_ns().checked_sub(ts) {
            Some(delay) => self.delays.saturating_record(delay),
            None => self.early += 1,
        }
        if let Some(last) = self.last_ts.replace(ts) {
            self.gaps.saturating_record(ts.saturating_sub(last));
        }
    }
}

fn histogram() -> Histogram<u64> {
    let Ok(histogram) = Histogram::new_with_bounds(1, MAX_NS, 3) else {
        unreachable!("constant bounds that hdrhistogram documents as valid")
    };
    histogram
}
