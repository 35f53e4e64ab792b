//! The card's timestamps, with what it says about its clock.

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

/// Turns the library's answers into stamps in UTC, and knows how good the last one was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamper {
    on: bool,
    utc: Utc,
    last: StampState,
}

/// From the card's seconds to UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Utc {
    ahead_s: i64,
    /// Seconds from which on 64 bits of ns are too few.
    end_s: u64,
}

const NS_PER_S: u64 = 1_000_000_000;

impl Utc {
    /// The time that the library gave with the answer `rc`; `None`: none, or none that can be.
    #[inline(always)]
    pub(crate) fn stamp(self, rc: i32, ts: &ef_precisetime) -> Option<(u64, RxFlags)> {
        // Before 1970 is a very large number here.
        let sec = ts.tv_sec.wrapping_sub(self.ahead_s) as u64;
        if rc != 0 || sec >= self.end_s || u64::from(ts.tv_nsec) >= NS_PER_S {
            return None;
        }
        let unsynced = u32::from(ts.tv_flags) & EF_VI_SYNC_FLAG_CLOCK_IN_SYNC == 0;
        let flags = if unsynced { RxFlags::TS_UNSYNCED } else { RxFlags::NONE };
        let ns = sec.wrapping_mul(NS_PER_S).wrapping_add(ts.tv_nsec.into());
        Some((ns, RxFlags::TS_HW.with(flags)))
    }
}

impl Stamper {
    pub(crate) fn new(on: bool, ahead_s: i64) -> Self {
        let utc = Utc { ahead_s, end_s: u64::MAX / NS_PER_S };
        Self { on, utc, last: StampState::Waiting }
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// The way to UTC; `None` when there are no timestamps.
    #[inline(always)]
    pub(crate) fn utc(&self) -> Option<Utc> {
        self.on.then_some(self.utc)
    }

    /// The library answered `rc` and gave a time: how good the last stamp was.
    #[inline]
    pub(crate) fn saw(&mut self, rc: i32, ts: &ef_precisetime) {
        let sync = |flag| u32::from(ts.tv_flags) & flag != 0;
        self.last = match -rc {
            0 if sync(EF_VI_SYNC_FLAG_CLOCK_IN_SYNC) => StampState::Synced,
            0 if sync(EF_VI_SYNC_FLAG_CLOCK_SET) => StampState::ClockNotSynced,
            0 => StampState::ClockNotSet,
            libc::ENOMSG => StampState::NotYetInSync,
            libc::EL2NSYNC => StampState::LostSync,
            _ => StampState::NoneInFrame,
        };
    }

    /// The answer `rc` of the library and the time it gave.
    pub(crate) fn stamp(&mut self, rc: i32, ts: &ef_precisetime) -> (u64, RxFlags) {
        self.saw(rc, ts);
        self.utc.stamp(rc, ts).unwrap_or_else(|| {
            if rc == 0 {
                self.last = StampState::ClockNotSet;
            }
            (NO_TS, RxFlags::NONE)
        })
    }

    /// How good the last stamp was, or why there is none.
    pub(crate) fn state(&self) -> StampState {
        if self.on { self.last } else { StampState::Off }
    }

    pub(crate) fn clock(&self) -> ClockInfo {
        let synced = match self.state() {
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
        for sec in [36, i64::MAX, i64::MIN] {
            let never = ef_precisetime { tv_sec: sec, ..ts };
            assert_eq!(s.stamp(0, &never), (NO_TS, RxFlags::NONE), "{sec} s");
        }
        let unset = ef_precisetime { tv_flags: 0, ..ts };
        assert!(s.stamp(0, &unset).1.contains(RxFlags::TS_UNSYNCED));
        assert_eq!(s.state(), StampState::ClockNotSet);
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
            assert_eq!(s.state(), state);
            assert_eq!(s.clock().synced, None);
        }
    }
}
