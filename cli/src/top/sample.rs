//! The counters at one moment, and what happened between two.

use std::time::{Duration, Instant};

use linerate::RxStats;

use crate::capture::{Counts, GroupLine};
use crate::format::{per_second, wire_bits};

/// What was read.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) counts: Counts,
    pub(super) queue: RxStats,
    /// The groups that were asked for, and flows that were found.
    pub(super) groups: Vec<GroupLine>,
    /// CPU time of the receive loop, and where it runs.
    pub(super) loop_cpu: Option<(Duration, u32)>,
}

/// Frames per second, and bits per second on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) pps: f64,
    pub(super) bps: f64,
}

impl Sample {
    fn seconds_since(&self, before: &Self) -> f64 {
        self.at.saturating_duration_since(before.at).as_secs_f64()
    }

    fn rate(&self, before: &Self, frames: u64, bytes: u64) -> Rate {
        let seconds = self.seconds_since(before);
        Rate {
            pps: per_second(frames as f64, seconds),
            bps: per_second(wire_bits(frames, bytes), seconds),
        }
    }

    /// Of everything.
    pub(super) fn total(&self, before: &Self) -> Rate {
        let (now, then) = (&self.counts, &before.counts);
        self.rate(before, now.frames - then.frames, now.bytes - then.bytes)
    }

    /// Of group or flow `i`.
    pub(super) fn group(&self, before: &Self, i: usize) -> Rate {
        let Some(now) = self.groups.get(i) else { return Rate::default() };
        // A flow that was not there, or another one in its place, began at 0.
        let then = before.groups.get(i).filter(|then| then.group == now.group);
        let (frames, bytes) = then.map_or((0, 0), |then| (then.frames, then.bytes));
        self.rate(before, now.frames.saturating_sub(frames), now.bytes.saturating_sub(bytes))
    }

    /// Share of a CPU that the receive loop took, 0 to 1.
    pub(super) fn loop_share(&self, before: &Self) -> Option<f64> {
        let (now, then) = (self.loop_cpu?.0, before.loop_cpu?.0);
        let share = per_second(now.saturating_sub(then).as_secs_f64(), self.seconds_since(before));
        Some(share.min(1.0))
    }
}
