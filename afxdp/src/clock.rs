//! From the card's clock, and the kernel's, to UTC.

use std::mem::MaybeUninit;

use linerate_common::clock::{PhcScale, PhcWatch, timespec_to_ns};
use linerate_common::{ClockInfo, RxFlags};

const SECOND_NS: u64 = 1_000_000_000;

/// Watches the card's PTP clock, where it can be read.
pub(crate) fn watch(phc: u32) -> (PhcScale, Option<PhcWatch>) {
    match PhcWatch::open(phc) {
        Ok(watch) => (watch.scale(), Some(watch)),
        // No access to /dev/ptpN: the stamps are the card's, and that is all we know.
        Err(_) => (PhcScale::unknown(phc), None),
    }
}

/// A reading of the card's clock as UTC; `None` for one that is none.
#[inline]
pub(crate) fn to_utc(scale: PhcScale, reading: u64) -> Option<u64> {
    if reading == 0 { None } else { reading.checked_sub(scale.ahead_ns) }
}

/// The clock behind transmit stamps.
#[derive(Debug)]
pub(crate) enum TxClock {
    /// The card's.
    Card(PhcScale, Option<PhcWatch>),
    /// The kernel's, which stamps by `CLOCK_TAI`.
    Kernel(KernelTai),
}

impl TxClock {
    pub(crate) fn of_phc(phc: u32) -> Self {
        let (scale, watch) = watch(phc);
        Self::Card(scale, watch)
    }

    pub(crate) fn of_kernel() -> Self {
        Self::Kernel(KernelTai::new(read_tai_and_utc))
    }

    pub(crate) fn info(&self) -> ClockInfo {
        match self {
            Self::Card(scale, _) => scale.info,
            Self::Kernel(_) => ClockInfo::KERNEL,
        }
    }

    /// Looks whether a card's clock tells what it told, at most once a second. The kernel's shows
    /// it by its stamps.
    pub(crate) fn look(&mut self) {
        if let Self::Card(scale, Some(watch)) = self {
            *scale = watch.look();
        }
    }

    /// A stamp as UTC, and its flags; `None` where there is none.
    pub(crate) fn utc_of(&mut self, reading: u64) -> Option<(u64, RxFlags)> {
        match self {
            Self::Card(scale, _) => Some((to_utc(*scale, reading)?, scale.flags)),
            Self::Kernel(tai) => Some((tai.utc_of(reading)?, RxFlags::TS_SW)),
        }
    }
}

/// `CLOCK_TAI` and `CLOCK_REALTIME`, in ns.
type ReadBoth = fn() -> Option<(u64, u64)>;

/// How far the kernel's TAI is ahead of its UTC: nothing until somebody (ptp4l, chrony) tells it,
/// which moves its stamps by whole seconds.
///
/// The stamps themselves show that: one that is no more than a second after the last reading of
/// the clocks is as it was then, and any other has them read again. So a change is found with the
/// first stamp behind it, forward by a second or more, or back behind the last reading; and later
/// by a second at most where it is neither. The clocks are read without a system call.
#[derive(Debug)]
pub(crate) struct KernelTai {
    read: ReadBoth,
    ahead_ns: u64,
    /// Stamps in this range need no look.
    from: u64,
    until: u64,
}

impl KernelTai {
    fn new(read: ReadBoth) -> Self {
        let mut clock = Self { read, ahead_ns: 0, from: 0, until: 0 };
        if let Some((tai, utc)) = read() {
            clock.ahead_ns = distance(tai, utc);
            (clock.from, clock.until) = (tai, tai + SECOND_NS);
        }
        clock
    }

    #[inline]
    fn utc_of(&mut self, reading: u64) -> Option<u64> {
        if reading == 0 {
            return None;
        }
        if reading < self.from || reading >= self.until {
            return self.look(reading);
        }
        reading.checked_sub(self.ahead_ns)
    }

    #[cold]
    fn look(&mut self, reading: u64) -> Option<u64> {
        let Some((tai, utc)) = (self.read)() else { return reading.checked_sub(self.ahead_ns) };
        let new_ns = distance(tai, utc);
        // A stamp from before a change may be read behind it. What was stamped has been: of the two
        // times that it may mean, those in the future are out, and the later is the right one.
        let by = |ahead_ns| reading.checked_sub(ahead_ns).filter(|ns| *ns <= utc);
        let (old, new) = (by(self.ahead_ns), by(new_ns));
        if new_ns != self.ahead_ns && old > new {
            return old;
        }
        self.ahead_ns = new_ns;
        (self.from, self.until) = (reading.min(tai), tai + SECOND_NS);
        reading.checked_sub(new_ns)
    }
}

/// TAI is ahead of UTC by whole seconds; the two were read a moment apart.
fn distance(tai: u64, utc: u64) -> u64 {
    (tai.saturating_sub(utc) + SECOND_NS / 2) / SECOND_NS * SECOND_NS
}

fn read_tai_and_utc() -> Option<(u64, u64)> {
    let tai = read(libc::CLOCK_TAI)?;
    // The later of the two: no stamp taken before is in its future.
    Some((tai, read(libc::CLOCK_REALTIME)?))
}

fn read(clock: libc::clockid_t) -> Option<u64> {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: writes one timespec.
    if unsafe { libc::clock_gettime(clock, now.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: just written.
    let now = unsafe { now.assume_init() };
    timespec_to_ns(now.tv_sec, now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const NOW: u64 = 1_795_000_000 * SECOND_NS;

    thread_local! {
        static UTC: Cell<u64> = const { Cell::new(NOW) };
        static AHEAD_S: Cell<u64> = const { Cell::new(0) };
        static READINGS: Cell<u32> = const { Cell::new(0) };
    }

    fn played() -> Option<(u64, u64)> {
        READINGS.set(READINGS.get() + 1);
        Some((UTC.get() + AHEAD_S.get() * SECOND_NS, UTC.get()))
    }

    /// Some ms later.
    fn later(ms: u64) {
        UTC.set(UTC.get() + ms * 1_000_000);
    }

    /// A stamp that the kernel takes now.
    fn stamp() -> u64 {
        UTC.get() + AHEAD_S.get() * SECOND_NS
    }

    #[test]
    fn a_card_that_cannot_be_read_is_passed_on_and_flagged() {
        let (scale, watch) = watch(123_456);
        assert!(watch.is_none() && scale.flags.contains(RxFlags::TS_HW | RxFlags::TS_UNSYNCED));
        assert_eq!((to_utc(scale, 42), to_utc(scale, 0)), (Some(42), None));
    }

    #[test]
    fn a_kernel_that_is_told_the_offset_meanwhile_is_believed_with_the_first_stamp() {
        let mut clock = KernelTai::new(played);
        // With the last look a moment ago, and longer than a second.
        for (ahead_s, ms) in [(37, 3), (38, 3), (0, 3), (37, 1500), (38, 1500), (0, 1500)] {
            later(ms);
            let (old, old_utc) = (stamp(), UTC.get());
            later(1);
            AHEAD_S.set(ahead_s);
            let (new, new_utc) = (stamp(), UTC.get());
            // Both are fetched together, in the order of sending.
            later(1);
            assert_eq!(clock.utc_of(old), Some(old_utc), "before {ahead_s}");
            assert_eq!(clock.utc_of(new), Some(new_utc), "{ahead_s}");
        }
    }

    #[test]
    fn a_kernel_whose_offset_shrinks_by_a_second_is_believed_within_one() {
        AHEAD_S.set(37);
        let mut clock = KernelTai::new(played);
        AHEAD_S.set(36);
        // Nothing tells the first from stamps of a second ago.
        later(2000);
        assert_eq!(clock.utc_of(stamp()), Some(UTC.get()));
    }

    #[test]
    fn the_clocks_are_read_about_once_a_second() {
        let mut clock = KernelTai::new(played);
        let before = READINGS.get();
        for _ in 0..10_000 {
            later(1);
            let (taken, utc) = (stamp(), UTC.get());
            later(1);
            assert_eq!(clock.utc_of(taken), Some(utc));
        }
        assert!((15..=25).contains(&(READINGS.get() - before)), "{}", READINGS.get() - before);
        assert_eq!(clock.utc_of(0), None);
    }

    #[test]
    fn the_kernels_own_clocks_can_be_read() {
        let (tai, utc) = read_tai_and_utc().unwrap();
        assert!(tai.abs_diff(utc) < 100 * SECOND_NS, "{tai} {utc}");
    }
}
