//! From the card's clock to UTC.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use linerate_common::clock::timespec_to_ns;
use linerate_common::{ClockDomain, ClockInfo, RxFlags};

const SECOND_NS: i128 = 1_000_000_000;
/// A clock this near to UTC or TAI is taken to run on it. The two are 37 s apart.
const NEAR_NS: i128 = 5 * SECOND_NS;
/// What the kernel says is the distance of TAI to UTC when nobody told it; it is this since 2017.
const USUAL_TAI_NS: i128 = 37 * SECOND_NS;

/// A clock whose readings can be turned into ns since the UNIX epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HwClock {
    pub(crate) info: ClockInfo,
    /// Source and quality of its stamps.
    pub(crate) flags: RxFlags,
    ahead_ns: i64,
}

impl HwClock {
    /// The card's PTP clock, compared with the kernel's as of now.
    pub(crate) fn of_phc(phc: u32) -> Self {
        let now = read_phc(phc).zip(read(libc::CLOCK_REALTIME)).zip(read(libc::CLOCK_TAI));
        Self::judge(phc, now.map(|((phc, utc), tai)| (phc, utc, tai)))
    }

    /// `now`: PTP clock, UTC and the kernel's TAI in ns.
    fn judge(phc: u32, now: Option<(i128, i128, i128)>) -> Self {
        let info = |domain, synced| ClockInfo { domain, synced, resolution_ns: 1 };
        let unsynced = RxFlags::TS_HW | RxFlags::TS_UNSYNCED;
        let Some((card, utc, tai)) = now else {
            // No access to /dev/ptpN: the stamps are the card's, and that is all we know.
            return Self { info: info(ClockDomain::Phc(phc), None), flags: unsynced, ahead_ns: 0 };
        };
        // The kernel's TAI equals its UTC until somebody (ptp4l, chrony) sets the offset.
        let offset = if tai - utc > SECOND_NS { round_to_second(tai - utc) } else { USUAL_TAI_NS };
        let flags = RxFlags::TS_HW;
        if (card - utc).abs() < NEAR_NS {
            Self { info: info(ClockDomain::Phc(phc), None), flags, ahead_ns: 0 }
        } else if (card - utc - offset).abs() < NEAR_NS {
            let ahead_ns = i64::try_from(offset).unwrap_or(0);
            Self { info: info(ClockDomain::PhcTai(phc), None), flags, ahead_ns }
        } else {
            let info = info(ClockDomain::Phc(phc), Some(false));
            Self { info, flags: unsynced, ahead_ns: 0 }
        }
    }

    /// The stamps that the kernel takes in software by `CLOCK_TAI`.
    pub(crate) fn kernel_tai() -> Self {
        let offset =
            read(libc::CLOCK_TAI).zip(read(libc::CLOCK_REALTIME)).map_or(0, |(t, u)| t - u);
        let ahead_ns = i64::try_from(round_to_second(offset)).unwrap_or(0);
        Self { info: ClockInfo::KERNEL, flags: RxFlags::TS_SW, ahead_ns }
    }

    /// A reading of the clock as UTC; `None` for one that is none.
    #[inline]
    pub(crate) fn to_utc(self, reading: u64) -> Option<u64> {
        if reading == 0 {
            return None;
        }
        reading.checked_add_signed(-self.ahead_ns)
    }
}

fn round_to_second(ns: i128) -> i128 {
    (ns + SECOND_NS / 2).div_euclid(SECOND_NS) * SECOND_NS
}

fn read_phc(phc: u32) -> Option<i128> {
    let file = File::open(format!("/dev/ptp{phc}")).ok()?;
    // FD_TO_CLOCKID of linux/posix-timers.h.
    read(!file.as_raw_fd() << 3 | 3)
}

fn read(clock: libc::clockid_t) -> Option<i128> {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: writes one timespec.
    if unsafe { libc::clock_gettime(clock, now.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: just written.
    let now = unsafe { now.assume_init() };
    timespec_to_ns(now.tv_sec, now.tv_nsec).map(i128::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i128 = 1_795_000_000 * SECOND_NS;

    #[test]
    fn a_card_on_tai_is_brought_to_utc_with_or_without_the_kernels_offset() {
        for kernel_tai in [NOW, NOW + 37 * SECOND_NS] {
            let clock = HwClock::judge(3, Some((NOW + 37 * SECOND_NS + 900, NOW, kernel_tai)));
            assert_eq!(clock.info.domain, ClockDomain::PhcTai(3));
            assert_eq!(clock.to_utc(137_000_000_005), Some(100_000_000_005));
            assert!(!clock.flags.contains(RxFlags::TS_UNSYNCED));
        }
    }

    #[test]
    fn a_card_on_utc_is_left_alone() {
        let clock = HwClock::judge(0, Some((NOW - 1000, NOW, NOW)));
        assert_eq!(clock.info.domain, ClockDomain::Phc(0));
        assert_eq!(clock.to_utc(42), Some(42));
        assert_eq!(clock.to_utc(0), None);
    }

    #[test]
    fn a_card_that_counts_from_boot_is_called_unsynced() {
        let clock = HwClock::judge(0, Some((5 * SECOND_NS, NOW, NOW)));
        assert_eq!(clock.info.synced, Some(false));
        assert!(clock.flags.contains(RxFlags::TS_HW | RxFlags::TS_UNSYNCED));
        assert!(HwClock::judge(0, None).flags.contains(RxFlags::TS_UNSYNCED));
    }
}
