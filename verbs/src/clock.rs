//! The three encodings of a completion's timestamp, as ns UTC.
//!
//! * Wall clock: the card converts; we take the ns as they are.
//! * Real time: firmware with a real-time clock packs seconds and ns into the raw stamp,
//!   `seconds << 32 | ns`.
//! * Ticks: a free-running counter. Two readings of counter and system clock give its rate; each
//!   later reading keeps the rate honest.
//!
//! The card does not say which of the last two a raw stamp is, but the value does: a packed stamp
//! has today's seconds in its upper half and less than 10⁹ in its lower. A counter at 1 GHz would
//! have to run for 240 years to look like that.

use linerate_common::{ClockDomain, ClockInfo, NO_TS, RxFlags};

use crate::cq::Stamp;

const SECOND: u64 = 1_000_000_000;

/// Turns raw stamps into UTC.
#[derive(Debug)]
pub(crate) struct StampClock {
    kind: Stamp,
    mask: u64,
    /// The counter's rate as the device states it; 0 when it does not.
    hz: u64,
    /// A counter reading and the UTC at that moment.
    anchor: Option<(u64, u64)>,
}

impl StampClock {
    pub(crate) fn new(kind: Stamp, mask: u64, hz: u64) -> Self {
        Self { kind, mask: if mask == 0 { u64::MAX } else { mask }, hz, anchor: None }
    }

    /// Does this kind of stamp need [`anchor`](Self::anchor) to be called now and then?
    pub(crate) fn wants_anchor(&self) -> bool {
        self.kind == Stamp::Raw && self.hz != 0
    }

    /// Does [`utc`](Self::utc) look at the time of day?
    #[inline]
    pub(crate) fn wants_now(&self) -> bool {
        self.kind == Stamp::Raw
    }

    /// Notes that the counter stood at `ticks` when it was `utc_ns`. To be called at least once
    /// in half the counter's period, and as often as the system clock is adjusted: each second.
    pub(crate) fn anchor(&mut self, ticks: u64, utc_ns: u64) {
        self.anchor = Some((ticks & self.mask, utc_ns));
    }

    /// The stamp as ns UTC with its flags; [`NO_TS`] without flags when it cannot be told.
    #[inline]
    pub(crate) fn utc(&self, raw: u64, now_ns: u64) -> (u64, RxFlags) {
        match self.kind {
            Stamp::None => (NO_TS, RxFlags::NONE),
            Stamp::Wallclock => (raw, RxFlags::TS_HW),
            Stamp::Raw => match unpack(raw, now_ns).or_else(|| self.ticks_to_utc(raw)) {
                Some(ns) => (ns, RxFlags::TS_HW),
                None => (NO_TS, RxFlags::NONE),
            },
        }
    }

    /// Counters wrap: the distance to the anchor is taken the short way round, so a stamp from
    /// before the anchor comes out before it.
    fn ticks_to_utc(&self, raw: u64) -> Option<u64> {
        let (ticks, utc_ns) = self.anchor?;
        if self.hz == 0 {
            return None;
        }
        let ahead = raw.wrapping_sub(ticks) & self.mask;
        let behind = ticks.wrapping_sub(raw) & self.mask;
        let ns = |t: u64| u64::try_from(u128::from(t) * u128::from(SECOND) / u128::from(self.hz));
        if ahead <= behind {
            utc_ns.checked_add(ns(ahead).ok()?)
        } else {
            utc_ns.checked_sub(ns(behind).ok()?)
        }
    }

    pub(crate) fn info(&self) -> ClockInfo {
        match self.kind {
            Stamp::None => ClockInfo::NONE,
            // The card knows whether phc2sys steers it; libibverbs does not pass that on.
            Stamp::Wallclock => {
                ClockInfo { domain: ClockDomain::Card, synced: None, resolution_ns: 1 }
            }
            Stamp::Raw => {
                let step = SECOND.div_ceil(self.hz.max(1)).min(u64::from(u32::MAX));
                let resolution_ns = u32::try_from(step).unwrap_or(1).max(1);
                ClockInfo { domain: ClockDomain::Card, synced: None, resolution_ns }
            }
        }
    }
}

/// A packed stamp as ns, if the value is one.
fn unpack(raw: u64, now_ns: u64) -> Option<u64> {
    const DAY: u64 = 86_400;
    let (seconds, nanos) = (raw >> 32, raw & u64::from(u32::MAX));
    let today = seconds.abs_diff(now_ns / SECOND) <= DAY;
    (today && nanos < SECOND).then(|| seconds * SECOND + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_123_456_789;

    #[test]
    fn packed_stamps_are_recognised() {
        let clock = StampClock::new(Stamp::Raw, u64::MAX, SECOND);
        let packed = (NOW / SECOND) << 32 | 123_000_000;
        assert_eq!(clock.utc(packed, NOW), (NOW / SECOND * SECOND + 123_000_000, RxFlags::TS_HW));
    }

    #[test]
    fn ticks_need_an_anchor_and_wrap_by_the_mask() {
        let mut clock = StampClock::new(Stamp::Raw, (1 << 48) - 1, 156_250_000);
        assert_eq!(clock.utc(5, NOW), (NO_TS, RxFlags::NONE), "no anchor yet");
        clock.anchor((1 << 48) - 100, NOW);
        // 256 ticks later, past the wrap: 256 * 6.4 ns.
        assert_eq!(clock.utc(156, NOW).0, NOW + 1638);
        // A stamp taken before the anchor.
        assert_eq!(clock.utc((1 << 48) - 260, NOW).0, NOW - 1024);
    }

    #[test]
    fn a_device_without_a_rate_gives_no_stamp() {
        let mut clock = StampClock::new(Stamp::Raw, 0, 0);
        clock.anchor(7, NOW);
        assert_eq!(clock.utc(7, NOW), (NO_TS, RxFlags::NONE));
    }
}
