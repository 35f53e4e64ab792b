//! Waiting for a point in time, exactly and without wasting a core.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// From here on, sleeping is too coarse: timer slack and wake-up take up to this long.
const SPIN: Duration = Duration::from_micros(150);
/// Longest sleep without looking whether to stop.
const NAP: Duration = Duration::from_millis(20);

/// Sleeps while that is exact enough, then spins. `false`: `stop` was raised.
pub(crate) fn wait_until(due: Instant, stop: &AtomicBool) -> bool {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        if left > 2 * SPIN {
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            thread::sleep((left - SPIN).min(NAP));
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_early_and_can_be_stopped() {
        let stop = AtomicBool::new(false);
        let due = Instant::now() + Duration::from_millis(3);
        assert!(wait_until(due, &stop));
        assert!(Instant::now() >= due);
        stop.store(true, Ordering::Relaxed);
        assert!(!wait_until(Instant::now() + Duration::from_secs(600), &stop));
    }
}
