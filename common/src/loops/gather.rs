//! `throughput`: leave a queue alone until a burst is worth the poll.
//!
//! A queue cannot be asked how much is waiting without opening a window, and a window may not be
//! held open while more arrives. So the look-ahead is a forecast: the last burst brought `n`
//! frames in `t` ticks, so `gather` of them should be there in `t · gather / n`. That long the
//! queue is left alone, but never longer than `max_age`, which bounds how long any frame waits.
//! A burst that filled up says that more is waiting: the next turn goes on at once.

use std::ops::ControlFlow;

use super::event_loop::EventLoop;
use super::ticks;
use super::turn::{End, QueueError, Turn};
use crate::frame::RxFrame;
use crate::rx::FrameRx;

impl<R: FrameRx, C> EventLoop<R, C> {
    pub(super) fn run_gathering<F, H>(
        &mut self,
        handler: &mut F,
        hook: &mut H,
    ) -> Result<End, QueueError>
    where
        F: FnMut(&mut C, RxFrame<'_>),
        H: FnMut(&Turn) -> ControlFlow<()>,
    {
        let forecast = Forecast {
            full: self.strategy.burst.min(crate::MAX_BURST),
            gather: self.strategy.gather as u64,
            max_hold: ticks::from_duration(self.strategy.max_age),
        };
        for lane in &mut self.lanes {
            lane.polled = ticks::ticks();
            lane.hold = 0;
        }
        loop {
            let now = ticks::ticks();
            let frames = self.poll_queues(
                handler,
                |lane| now.wrapping_sub(lane.polled) >= lane.hold,
                |lane, n| {
                    lane.hold = forecast.hold(n, now.wrapping_sub(lane.polled));
                    lane.polled = now;
                },
            )?;
            if frames == 0 {
                // Frames are gathering: let the other hyperthread have the core meanwhile.
                std::hint::spin_loop();
            }
            if let Some(end) = self.end_turn(frames, false, hook) {
                return Ok(end);
            }
        }
    }
}

/// How long to leave a queue alone after a burst.
struct Forecast {
    /// A burst of this many says that more is waiting. Not `burst` itself: a queue that does not
    /// override `poll` shows one window at a time.
    full: usize,
    gather: u64,
    max_hold: u64,
}

impl Forecast {
    /// In ticks, after `n` frames came in `elapsed` ticks.
    #[inline]
    fn hold(&self, n: usize, elapsed: u64) -> u64 {
        if n >= self.full {
            0
        } else if n == 0 {
            self.max_hold
        } else {
            // Saturating: a step back of the counter looks like an enormous `elapsed`.
            (elapsed.saturating_mul(self.gather) / n as u64).min(self.max_hold)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forecast_follows_the_rate_and_stops_at_the_age_limit() {
        let f = Forecast { full: 64, gather: 32, max_hold: 1000 };
        assert_eq!(f.hold(64, 500), 0, "a full burst: more is waiting");
        assert_eq!(f.hold(0, 500), 1000, "nothing came: the age limit");
        assert_eq!(f.hold(16, 100), 200, "16 in 100 ticks: 32 in 200");
        assert_eq!(f.hold(1, 100), 1000, "slow: the age limit");
        assert_eq!(f.hold(1, u64::MAX), 1000);
    }
}
