//! Which of a datagram's timestamps to believe.

use linerate_common::clock::now_ns;
use linerate_common::{ClockDomain, ClockInfo, NO_TS, RxFlags};

use crate::port::Stamps;

/// Two clocks that are this close, in ns, are the same time scale: far less than the 37 s between
/// TAI and UTC, far more than a datagram takes from the card to the kernel's own stamp.
const SAME_NS: u64 = 1_000_000_000;

/// Turns the kernel's stamps into ns since the UNIX epoch in UTC, and remembers what it learned
/// about the card's clock.
///
/// `SO_TIMESTAMPING` gives the card's clock as it is: on UTC, on TAI (where ptp4l puts it), or
/// counting from the boot of the card. It is compared with the software stamp that comes along.
#[derive(Debug)]
pub(crate) struct Clocks {
    off: bool,
    tai_offset_ns: u64,
    ptp: Option<u32>,
    seen: ClockInfo,
}

impl Clocks {
    /// `tai_offset_s` is the kernel's TAI-UTC offset, 0 when it has not been told.
    pub(crate) fn new(wanted: Stamps, tai_offset_s: i32, ptp: Option<u32>) -> Self {
        // Between 1972 and today the offset grew from 10 s to 37 s.
        let known = u64::try_from(tai_offset_s).ok().filter(|s| *s > 0).unwrap_or(37);
        let off = wanted == Stamps::Off;
        let seen = if off { ClockInfo::NONE } else { ClockInfo::KERNEL };
        Self { off, tai_offset_ns: known * 1_000_000_000, ptp, seen }
    }

    /// The stamp to show. A card's clock that is neither on UTC nor on TAI says nothing about
    /// when the frame came; the kernel's stamp is better.
    #[inline]
    pub(crate) fn choose(
        &mut self,
        hardware: Option<u64>,
        software: Option<u64>,
    ) -> (u64, RxFlags) {
        if self.off {
            return (NO_TS, RxFlags::NONE);
        }
        // The first datagrams may come before the kernel has switched its stamping on.
        let software = software.unwrap_or_else(now_ns);
        match hardware {
            Some(hw) if hw.abs_diff(software) < SAME_NS => {
                self.note(false);
                (hw, RxFlags::TS_HW)
            }
            Some(hw) if hw.abs_diff(software.saturating_add(self.tai_offset_ns)) < SAME_NS => {
                self.note(true);
                (hw - self.tai_offset_ns, RxFlags::TS_HW)
            }
            _ => (software, RxFlags::TS_SW),
        }
    }

    /// What is known about the clock of the stamps shown so far.
    pub(crate) fn clock(&self) -> ClockInfo {
        self.seen
    }

    fn note(&mut self, tai: bool) {
        let domain = match (self.ptp, tai) {
            (Some(n), false) => ClockDomain::Phc(n),
            (Some(n), true) => ClockDomain::PhcTai(n),
            (None, _) => ClockDomain::Card,
        };
        self.seen = ClockInfo { domain, synced: None, resolution_ns: 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000_000_000;
    const S: u64 = 1_000_000_000;

    #[test]
    fn a_card_on_utc_is_believed() {
        let mut stamps = Clocks::new(Stamps::Best, 37, Some(2));
        assert_eq!(stamps.clock(), ClockInfo::KERNEL);
        assert_eq!(stamps.choose(Some(NOW - 900), Some(NOW)), (NOW - 900, RxFlags::TS_HW));
        assert_eq!(stamps.clock().domain, ClockDomain::Phc(2));
    }

    #[test]
    fn a_card_on_tai_is_brought_to_utc_told_or_not() {
        for told in [37, 0] {
            let mut stamps = Clocks::new(Stamps::Best, told, Some(0));
            let stamp = stamps.choose(Some(NOW + 37 * S - 900), Some(NOW));
            assert_eq!(stamp, (NOW - 900, RxFlags::TS_HW));
            assert_eq!(stamps.clock().domain, ClockDomain::PhcTai(0));
        }
    }

    #[test]
    fn a_card_that_counts_from_its_boot_is_not_shown() {
        let mut stamps = Clocks::new(Stamps::Best, 37, Some(0));
        assert_eq!(stamps.choose(Some(77 * S), Some(NOW)), (NOW, RxFlags::TS_SW));
        assert_eq!(stamps.choose(Some(NOW - 5 * S), Some(NOW)), (NOW, RxFlags::TS_SW));
        assert_eq!(stamps.clock(), ClockInfo::KERNEL);
    }

    #[test]
    fn without_stamps_no_time_is_made_up() {
        let mut off = Clocks::new(Stamps::Off, 37, None);
        assert_eq!(off.choose(None, None), (NO_TS, RxFlags::NONE));
        assert_eq!(off.clock(), ClockInfo::NONE);
    }

    #[test]
    fn without_a_card_the_kernels_stamp_is_shown() {
        assert_eq!(
            Clocks::new(Stamps::Best, 37, None).choose(None, Some(NOW)),
            (NOW, RxFlags::TS_SW)
        );
    }
}
