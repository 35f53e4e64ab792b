//! The card's timestamps, with what it says about its clock.

use linerate_common::clock::timespec_to_ns;
use linerate_common::{ClockDomain, ClockInfo, NO_TS, RxFlags};
use linerate_efvi_sys::{EF_VI_SYNC_FLAG_CLOCK_IN_SYNC, EF_VI_SYNC_FLAG_CLOCK_SET, ef_precisetime};

/// Why frames carry no timestamp, or how good the last one was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StampState {
    /// Timestamps are off.
    #[default]
    Off,
    /// No frame has been stamped yet.
    Waiting,
    /// The card has not told its time since the queue was opened: wait a quarter second.
    NotYetInSync,
    /// The last frame carried none (it was switched within the card).
    NoneInFrame,
    /// The queue was read too rarely to follow the card's time; it recovers by itself.
    LostSync,
    /// The clock was never set: stamps count from an arbitrary moment.
    ClockNotSet,
    /// The clock was set, but nothing disciplines it.
    ClockNotSynced,
    /// The clock is synchronised.
    Synced,
}

/// Turns the library's answers into stamps in UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamper {
    ahead_s: i64,
    pub(crate) state: StampState,
}

impl Stamper {
    pub(crate) fn new(on: bool, ahead_s: i64) -> Self {
        Self { ahead_s, state: if on { StampState::Waiting } else { StampState::Off } }
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.state != StampState::Off
    }

    /// The answer `rc` of the library and the time it gave.
    #[inline]
    pub(crate) fn stamp(&mut self, rc: i32, ts: &ef_precisetime) -> (u64, RxFlags) {
        match rc {
            0 => self.convert(ts.tv_sec, ts.tv_nsec, ts.tv_flags.into()),
            rc => {
                self.state = match -rc {
                    libc::ENOMSG => StampState::NotYetInSync,
                    libc::EL2NSYNC => StampState::LostSync,
                    _ => StampState::NoneInFrame,
                };
                (NO_TS, RxFlags::NONE)
            }
        }
    }

    /// A time of the card and its sync flags.
    #[inline]
    pub(crate) fn convert(&mut self, sec: i64, nsec: u32, sync: u32) -> (u64, RxFlags) {
        let utc = sec.checked_sub(self.ahead_s).and_then(|s| timespec_to_ns(s, nsec.into()));
        let Some(ns) = utc else {
            self.state = StampState::ClockNotSet;
            return (NO_TS, RxFlags::NONE);
        };
        if sync & EF_VI_SYNC_FLAG_CLOCK_IN_SYNC != 0 {
            self.state = StampState::Synced;
            return (ns, RxFlags::TS_HW);
        }
        self.state = if sync & EF_VI_SYNC_FLAG_CLOCK_SET != 0 {
            StampState::ClockNotSynced
        } else {
            StampState::ClockNotSet
        };
        (ns, RxFlags::TS_HW.with(RxFlags::TS_UNSYNCED))
    }

    pub(crate) fn clock(&self) -> ClockInfo {
        let synced = match self.state {
            StampState::Off => return ClockInfo::NONE,
            StampState::Synced => Some(true),
            StampState::ClockNotSet | StampState::ClockNotSynced => Some(false),
            _ => None,
        };
        ClockInfo { domain: ClockDomain::Card, synced, resolution_ns: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tai_clock_comes_out_as_utc_and_says_how_good_it_is() {
        let mut s = Stamper::new(true, 37);
        let ts = ef_precisetime { tv_sec: 1_790_000_037, tv_nsec: 5, tv_nsec_frac: 0, tv_flags: 3 };
        assert_eq!(s.stamp(0, &ts), (1_790_000_000_000_000_005, RxFlags::TS_HW));
        assert_eq!(s.clock().synced, Some(true));
        let unset = ef_precisetime { tv_flags: 0, ..ts };
        assert!(s.stamp(0, &unset).1.contains(RxFlags::TS_UNSYNCED));
        assert_eq!(s.state, StampState::ClockNotSet);
        assert_eq!(s.clock().synced, Some(false));
    }

    #[test]
    fn answers_without_a_time_are_states() {
        let mut s = Stamper::new(true, 0);
        let ts = ef_precisetime::default();
        for (errno, state) in [
            (libc::ENOMSG, StampState::NotYetInSync),
            (libc::ENODATA, StampState::NoneInFrame),
            (libc::EL2NSYNC, StampState::LostSync),
        ] {
            assert_eq!(s.stamp(-errno, &ts), (NO_TS, RxFlags::NONE));
            assert_eq!(s.state, state);
            assert_eq!(s.clock().synced, None);
        }
    }
}
