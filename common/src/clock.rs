//! Which clock a queue's timestamps come from, and how far it can be trusted.
//!
//! Every timestamp that linerate hands out is ns since the UNIX epoch **in UTC**: TAI offsets,
//! cycle counters and vendor encodings are resolved in the backend. What cannot be resolved is
//! said here instead of being papered over.

mod phc;
mod steps;

use std::time::{SystemTime, UNIX_EPOCH};

pub use phc::{PhcReading, PhcScale, PhcWatch};
pub use steps::StepWatch;

/// The clock behind a queue's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClockDomain {
    /// The queue gives no timestamps.
    None,
    /// The kernel's `CLOCK_REALTIME`, read in software.
    Realtime,
    /// A PTP hardware clock (`/dev/ptpN`) that runs on UTC.
    Phc(u32),
    /// A PTP hardware clock that runs on TAI; the backend has taken the offset off.
    PhcTai(u32),
    /// The card's own clock, set by the vendor's tool.
    Card,
    /// The stamps were read from a file.
    Recorded,
}

/// What is known about a queue's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClockInfo {
    /// Where they come from.
    pub domain: ClockDomain,
    /// Does the clock say that it is synchronised? `None`: it cannot tell.
    pub synced: Option<bool>,
    /// Smallest step in ns, at least 1.
    pub resolution_ns: u32,
}

impl ClockInfo {
    /// A queue without timestamps.
    pub const NONE: Self = Self { domain: ClockDomain::None, synced: None, resolution_ns: 1 };

    /// Stamps that the kernel takes in software with ns resolution.
    pub const KERNEL: Self = Self { domain: ClockDomain::Realtime, synced: None, resolution_ns: 1 };
}

/// Capability: a queue that knows its clock.
pub trait Clocked {
    /// The clock behind the timestamps, as of now: for a PTP clock as of the last look at it,
    /// which is part of [`stats`](crate::FrameRx::stats) and of
    /// [`arm`](crate::Waitable::arm), once a second. A spinning queue that is never asked for its
    /// counters does not learn that its card's clock was moved between UTC and TAI.
    fn clock(&self) -> ClockInfo;
}

/// Now, in ns since the UNIX epoch (`CLOCK_REALTIME`).
#[must_use]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What the kernel says about its own clock (`adjtimex`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelClock {
    /// Does something keep it on time (NTP, PTP)?
    pub synced: bool,
    /// TAI minus UTC in seconds as the kernel was told; 0 when nobody told it.
    pub tai_offset_s: i32,
    /// How wrong it may be, in µs, as whoever keeps it says.
    pub max_error_us: u64,
}

/// The state of `CLOCK_REALTIME`. Needs no rights. `None` when the kernel does not say.
#[must_use]
pub fn kernel_clock() -> Option<KernelClock> {
    // SAFETY: all zeros is a valid timex: it asks and sets nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: a timex that the kernel fills.
    let state = unsafe { libc::adjtimex(&mut timex) };
    (state >= 0).then(|| KernelClock {
        synced: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        tai_offset_s: timex.tai,
        max_error_us: u64::try_from(timex.maxerror).unwrap_or(0),
    })
}

/// `ticks` of a counter that runs at `hz`, in ns. `None` when `hz` is 0 or the result does not
/// fit 64 bits (after the year 2554).
#[inline]
#[must_use]
pub fn ticks_to_ns(ticks: u64, hz: u64) -> Option<u64> {
    if hz == 0 {
        return None;
    }
    u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(hz)).ok()
}

/// `secs` and `nanos` as one ns count. `None` when they are negative, `nanos` is a second or
/// more, or the result does not fit.
#[inline]
#[must_use]
pub fn timespec_to_ns(secs: i64, nanos: i64) -> Option<u64> {
    let nanos = u64::try_from(nanos).ok().filter(|n| *n < 1_000_000_000)?;
    u64::try_from(secs).ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_an_exanic_do_not_overflow() {
        // 2026 in ticks of 161.1328 MHz times 10^9 needs 88 bits.
        let ticks = 1_790_000_000 * 161_132_800;
        assert_eq!(ticks_to_ns(ticks, 161_132_800), Some(1_790_000_000_000_000_000));
        assert_eq!(ticks_to_ns(u64::MAX, 1), None);
        assert_eq!(ticks_to_ns(5, 0), None);
    }

    #[test]
    fn the_kernel_knows_its_clock() {
        let clock = kernel_clock().expect("every kernel answers");
        assert!((0..100).contains(&clock.tai_offset_s), "{clock:?}");
    }

    #[test]
    fn timespecs_out_of_range_are_refused() {
        assert_eq!(timespec_to_ns(1, 999_999_999), Some(1_999_999_999));
        assert_eq!(timespec_to_ns(-1, 0), None);
        assert_eq!(timespec_to_ns(1, 1_000_000_000), None);
        assert_eq!(timespec_to_ns(i64::MAX, 0), None);
    }
}
