//! Which time a card's PTP clock tells, and noticing when that changes.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::{ClockDomain, ClockInfo, kernel_clock, timespec_to_ns};
use crate::frame::RxFlags;

/// A clock within half a second of UTC runs on UTC, within half a second of TAI on TAI.
const NEAR_NS: i64 = 500_000_000;
/// TAI has been ahead by this since 2017: taken where nobody told the kernel.
const USUAL_TAI_S: i32 = 37;
const SECOND_NS: i64 = 1_000_000_000;
/// How often a PTP clock is looked at: a read goes over the bus.
const PAUSE: Duration = Duration::from_secs(1);

/// Which time a PTP clock tells, as far as one can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhcScale {
    /// For [`Clocked::clock`](super::Clocked::clock).
    pub info: ClockInfo,
    /// What to take off a reading to have UTC, in ns.
    pub ahead_ns: u64,
    /// The flags of its stamps: [`RxFlags::TS_HW`], and [`RxFlags::TS_UNSYNCED`] where it tells
    /// neither UTC nor TAI, or has just changed.
    pub flags: RxFlags,
}

impl PhcScale {
    fn new(domain: ClockDomain, synced: Option<bool>, ahead_ns: u64) -> Self {
        let flags = match synced {
            Some(false) => RxFlags::TS_HW | RxFlags::TS_UNSYNCED,
            _ => RxFlags::TS_HW,
        };
        Self { info: ClockInfo { domain, synced, resolution_ns: 1 }, ahead_ns, flags }
    }

    /// Stamps of clock `index`, of which nothing is known: passed on as they are.
    #[must_use]
    pub fn unknown(index: u32) -> Self {
        let scale = Self::new(ClockDomain::Phc(index), None, 0);
        Self { flags: RxFlags::TS_HW | RxFlags::TS_UNSYNCED, ..scale }
    }

    fn unsynced(self) -> Self {
        Self::new(self.info.domain, Some(false), self.ahead_ns)
    }

    /// The scale that a reading shows, if it shows one.
    fn of(index: u32, PhcReading { ahead_ns, tai_s }: PhcReading) -> Option<Self> {
        let tai_s = if tai_s == 0 { USUAL_TAI_S } else { tai_s };
        let tai_ns = i64::from(tai_s) * SECOND_NS;
        let is_near = |ns: i64| ahead_ns.saturating_sub(ns).unsigned_abs() < NEAR_NS.unsigned_abs();
        if is_near(0) {
            Some(Self::new(ClockDomain::Phc(index), None, 0))
        } else if is_near(tai_ns) {
            Some(Self::new(ClockDomain::PhcTai(index), None, tai_ns.unsigned_abs()))
        } else {
            None
        }
    }
}

/// A PTP clock and the kernel's, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct PhcReading {
    /// By how much the PTP clock is ahead of `CLOCK_REALTIME`, in ns.
    pub ahead_ns: i64,
    /// TAI minus UTC in seconds as the kernel was told; 0 when nobody told it.
    pub tai_s: i32,
}

/// Watches the scale of one PTP clock: a daemon may start, or be told another, while a port is
/// open, and stamps would be wrong by 37 s.
///
/// For backend authors: make one per queue when the port is opened, ask it
/// [`look`](Self::look) where the queue makes system calls anyway (`stats`, `arm`), and take over
/// what it says. It keeps `/dev/ptpN` open, so that it works when rights have been given up.
pub struct PhcWatch {
    index: u32,
    read: Box<dyn FnMut() -> Option<PhcReading> + Send>,
    scale: PhcScale,
    looked: Instant,
}

impl PhcWatch {
    /// Opens `/dev/ptp<index>` and judges what it tells. Up to ten system calls.
    ///
    /// # Errors
    ///
    /// There is no such clock, or no right to read it.
    pub fn open(index: u32) -> io::Result<Self> {
        let file = File::open(format!("/dev/ptp{index}"))?;
        Ok(Self::with(index, move || read(&file)))
    }

    /// The same with another source of readings; `None` is "could not be read".
    pub fn with(index: u32, mut read: impl FnMut() -> Option<PhcReading> + Send + 'static) -> Self {
        let scale = match read() {
            None => PhcScale::unknown(index),
            Some(now) => PhcScale::of(index, now)
                .unwrap_or_else(|| PhcScale::new(ClockDomain::Phc(index), Some(false), 0)),
        };
        Self { index, read: Box::new(read), scale, looked: Instant::now() }
    }

    /// As of the last look.
    #[must_use]
    pub fn scale(&self) -> PhcScale {
        self.scale
    }

    /// Looks again, if the last look was a second ago; otherwise it reads the time and no more.
    pub fn look(&mut self) -> PhcScale {
        if self.looked.elapsed() >= PAUSE {
            self.look_now();
        }
        self.scale
    }

    /// Looks again at once.
    ///
    /// * Another scale than before is taken over. Its stamps are flagged
    ///   [`TS_UNSYNCED`](RxFlags::TS_UNSYNCED) until the next look finds the same: frames from
    ///   before the change may still wait in a ring.
    /// * A clock that is off both, or cannot be read any more, keeps what was taken off its stamps,
    ///   and they are flagged. It may be the system's clock that was set.
    pub fn look_now(&mut self) -> PhcScale {
        let found = (self.read)().and_then(|now| PhcScale::of(self.index, now));
        self.looked = Instant::now();
        self.scale = match found {
            None => self.scale.unsynced(),
            Some(new) => {
                let old = self.scale;
                let is_same = (new.info.domain, new.ahead_ns) == (old.info.domain, old.ahead_ns);
                if is_same { new } else { new.unsynced() }
            }
        };
        self.scale
    }
}

impl fmt::Debug for PhcWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhcWatch").field("scale", &self.scale).finish_non_exhaustive()
    }
}

/// The narrowest of three readings: a thread may lose its CPU between two clocks.
fn read(file: &File) -> Option<PhcReading> {
    // A clock of a descriptor, as in clock_getres(2).
    let id = (!file.as_raw_fd() << 3) | 3;
    let once = || {
        let (begun, before) = (Instant::now(), now(libc::CLOCK_REALTIME)?);
        let card = now(id)?;
        let after = now(libc::CLOCK_REALTIME)?;
        Some((begun.elapsed(), card - (before + (after - before) / 2)))
    };
    let readings = [once(), once(), once()].into_iter().flatten();
    let (_, ahead_ns) = readings.min_by_key(|(width, _)| *width)?;
    Some(PhcReading { ahead_ns, tai_s: kernel_clock()?.tai_offset_s })
}

fn now(id: libc::clockid_t) -> Option<i64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec, which outlives the call.
    let done = unsafe { libc::clock_gettime(id, &mut now) } == 0;
    done.then(|| timespec_to_ns(now.tv_sec, now.tv_nsec).and_then(|ns| i64::try_from(ns).ok()))?
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const UNSYNCED: RxFlags = RxFlags::TS_HW.with(RxFlags::TS_UNSYNCED);

    fn at(ahead_ns: i64, tai_s: i32) -> Option<PhcReading> {
        Some(PhcReading { ahead_ns, tai_s })
    }

    #[test]
    fn a_card_on_tai_is_told_from_one_on_utc_and_from_one_that_is_off() {
        let on = |ahead_ns, tai_s| {
            let scale = PhcWatch::with(3, move || at(ahead_ns, tai_s)).scale();
            assert_eq!(scale.info.synced == Some(false), scale.flags == UNSYNCED);
            (scale.info.domain, scale.info.synced, scale.ahead_ns)
        };
        let tai = (ClockDomain::PhcTai(3), None, 37_000_000_000);
        assert_eq!(on(1_200, 37), (ClockDomain::Phc(3), None, 0));
        assert_eq!(on(-400_000_000, 37), (ClockDomain::Phc(3), None, 0));
        assert_eq!(on(37_000_000_900, 37), tai);
        assert_eq!(on(36_999_999_100, 0), tai, "a kernel that was not told the offset");
        assert_eq!(on(38_000_000_000, 38), (ClockDomain::PhcTai(3), None, 38_000_000_000));
        assert_eq!(on(-1_700_000_000_000_000_000, 37), (ClockDomain::Phc(3), Some(false), 0));
        assert_eq!(on(i64::MIN, 37), (ClockDomain::Phc(3), Some(false), 0));
        let unknown = PhcWatch::with(3, || None).scale();
        assert_eq!((unknown.info.synced, unknown.flags), (None, UNSYNCED));
    }

    #[test]
    fn a_scale_that_changes_is_taken_over_and_flagged_until_it_is_found_again() {
        let reading = Arc::new(Mutex::new(at(0, 0)));
        let shown = Arc::clone(&reading);
        let mut watch = PhcWatch::with(1, move || *shown.lock().unwrap());
        let mut look = |now| {
            *reading.lock().unwrap() = now;
            let scale = watch.look_now();
            (scale.info.domain, scale.ahead_ns, scale.flags)
        };
        let (utc, tai) = (ClockDomain::Phc(1), ClockDomain::PhcTai(1));
        assert_eq!(look(at(500, 37)), (utc, 0, RxFlags::TS_HW));
        // A daemon moves the card to TAI.
        assert_eq!(look(at(37_000_000_100, 37)), (tai, 37_000_000_000, UNSYNCED));
        assert_eq!(look(at(37_000_000_100, 37)), (tai, 37_000_000_000, RxFlags::TS_HW));
        // The system's clock is set by an hour: the card's stamps stay what they were.
        assert_eq!(look(at(-3_563_000_000_000, 37)), (tai, 37_000_000_000, UNSYNCED));
        assert_eq!(look(None), (tai, 37_000_000_000, UNSYNCED));
        assert_eq!(look(at(37_000_000_000, 37)), (tai, 37_000_000_000, RxFlags::TS_HW));
        // A leap second, and the card's daemon ends.
        assert_eq!(look(at(38_000_000_000, 38)), (tai, 38_000_000_000, UNSYNCED));
        assert_eq!(look(at(38_000_000_000, 38)), (tai, 38_000_000_000, RxFlags::TS_HW));
        assert_eq!(look(at(-5, 38)), (utc, 0, UNSYNCED));
        assert_eq!(look(at(-5, 38)), (utc, 0, RxFlags::TS_HW));
    }

    #[test]
    fn a_clock_is_read_once_a_second() {
        let readings = Arc::new(Mutex::new(0));
        let count = Arc::clone(&readings);
        let mut watch = PhcWatch::with(1, move || {
            *count.lock().unwrap() += 1;
            at(0, 37)
        });
        watch.looked += Duration::from_secs(3600);
        watch.look();
        assert_eq!(*readings.lock().unwrap(), 1);
        watch.looked = Instant::now() - PAUSE;
        watch.look();
        assert_eq!(*readings.lock().unwrap(), 2);
    }

    #[test]
    fn a_clock_that_is_not_there_is_an_error() {
        assert_eq!(PhcWatch::open(123_456).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
