//! What a loop tells: each turn to its hook, and at the end to its caller.

use std::fmt;
use std::time::Duration;

use super::ticks;
use crate::error::Error;

/// One round over the queues, as the hook sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Counts the loop's turns from 1.
    pub number: u64,
    /// Frames handled in this turn.
    pub frames: usize,
    /// Frames handled since the loop was made.
    pub total: u64,
    /// Did the loop sleep in this turn?
    pub slept: bool,
    /// Times that the scheduler moved the thread to another CPU, see [`Totals::migrations`].
    pub migrations: u64,
}

/// What a loop has done since it was made, over all its runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Rounds over the queues.
    pub turns: u64,
    /// Frames handled.
    pub frames: u64,
    /// Times that the loop slept.
    pub sleeps: u64,
    /// Times that the thread was found on another CPU than before: each costs its caches. Looked
    /// at every 1024 turns and after each sleep, so short excursions may go unseen. More than 0
    /// on a spinning loop means: [pin it](super::pin_to_cpu).
    pub migrations: u64,
}

/// Why a run came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// Somebody called [`StopHandle::stop`](super::StopHandle::stop).
    Stopped,
    /// The hook broke off.
    Hook,
}

/// A run that ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Why.
    pub why: End,
    /// What the loop has done so far.
    pub totals: Totals,
}

/// A queue is in trouble. Every other queue is as it was; run the loop again to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueError {
    /// Which queue: what [`EventLoop::add`](super::EventLoop::add) returned for it.
    pub queue: usize,
    /// What it reported.
    pub error: Error,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue {}: {}", self.queue, self.error)
    }
}

impl std::error::Error for QueueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A clock for hooks: "is it time again?" at the price of a countdown per turn.
///
/// It reads the kernel's coarse monotonic clock (no system call, some ms of resolution) once
/// in 1024 turns and frames, and after every sleep. On a loop with slow handlers it can be late
/// by the time that 1024 frames take.
#[derive(Debug, Clone)]
pub struct Every {
    period_ns: u64,
    next_ns: u64,
    budget: usize,
}

impl Every {
    const BUDGET: usize = 1024;

    /// First due one `period` from now.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let next_ns = ticks::coarse_ns().saturating_add(period_ns);
        Self { period_ns, next_ns, budget: Self::BUDGET }
    }

    /// Has the period passed? Periods that were missed are skipped, not made up for.
    #[inline]
    #[must_use]
    pub fn is_due(&mut self, turn: &Turn) -> bool {
        let spent = turn.frames + 1;
        if spent < self.budget && !turn.slept {
            self.budget -= spent;
            return false;
        }
        self.look()
    }

    #[cold]
    fn look(&mut self) -> bool {
        self.budget = Self::BUDGET;
        let now = ticks::coarse_ns();
        if now < self.next_ns {
            return false;
        }
        self.next_ns = self.next_ns.saturating_add(self.period_ns).max(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(frames: usize, slept: bool) -> Turn {
        Turn { number: 1, frames, total: 0, slept, migrations: 0 }
    }

    #[test]
    fn the_clock_is_read_once_a_budget_and_after_a_sleep() {
        // A period of 0 is due whenever the clock is read.
        let mut every = Every::new(Duration::ZERO);
        let due = (0..2048).filter(|_| every.is_due(&turn(0, false))).count();
        assert_eq!(due, 2);
        assert!(every.is_due(&turn(0, true)));
        assert!(every.is_due(&turn(5000, false)));
    }

    #[test]
    fn a_long_period_is_not_due() {
        let mut every = Every::new(Duration::from_secs(3600));
        assert!(!every.is_due(&turn(0, true)));
        let mut never = Every::new(Duration::MAX);
        assert!(!never.is_due(&turn(0, true)));
    }
}
