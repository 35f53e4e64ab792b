//! Noticing that the system's clock was set.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A change by less is not told from the time that reading two clocks takes.
const LEAST_NS: i128 = 1_000_000;
/// Readings of which the fastest counts: a thread may lose its CPU between two clocks.
const READINGS: usize = 3;

/// Notices that `CLOCK_REALTIME` was set (`settimeofday`, `clock_settime`, a leap second, a
/// machine that was suspended): stamps by that clock jump there.
///
/// `CLOCK_MONOTONIC` is slewed together with it and never set, so that the distance between the
/// two changes by nothing else.
///
/// ```
/// let mut clock = linerate_common::clock::StepWatch::new();
/// // Now and then, outside the hot loop:
/// if let Some(step_ns) = clock.look() {
///     println!("the clock was set by {step_ns} ns");
/// }
/// ```
#[derive(Debug)]
pub struct StepWatch {
    origin: Instant,
    apart: Apart,
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
struct Apart {
    /// By how much `CLOCK_REALTIME` is ahead of the time since the origin.
    ns: i128,
    /// How long the reading took.
    width_ns: i128,
}

impl StepWatch {
    /// Steps from now on.
    #[must_use]
    pub fn new() -> Self {
        let origin = Instant::now();
        Self { origin, apart: read(origin) }
    }

    /// By how many ns the clock was set since the last look that found something: positive when
    /// it was set forward. `None`: it was not, or by less than a millisecond. Costs six reads of
    /// clocks and, where the vDSO reads them, no system call.
    pub fn look(&mut self) -> Option<i64> {
        self.judge(read(self.origin))
    }

    fn judge(&mut self, now: Apart) -> Option<i64> {
        let step = now.ns - self.apart.ns;
        // A base that stays: what is too little to be told adds up.
        if step.abs() <= LEAST_NS + now.width_ns + self.apart.width_ns {
            return None;
        }
        self.apart = now;
        Some(i64::try_from(step).unwrap_or(if step < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl Default for StepWatch {
    fn default() -> Self {
        Self::new()
    }
}

fn read(origin: Instant) -> Apart {
    let once = || {
        let before = origin.elapsed();
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => ns(since),
            Err(before) => -ns(before.duration()),
        };
        let after = origin.elapsed();
        Apart { ns: wall - ns(before), width_ns: ns(after.saturating_sub(before)) }
    };
    let mut best = once();
    for _ in 1..READINGS {
        let next = once();
        if next.width_ns < best.width_ns {
            best = next;
        }
    }
    best
}

fn ns(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_and_small_ones_add_up() {
        let mut watch = StepWatch::new();
        assert_eq!(watch.look(), None);
        let base = watch.apart.ns;
        watch.apart.width_ns = 0;
        let mut at = |moved: i128, width_ns| watch.judge(Apart { ns: base + moved, width_ns });
        assert_eq!(at(3_600_000_000_000, 900), Some(3_600_000_000_000));
        assert_eq!(at(3_600_000_000_000, 900), None);
        assert_eq!(at(-1_000_000_000, 900), Some(-3_601_000_000_000));
        // A reading that took 5 ms proves nothing about 4 ms.
        assert_eq!(at(-996_000_000, 5_000_000), None);
        assert_eq!(at(-999_400_000, 0), None);
        assert_eq!(at(-998_800_000, 0), Some(1_200_000));
        assert_eq!(at(i128::MIN / 4, 0), Some(i64::MIN));
    }
}
