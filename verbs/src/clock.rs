//! The three encodings of a completion's timestamp, as ns UTC.
//!
//! * Wall clock: the card converts; we take the ns as they are.
//! * Real time: firmware with a real-time clock packs seconds and ns into the raw stamp,
//!   `seconds << 32 | ns`.
//! * Ticks: a free-running counter. It is read together with the system clock once a second; the
//!   readings give its rate, which differs from the stated one by the error of its crystal.
//!
//! The card does not say which of the last two a raw stamp is, but the value does: a packed stamp
//! has today's seconds in its upper half and less than 10⁹ in its lower. A counter at 1 GHz would
//! have to run for 240 years to look like that.
//!
//! Nor does it say on which scale its clock runs. `ptp4l` puts it on TAI, 37 s ahead of UTC. Once
//! a second a stamp is held against the system clock: one that is ahead by the kernel's TAI offset
//! is on TAI, and the offset comes off; one that fits neither scale is marked as unsynchronised.

use std::time::Instant;

use linerate_common::clock::now_ns;
use linerate_common::{ClockDomain, ClockInfo, NO_TS, RxFlags};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::cq::Stamp;
use crate::device::Context;

const SECOND: u64 = 1_000_000_000;

/// Turns raw stamps into UTC.
#[derive(Debug)]
pub(crate) struct StampClock {
    kind: Stamp,
    /// Number of the card's PTP clock, where it has one.
    ptp: Option<u32>,
    counter: Counter,
    scale: Scale,
    /// The stamp that was last held against the system clock, and that clock then.
    judged_ns: u64,
    now_ns: u64,
    usual: Usual,
}

/// Stamps of a wall clock within a second of the one that was judged: ns from `from` on that are
/// shifted by `offset_ns` and flagged with `flags`.
#[derive(Debug, Clone, Copy)]
struct Usual {
    from: u64,
    span: u64,
    offset_ns: u64,
    flags: RxFlags,
}

impl Usual {
    const NONE: Self = Self { from: 0, span: 0, offset_ns: 0, flags: RxFlags::NONE };
}

/// Where the card's own wall clock stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Utc,
    Tai { offset_ns: u64 },
    Off,
}

impl StampClock {
    /// `hz` is the counter's rate as the device states it, 0 when it does not.
    pub(crate) fn new(kind: Stamp, mask: u64, hz: u64, ptp: Option<u32>) -> Self {
        let mask = if mask == 0 { u64::MAX } else { mask };
        let counter = Counter { mask, hz, per_tick: 0, base: None, anchor: None };
        Self {
            kind,
            ptp,
            counter,
            scale: Scale::Utc,
            judged_ns: 0,
            now_ns: now_ns(),
            usual: Usual::NONE,
        }
    }

    /// Is it time to read the counter? True once a second of stamps that are ticks.
    #[inline]
    pub(crate) fn wants_anchor(&self, raw: u64) -> bool {
        self.kind == Stamp::Raw
            && self.counter.hz != 0
            && self.counter.age(raw) >= self.counter.hz
            && self.unpack(raw).is_none()
    }

    /// Does it work from readings of the counter at all?
    pub(crate) fn counts(&self) -> bool {
        self.kind == Stamp::Raw && self.counter.hz != 0
    }

    /// Notes that the counter stood at `ticks` when it was `utc_ns`.
    pub(crate) fn anchor(&mut self, ticks: u64, utc_ns: u64) {
        self.counter.anchor(ticks, utc_ns);
        self.now_ns = utc_ns;
    }

    /// What [`utc`](Self::utc) gives, where that takes no more than a subtraction; else `None`.
    #[inline(always)]
    pub(crate) fn usual(&self, raw: u64) -> Option<(u64, RxFlags)> {
        let Usual { from, span, offset_ns, flags } = self.usual;
        (raw.wrapping_sub(from) < span).then(|| (raw.wrapping_sub(offset_ns), flags))
    }

    /// As [`utc`](Self::utc), after reading the device's counter where it is time to.
    pub(crate) fn utc_at(&mut self, raw: u64, context: &Context) -> (u64, RxFlags) {
        if self.wants_anchor(raw) {
            read_counter(self, context);
        }
        self.utc(raw)
    }

    /// The stamp as ns UTC with its flags; [`NO_TS`] without flags when it cannot be told.
    pub(crate) fn utc(&mut self, raw: u64) -> (u64, RxFlags) {
        match self.kind {
            Stamp::None => (NO_TS, RxFlags::NONE),
            Stamp::Wallclock => self.on_scale(raw),
            Stamp::Raw => match self.unpack(raw) {
                Some(ns) => self.on_scale(ns),
                None => match self.counter.utc(raw) {
                    Some(ns) => (ns, RxFlags::TS_HW),
                    None => (NO_TS, RxFlags::NONE),
                },
            },
        }
    }

    fn on_scale(&mut self, ns: u64) -> (u64, RxFlags) {
        if ns.abs_diff(self.judged_ns) >= SECOND {
            self.judge(ns, now_ns(), tai_offset_ns());
        }
        let (offset, flags) = self.shift();
        (ns.saturating_sub(offset), flags)
    }

    /// What comes off a stamp on the clock's scale, and its flags.
    fn shift(&self) -> (u64, RxFlags) {
        match self.scale {
            Scale::Utc => (0, RxFlags::TS_HW),
            Scale::Tai { offset_ns } => (offset_ns, RxFlags::TS_HW),
            Scale::Off => (0, RxFlags::TS_HW.with(RxFlags::TS_UNSYNCED)),
        }
    }

    /// Holds a stamp against the system clock. A frame may have waited before it was read, so a
    /// stamp may lie behind; ahead it may not.
    #[cold]
    fn judge(&mut self, ns: u64, now: u64, tai_ns: u64) {
        let fits = |offset: u64| {
            let ns = i128::from(ns) - i128::from(offset);
            let ahead = ns - i128::from(now);
            (-30 * i128::from(SECOND)..=i128::from(SECOND)).contains(&ahead)
        };
        let tai = Scale::Tai { offset_ns: tai_ns };
        let ahead_by_tai = ns > now.saturating_add(tai_ns / 2);
        self.scale = if fits(tai_ns) && (ahead_by_tai || self.scale == tai) {
            tai
        } else if fits(0) {
            Scale::Utc
        } else {
            Scale::Off
        };
        (self.judged_ns, self.now_ns) = (ns, now);
        let (from, (offset_ns, flags)) = (ns.saturating_sub(SECOND - 1), self.shift());
        // Nothing that is usual lies before its clock's beginning.
        let known = self.kind == Stamp::Wallclock && from >= offset_ns;
        let span = if known { ns.saturating_add(SECOND) - from } else { 0 };
        self.usual = Usual { from, span, offset_ns, flags };
    }

    /// A packed stamp as ns, if the value is one.
    #[inline]
    fn unpack(&self, raw: u64) -> Option<u64> {
        const DAY: u64 = 86_400;
        let (seconds, nanos) = (raw >> 32, raw & u64::from(u32::MAX));
        let today = seconds.abs_diff(self.now_ns / SECOND) <= DAY;
        (today && nanos < SECOND).then(|| seconds * SECOND + nanos)
    }

    pub(crate) fn info(&self) -> ClockInfo {
        let resolution_ns = match self.kind {
            Stamp::None => return ClockInfo::NONE,
            Stamp::Wallclock => 1,
            Stamp::Raw => SECOND.div_ceil(self.counter.hz.max(1)).min(u64::from(u32::MAX)) as u32,
        };
        let own_scale = self.judged_ns != 0;
        let domain = match (self.ptp, self.scale) {
            (Some(n), Scale::Tai { .. }) => ClockDomain::PhcTai(n),
            (Some(n), Scale::Utc) if own_scale => ClockDomain::Phc(n),
            _ => ClockDomain::Card,
        };
        // Whether phc2sys steers the clock libibverbs does not pass on; that it is off is seen.
        let synced = if self.scale == Scale::Off { Some(false) } else { None };
        ClockInfo { domain, synced, resolution_ns }
    }
}

/// A free-running counter and its readings.
#[derive(Debug)]
struct Counter {
    mask: u64,
    hz: u64,
    /// ns a tick in units of 2⁻³².
    per_tick: u64,
    /// The reading that the rate is measured from, and the latest: ticks and UTC.
    base: Option<(u64, u64)>,
    anchor: Option<(u64, u64)>,
}

impl Counter {
    /// Ticks from the latest reading to `raw`, either way.
    #[inline]
    fn age(&self, raw: u64) -> u64 {
        let Some((ticks, _)) = self.anchor else { return u64::MAX };
        (raw.wrapping_sub(ticks) & self.mask).min(ticks.wrapping_sub(raw) & self.mask)
    }

    fn anchor(&mut self, ticks: u64, utc_ns: u64) {
        if self.hz == 0 {
            return;
        }
        let stated = (u128::from(SECOND) << 32) / u128::from(self.hz);
        let stated = u64::try_from(stated).unwrap_or(u64::MAX);
        let ticks = ticks & self.mask;
        let (base_ticks, base_ns) = *self.base.get_or_insert((ticks, utc_ns));
        let passed = ticks.wrapping_sub(base_ticks) & self.mask;
        let elapsed = utc_ns.saturating_sub(base_ns);
        self.per_tick = stated;
        if elapsed >= SECOND / 2 && passed > 0 {
            let measured = (u128::from(elapsed) << 32) / u128::from(passed);
            let measured = u64::try_from(measured).unwrap_or(u64::MAX);
            if measured.abs_diff(stated) < stated / 4000 {
                self.per_tick = measured;
            } else {
                // No crystal is that far off: the system clock was set. Measure afresh.
                self.base = Some((ticks, utc_ns));
            }
        } else if elapsed == 0 {
            self.base = Some((ticks, utc_ns));
        }
        // A long base follows no change of rate.
        if elapsed > 16 * SECOND {
            self.base = self.anchor.or(self.base);
        }
        self.anchor = Some((ticks, utc_ns));
    }

    /// Counters wrap: the distance to the reading is taken the short way round, so a stamp from
    /// before the reading comes out before it.
    #[inline]
    fn utc(&self, raw: u64) -> Option<u64> {
        let (ticks, utc_ns) = self.anchor?;
        let ahead = raw.wrapping_sub(ticks) & self.mask;
        let behind = ticks.wrapping_sub(raw) & self.mask;
        const HALF: u128 = 1 << 31;
        let ns =
            |t: u64| u64::try_from((u128::from(t) * u128::from(self.per_tick) + HALF) >> 32).ok();
        if ahead <= behind {
            utc_ns.checked_add(ns(ahead)?)
        } else {
            utc_ns.checked_sub(ns(behind)?)
        }
    }
}

/// Reads the counter behind raw stamps together with the system clock, three times: the reading
/// that took least counts.
#[cold]
pub(crate) fn read_counter(clock: &mut StampClock, context: &Context) {
    if !clock.counts() {
        return;
    }
    let mut best: Option<(u64, u64, u64)> = None;
    for _ in 0..3 {
        let mut values = sys::ibv_values_ex {
            comp_mask: sys::IBV_VALUES_MASK_RAW_CLOCK,
            raw_clock: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        };
        // Timed by a clock that nobody sets: one set back here would look fastest of all.
        let (begun, before) = (Instant::now(), now_ns());
        // SAFETY: a live context; providers put the whole counter into the ns field.
        let rc = unsafe { inline::query_rt_values(context.as_raw(), &mut values) };
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if rc == 0 && best.is_none_or(|(least, ..)| took < least) {
            best = Some((took, values.raw_clock.tv_nsec as u64, before + took / 2));
        }
    }
    if let Some((_, ticks, utc_ns)) = best {
        clock.anchor(ticks, utc_ns);
    }
}

/// How far TAI is ahead of UTC, as the kernel was told; since 2017 it is 37 s.
fn tai_offset_ns() -> u64 {
    // SAFETY: all-zero asks for nothing to be changed; the call fills in the rest.
    let offset = unsafe {
        let mut now: libc::timex = std::mem::zeroed();
        if libc::adjtimex(&mut now) < 0 { 0 } else { now.tai }
    };
    let seconds = u64::try_from(offset).ok().filter(|s| *s > 0).unwrap_or(37);
    seconds * SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAI: u64 = 37 * SECOND;

    fn raw(mask: u64, hz: u64) -> StampClock {
        StampClock::new(Stamp::Raw, mask, hz, None)
    }

    #[test]
    fn packed_stamps_are_recognised() {
        let now = now_ns() / SECOND;
        let mut clock = raw(u64::MAX, SECOND);
        let packed = now << 32 | 123_000_000;
        assert_eq!(clock.utc(packed), (now * SECOND + 123_000_000, RxFlags::TS_HW));
        assert!(!clock.wants_anchor(packed));
    }

    #[test]
    fn ticks_need_an_anchor_and_wrap_by_the_mask() {
        let now = 1_790_000_000_123_456_789;
        let mut clock = raw((1 << 48) - 1, 156_250_000);
        assert_eq!(clock.utc(5), (NO_TS, RxFlags::NONE), "no anchor yet");
        assert!(clock.wants_anchor(5));
        clock.anchor((1 << 48) - 100, now);
        assert!(!clock.wants_anchor(5));
        // 256 ticks later, past the wrap: 256 * 6.4 ns.
        assert_eq!(clock.utc(156).0, now + 1638);
        // A stamp taken before the anchor.
        assert_eq!(clock.utc((1 << 48) - 260).0, now - 1024);
    }

    #[test]
    fn the_rate_is_measured_and_a_clock_step_is_not_taken_for_one() {
        let (now, hz) = (1_790_000_000 * SECOND, 100_000_000);
        let mut clock = raw(u64::MAX, hz);
        clock.anchor(0, now);
        // The crystal runs 50 ppm fast.
        let second = hz + hz / 20_000;
        clock.anchor(second, now + SECOND);
        let off = clock.utc(2 * second).0.abs_diff(now + 2 * SECOND);
        assert!(off < 5, "{off} ns off after a second");
        // The system clock jumps by a minute: the rate stays sane.
        clock.anchor(2 * second, now + 62 * SECOND);
        let off = clock.utc(2 * second + hz / 1000).0.abs_diff(now + 62 * SECOND + 1_000_000);
        assert!(off < 100, "{off} ns off");
    }

    #[test]
    fn a_device_without_a_rate_gives_no_stamp() {
        let mut clock = raw(0, 0);
        clock.anchor(7, now_ns());
        assert_eq!(clock.utc(7), (NO_TS, RxFlags::NONE));
    }

    #[test]
    fn a_clock_on_tai_is_seen_and_one_that_is_off_is_marked() {
        let now = now_ns();
        let mut clock = StampClock::new(Stamp::Wallclock, 0, 0, Some(3));
        clock.judge(now + TAI - 5, now, TAI);
        assert_eq!(clock.utc(now + TAI), (now, RxFlags::TS_HW));
        assert_eq!(clock.info().domain, ClockDomain::PhcTai(3));
        // A frame that waited for half a minute is still on TAI.
        clock.judge(now + 7 * SECOND, now, TAI);
        assert_eq!(clock.info().domain, ClockDomain::PhcTai(3));
        // The clock was moved to UTC.
        clock.judge(now - 100, now, TAI);
        assert_eq!(clock.utc(now).0, now);

        let mut clock = StampClock::new(Stamp::Wallclock, 0, 0, Some(3));
        clock.judge(now - 100, now, TAI);
        assert_eq!((clock.utc(now).0, clock.info().domain), (now, ClockDomain::Phc(3)));
        clock.judge(5 * SECOND, now, TAI);
        let (_, flags) = clock.utc(5 * SECOND);
        assert!(flags.contains(RxFlags::TS_UNSYNCED));
        assert_eq!(clock.info().synced, Some(false));
    }
}
