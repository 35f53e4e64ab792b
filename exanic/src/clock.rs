//! From 32 bits of ticks to ns of UTC.
//!
//! A chunk carries the low 32 bits of the card's tick count, which come round every 27 s at
//! 161 MHz and every second at 4 GHz. The driver keeps the full count in a page of memory, up to a
//! quarter of that period off. The vendor's conversion takes the match nearest to the page, so a
//! stamp that waited too long in the ring silently lands in the future. Here a stamp is expanded
//! only while it is proven which match is meant: see [`TickClock::sync`].

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use linerate_common::clock::ticks_to_ns;

use crate::device::Device;

/// How far the driver's page may be off: a quarter of the period of 32 bits.
const PAGE_ERROR: u64 = 1 << 30;
/// How far back a clock may be stepped before its stamps are taken for later ones.
const STEP_TOLERANCE: u64 = 1 << 28;
const PERIOD: u64 = 1 << 32;

/// Where the full time comes from.
#[derive(Debug)]
enum Source {
    /// The page that the driver keeps: a load from memory.
    Page(NonNull<AtomicU64>),
    /// 64-bit registers (PTP grandmasters): read rarely, extrapolated by the host's clock.
    Registers { device: Arc<Device>, read_at: Instant, ticks: u64 },
}

/// Expands the stamps of one queue. `None` in place of it: the card has no usable time.
#[derive(Debug)]
pub(crate) struct TickClock {
    source: Source,
    /// The driver's page, or for other sources a word that no time is ever equal to.
    page: NonNull<AtomicU64>,
    hz: u64,
    /// 10^9 * 2^64 / hz, rounded up: see `ns_within_second`.
    ns_per_tick: u128,
    /// Taken off, in ns: the clock's lead on UTC.
    lead_ns: i64,
    /// Full time when last looked, with the source's error.
    now: u64,
    /// `now` when the ring was last seen empty.
    emptied: u64,
    /// No stamp that is still to come is older.
    floor: u64,
    /// Does the oldest possible stamp lie within one period of the newest possible?
    certain: bool,
    last: u64,
    /// The second at hand: its first tick and its start in ns.
    second_ticks: u64,
    second_ns: u64,
}

/// In place of a page that moves: not what was seen last, so one must look.
static UNLIKE_ANY: AtomicU64 = AtomicU64::new(u64::MAX);

// SAFETY: the page is memory of a handle that the queue owning this clock keeps open, and it is
// only read, atomically.
unsafe impl Send for TickClock {}

impl TickClock {
    /// `None` when the card or driver gives no full time.
    pub(crate) fn new(device: &Arc<Device>, lead_ns: i64) -> Option<Self> {
        let hz = u64::from(device.tick_hz());
        if hz == 0 {
            return None;
        }
        let source = match device.info_page() {
            Some(page) if !device.has_clock_registers() || load(page) != 0 => Source::Page(page),
            _ if device.has_clock_registers() => Source::Registers {
                device: Arc::clone(device),
                read_at: Instant::now(),
                ticks: device.clock_registers(),
            },
            _ => return None,
        };
        let page = match source {
            Source::Page(page) => page,
            Source::Registers { .. } => NonNull::from(&UNLIKE_ANY),
        };
        let mut clock = Self {
            source,
            page,
            hz,
            ns_per_tick: (1_000_000_000_u128 << 64).div_ceil(u128::from(hz)),
            lead_ns,
            now: 0,
            emptied: 0,
            floor: 0,
            certain: false,
            last: 0,
            second_ticks: 0,
            second_ns: 0,
        };
        clock.caught_up();
        Some(clock)
    }

    /// The smallest step of a stamp in ns.
    pub(crate) fn resolution_ns(&self) -> u32 {
        1_000_000_000_u64.div_ceil(self.hz).max(1) as u32
    }

    /// The queue has seen everything up to now: what comes later is not older than this.
    #[inline]
    pub(crate) fn caught_up(&mut self) {
        if !self.is_settled() {
            self.settle();
        }
    }

    /// Is there nothing to do when the queue has seen everything? So it is at the usual empty
    /// poll: the page has not moved and there is nothing to prove.
    #[inline(always)]
    pub(crate) fn is_settled(&self) -> bool {
        load(self.page) == self.emptied && self.certain
    }

    #[cold]
    fn settle(&mut self) {
        let (now, error) = self.look();
        self.now = now;
        self.emptied = now;
        self.floor = now.saturating_sub(error);
        self.certain = true;
        // The clock may have been set back: what was stamped before is no bound any more.
        self.last = 0;
    }

    /// Looks at the time before stamps are expanded.
    ///
    /// # Why this is enough
    ///
    /// Stamps leave the ring in the order in which frames came. A lower bound of the next one is
    /// the time when the ring was last seen empty, or a stamp already expanded; an upper bound is
    /// now. While the two are no more than a period apart exactly one match of 32 bits lies
    /// between them, the upper one excluded. When they are more apart (the reader slept for long with frames waiting, or the
    /// clock was set) no stamp is given until the ring has been emptied.
    #[inline(always)]
    pub(crate) fn sync(&mut self) {
        if load(self.page) != self.now {
            self.moved();
        }
    }

    #[cold]
    fn moved(&mut self) {
        let (now, error) = self.look();
        self.floor = self.floor.max(self.last.saturating_sub(STEP_TOLERANCE));
        let newest = now.saturating_add(error);
        // A clock set back, or on by more than could have passed, proves nothing.
        self.certain &= now >= self.now && newest.saturating_sub(self.floor) <= PERIOD;
        self.now = now;
    }

    /// The full time and how far it may be off.
    fn look(&mut self) -> (u64, u64) {
        match &mut self.source {
            Source::Page(page) => (load(*page), PAGE_ERROR),
            Source::Registers { device, read_at, ticks } => {
                let passed = u128::from(self.hz) * read_at.elapsed().as_nanos() / 1_000_000_000;
                if passed > u128::from(PAGE_ERROR) / 4 {
                    (*read_at, *ticks) = (Instant::now(), device.clock_registers());
                    return (*ticks, PAGE_ERROR / 4);
                }
                (ticks.saturating_add(passed as u64).min(u64::MAX - 1), PAGE_ERROR / 4)
            }
        }
    }

    /// A stamp as ns since the epoch, or `None` when it cannot be told which of several times it
    /// means. [`sync`](Self::sync) first.
    #[inline(always)]
    pub(crate) fn expand(&mut self, stamp: u32) -> Option<u64> {
        if !self.certain {
            return None;
        }
        let since = stamp.wrapping_sub(self.floor as u32);
        let ticks = self.floor + u64::from(since);
        self.last = ticks;
        let within = ticks.wrapping_sub(self.second_ticks);
        if within < self.hz {
            return Some(self.second_ns + self.ns_within_second(within));
        }
        self.new_second(ticks)
    }

    /// ticks * 10^9 / hz, rounded down, for less than a second: exact.
    ///
    /// The factor is rounded up by less than 2^-64, so the product is too large by less than
    /// ticks / 2^64 < 2^-32. The true quotient is a multiple of 1/hz > 2^-32, so its fraction is
    /// at least that far from the next integer.
    #[inline]
    fn ns_within_second(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * self.ns_per_tick) >> 64) as u64
    }

    #[cold]
    fn new_second(&mut self, ticks: u64) -> Option<u64> {
        let second = ticks / self.hz;
        let start = without_lead(second.checked_mul(1_000_000_000)?, self.lead_ns)?;
        let ns = start.checked_add(self.ns_within_second(ticks % self.hz))?;
        self.second_ticks = second * self.hz;
        self.second_ns = start;
        Some(ns)
    }
}

#[inline]
fn load(page: NonNull<AtomicU64>) -> u64 {
    // SAFETY: `TickClock`'s queue keeps the page mapped; the driver writes it at any time.
    unsafe { page.as_ref() }.load(Ordering::Relaxed)
}

/// A stamp taken within the last half period before `now` (ticks), as ns: for transmit times
/// that are read right after sending.
pub(crate) fn expand_recent(stamp: u32, now: u64, hz: u64, lead_ns: i64) -> Option<u64> {
    let newest = now.checked_add(PAGE_ERROR)?;
    let ticks = newest.checked_sub(u64::from((newest as u32).wrapping_sub(stamp)))?;
    without_lead(ticks_to_ns(ticks, hz)?, lead_ns)
}

fn without_lead(ns: u64, lead_ns: i64) -> Option<u64> {
    let lead = lead_ns.unsigned_abs();
    if lead_ns < 0 { ns.checked_add(lead) } else { ns.checked_sub(lead) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;

    /// A clock over a page that the test moves as the driver does.
    struct Bench {
        /// Not a `Box`, which must not move while it is pointed into.
        page: Arc<AtomicU64>,
        clock: TickClock,
    }

    fn page_at(ticks: u64) -> u64 {
        (ticks >> 31 << 31) + (1 << 30)
    }

    fn bench(hz: u64, start: u64) -> Bench {
        let page = Arc::new(AtomicU64::new(page_at(start)));
        let mut clock = TickClock {
            source: Source::Page(NonNull::from(&*page)),
            page: NonNull::from(&*page),
            hz,
            ns_per_tick: (1_000_000_000_u128 << 64).div_ceil(u128::from(hz)),
            lead_ns: 0,
            now: 0,
            emptied: 0,
            floor: 0,
            certain: false,
            last: 0,
            second_ticks: 0,
            second_ns: 0,
        };
        clock.caught_up();
        Bench { page, clock }
    }

    impl Bench {
        fn set(&self, ticks: u64) {
            self.page.store(page_at(ticks), Ordering::Relaxed);
        }
    }

    const START: u64 = 1_790_000_000 * 161_132_800;

    proptest! {
        #[test]
        fn conversion_is_exact_at_any_rate(
            hz in 1_000_000_u64..4_294_967_296,
            seconds in 1_700_000_000_u64..4_000_000_000,
            within in any::<u32>(),
            step in 0_u64..2_000_000_000,
        ) {
            let start = seconds * hz + u64::from(within) % hz;
            let mut bench = bench(hz, start);
            for ticks in [start, start + step % PAGE_ERROR] {
                bench.clock.sync();
                let exact = u128::from(ticks) * 1_000_000_000 / u128::from(hz);
                prop_assert_eq!(bench.clock.expand(ticks as u32).map(u128::from), Some(exact));
            }
        }

        /// A reader that sees the ring empty now and then, and frames of any age it allows.
        #[test]
        fn a_stamp_is_right_or_refused(
            steps in prop::collection::vec((0_u64..3 * PERIOD, 0_u64..PERIOD, any::<bool>()), 1..40)
        ) {
            let hz = 161_132_800;
            let mut bench = bench(hz, START);
            let (mut now, mut oldest, mut refusing) = (START, START, false);
            for (pass, age, empty) in steps {
                now += pass;
                bench.set(now);
                if empty {
                    bench.clock.caught_up();
                    oldest = now;
                    refusing = false;
                } else {
                    // A frame that came after the ring was last empty and after the last frame.
                    let (before, came) = (oldest, now.saturating_sub(age).max(oldest));
                    oldest = came;
                    bench.clock.sync();
                    if let Some(ns) = bench.clock.expand(came as u32) {
                        prop_assert_eq!(Some(ns), ticks_to_ns(came, hz));
                    } else if !refusing {
                        // Never without need.
                        prop_assert!(now - before > 2 * PAGE_ERROR - STEP_TOLERANCE);
                        refusing = true;
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_frame_after_the_page_moved_gets_its_stamp() {
        let window_end = (START >> 31 << 31) + (1 << 31);
        let mut bench = bench(161_132_800, window_end - 1);
        for came in [window_end, window_end - 1] {
            bench.set(window_end);
            bench.clock.sync();
            assert_eq!(bench.clock.expand(came as u32), ticks_to_ns(came, 161_132_800));
        }
    }

    #[test]
    fn a_busy_reader_always_gets_stamps() {
        // Never empty for ten periods, frames half a second old.
        let hz = 161_132_800;
        let mut bench = bench(hz, START);
        let mut now = START;
        for _ in 0..if cfg!(miri) { 50 } else { 1000 } {
            now += hz / 4;
            bench.set(now);
            bench.clock.sync();
            let came = now - hz / 2;
            let came = came.max(START);
            assert_eq!(bench.clock.expand(came as u32), ticks_to_ns(came, hz));
        }
    }

    #[test]
    fn a_stamp_that_waited_too_long_is_refused_until_the_ring_is_empty() {
        let hz = 161_132_800;
        let mut bench = bench(hz, START);
        bench.set(START + 2 * PERIOD);
        bench.clock.sync();
        assert_eq!(bench.clock.expand((START + 5) as u32), None);
        bench.clock.caught_up();
        let fresh = START + 2 * PERIOD + 7;
        assert_eq!(bench.clock.expand(fresh as u32), ticks_to_ns(fresh, hz));
    }

    #[test]
    fn a_clock_that_is_set_back_is_forgotten_once_the_ring_was_empty() {
        let hz = 161_132_800;
        let mut bench = bench(hz, START);
        bench.clock.sync();
        assert!(bench.clock.expand(START as u32).is_some());
        // An hour back; the page moves again before a frame comes that waited for nothing.
        let mut now = START - 3600 * hz;
        bench.set(now);
        bench.clock.caught_up();
        for _ in 0..3 {
            now += 1 << 31;
            bench.set(now);
            bench.clock.sync();
            assert_eq!(bench.clock.expand(now as u32), ticks_to_ns(now, hz));
        }
    }

    #[test]
    fn the_lead_on_utc_is_taken_off() {
        let mut bench = bench(1_000_000_000, 1_790_000_000_000_000_000);
        bench.clock.lead_ns = 37_000_000_000;
        bench.clock.sync();
        let ns = bench.clock.expand(1_790_000_000_000_000_000_u64 as u32);
        assert_eq!(ns, Some(1_789_999_963_000_000_000));
        assert_eq!(expand_recent(5, 5, 0, 0), None);
    }
}
