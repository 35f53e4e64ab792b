//! Round trips, counted.

use hdrhistogram::Histogram;
use rtrb::Consumer;

use crate::histogram;

/// No time is known.
pub(crate) const UNKNOWN: u64 = u64::MAX;
/// Points of the course of time that are kept apart, so that a run of days fits memory.
const MAX_SECONDS: usize = 100_000;

/// One round trip, in ns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Which of the runs.
    pub(crate) run: usize,
    /// When the frame was due, since the beginning of its run.
    pub(crate) due_ns: u64,
    /// From due to answer.
    pub(crate) rtt_ns: u64,
    /// From sent to answer.
    pub(crate) service_ns: u64,
    /// Between the stamps of sending and receiving, or [`UNKNOWN`].
    pub(crate) stamped_ns: u64,
}

/// One frame size's round trips.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) rtt: Histogram<u64>,
    pub(crate) service: Histogram<u64>,
    pub(crate) stamped: Histogram<u64>,
    /// `rtt` by the second in which the frame was due.
    pub(crate) seconds: Vec<Histogram<u64>>,
}

/// All round trips.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) runs: Vec<Run>,
    arrived: Consumer<Sample>,
}

impl Record {
    pub(crate) fn new(sizes: &[usize], arrived: Consumer<Sample>) -> Self {
        let run = |_: &usize| Run {
            rtt: histogram::of_ns(),
            service: histogram::of_ns(),
            stamped: histogram::of_ns(),
            seconds: Vec::new(),
        };
        Self { runs: sizes.iter().map(run).collect(), arrived }
    }

    /// Takes what has arrived.
    pub(crate) fn drain(&mut self) {
        while let Ok(sample) = self.arrived.pop() {
            let Some(run) = self.runs.get_mut(sample.run) else { continue };
            run.rtt.saturating_record(sample.rtt_ns);
            run.service.saturating_record(sample.service_ns);
            if sample.stamped_ns != UNKNOWN {
                run.stamped.saturating_record(sample.stamped_ns);
            }
            let second = ((sample.due_ns / 1_000_000_000) as usize).min(MAX_SECONDS);
            while run.seconds.len() <= second {
                run.seconds.push(small());
            }
            run.seconds[second].saturating_record(sample.rtt_ns);
        }
    }
}

/// A second's histogram: two digits keep a long run small.
fn small() -> Histogram<u64> {
    // The bounds are constants that the crate accepts.
    Histogram::new_with_bounds(1, 100_000_000_000, 2)
        .unwrap_or_else(|_| unreachable!("constant bounds"))
}
