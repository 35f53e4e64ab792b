//! The card's clock: ticks since the UNIX epoch at the card's rate.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use linerate_common::clock::now_ns;

const RUNNING: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Clock {
    pub(super) hz: u32,
    /// Added to the time of day, in ticks.
    pub(super) offset: AtomicI64,
    /// Ticks of a clock that a test moves, or `RUNNING`.
    manual: AtomicU64,
}

impl Clock {
    pub(super) fn new(hz: u32) -> Self {
        Self { hz, offset: AtomicI64::new(0), manual: AtomicU64::new(RUNNING) }
    }

    pub(super) fn set(&self, ticks: u64) {
        self.manual.store(ticks, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u64 {
        let manual = self.manual.load(Ordering::Relaxed);
        if manual != RUNNING {
            return manual;
        }
        let ticks = u128::from(now_ns()) * u128::from(self.hz) / 1_000_000_000;
        (ticks as u64).wrapping_add_signed(self.offset.load(Ordering::Relaxed))
    }

    /// Lets a clock that a test moves run on for `ns`, at least a tick.
    pub(super) fn pass(&self, ns: u64) {
        let manual = self.manual.load(Ordering::Relaxed);
        if manual != RUNNING {
            let ticks = u128::from(ns) * u128::from(self.hz) / 1_000_000_000;
            self.set(manual + (ticks as u64).max(1));
        }
    }

    /// What the driver keeps in the info page: the middle of the half period that `now` is in.
    pub(super) fn info_page(now: u64) -> u64 {
        (now >> 31 << 31) + (1 << 30)
    }
}
