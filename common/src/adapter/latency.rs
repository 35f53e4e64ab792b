//! Measuring how old frames are when they are handed over, and how far apart they came.

use hdrhistogram::Histogram;

use crate::buf::Buf;
use crate::clock::{ClockInfo, Clocked, now_ns};
use crate::error::{Error, SetupError};
use crate::flow::FlowSpec;
use crate::frame::{RxFrame, RxMeta};
use crate::rx::{BufRx, FrameRx};
use crate::stats::RxStats;
use crate::steer::{RuleId, Steer};
use crate::wait::Waitable;

/// Longest time that is told apart, in ns: a minute.
const MAX_NS: u64 = 60_000_000_000;

/// A receiver that measures. Costs one read of `CLOCK_REALTIME` per frame (per window with
/// `acquire`) and no allocation.
///
/// A delay is *now* minus the frame's stamp, so it means something only when the stamp's clock
/// and this machine's agree: see [`ClockInfo`]. Frames without a stamp are not measured.
#[derive(Debug)]
pub struct Latency<R> {
    queue: R,
    meter: Meter,
}

#[derive(Debug)]
struct Meter {
    delays: Histogram<u64>,
    gaps: Histogram<u64>,
    early: u64,
    last_ts: Option<u64>,
}

impl Meter {
    fn record(&mut self, meta: &RxMeta, now: u64) {
        let Some(ts) = meta.timestamp() else { return };
        match now.checked_sub(ts) {
            Some(delay) => self.delays.saturating_record(delay),
            None => self.early += 1,
        }
        if let Some(last) = self.last_ts.replace(ts) {
            self.gaps.saturating_record(ts.saturating_sub(last));
        }
    }
}

/// 1 ns to a minute, to 0.1 %: 200 kB.
fn histogram() -> Histogram<u64> {
    let Ok(histogram) = Histogram::new_with_bounds(1, MAX_NS, 3) else {
        unreachable!("constant bounds that the crate documents as valid")
    };
    histogram
}

impl<R> Latency<R> {
    /// Measures on `queue`.
    pub fn new(queue: R) -> Self {
        let meter = Meter { delays: histogram(), gaps: histogram(), early: 0, last_ts: None };
        Self { queue, meter }
    }

    /// From the stamp to the handler, in ns; more than a minute counts as a minute.
    #[must_use]
    pub fn delays(&self) -> &Histogram<u64> {
        &self.meter.delays
    }

    /// Between the stamps of successive frames, in ns; 0 when a stamp is older than the one
    /// before.
    #[must_use]
    pub fn gaps(&self) -> &Histogram<u64> {
        &self.meter.gaps
    }

    /// Frames stamped in the future: the two clocks disagree by more than the delay.
    #[must_use]
    pub fn early(&self) -> u64 {
        self.meter.early
    }

    /// Forgets what was measured.
    pub fn reset(&mut self) {
        self.meter.delays.reset();
        self.meter.gaps.reset();
        (self.meter.early, self.meter.last_ts) = (0, None);
    }

    /// The queue.
    pub fn queue_mut(&mut self) -> &mut R {
        &mut self.queue
    }

    /// The queue alone.
    pub fn into_queue(self) -> R {
        self.queue
    }
}

impl<R: FrameRx> FrameRx for Latency<R> {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        let n = self.queue.acquire(max)?;
        if n > 0 {
            let now = now_ns();
            for i in 0..n {
                self.meter.record(&self.queue.frame(i).meta, now);
            }
        }
        Ok(n)
    }

    #[inline]
    fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        self.queue.frame(i)
    }

    #[inline]
    fn release(&mut self) {
        self.queue.release();
    }

    fn stats(&mut self) -> RxStats {
        self.queue.stats()
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        self.queue.waitable()
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        let meter = &mut self.meter;
        self.queue.poll(max, |frame| {
            meter.record(&frame.meta, now_ns());
            f(frame);
        })
    }
}

impl<R: BufRx> BufRx for Latency<R> {
    #[inline]
    fn take(&mut self, i: usize) -> Option<Buf> {
        self.queue.take(i)
    }
}

impl<R: Clocked> Clocked for Latency<R> {
    fn clock(&self) -> ClockInfo {
        self.queue.clock()
    }
}

impl<R: Steer> Steer for Latency<R> {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        self.queue.add(flow)
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        self.queue.remove(rule)
    }
}
