//! Time for loops that may not enter the kernel.
//!
//! `Instant::now` is a system call on machines whose clock source the vDSO cannot read (hpet,
//! acpi_pm, Xen). Deadlines of the spinning loops therefore count ticks of the CPU's own counter,
//! and the hook's clock is the coarse one, which the vDSO serves from memory everywhere.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The CPU's free-running counter. After a move to another CPU it may step back: compare by
/// `wrapping_sub`, where a step back looks like a long time and errs towards acting now.
#[inline]
pub(super) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 CPU has the time stamp counter, and Linux lets user space read it.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: reads the virtual counter, which Linux opens to user space; no memory effects.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) };
        count
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = START.get_or_init(Instant::now);
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// `time` in ticks, measured against the kernel's clock once per process (takes 2 ms).
pub(super) fn from_duration(time: Duration) -> u64 {
    static PER_MS: OnceLock<u64> = OnceLock::new();
    let per_ms = *PER_MS.get_or_init(measure_per_ms);
    let ticks = time.as_nanos().saturating_mul(u128::from(per_ms)) / 1_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn measure_per_ms() -> u64 {
    let (start, t0) = (Instant::now(), ticks());
    while start.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    let ticks = ticks().wrapping_sub(t0);
    let ns = start.elapsed().as_nanos();
    u64::try_from(u128::from(ticks) * 1_000_000 / ns.max(1)).unwrap_or(u64::MAX).max(1)
}

/// `CLOCK_MONOTONIC_COARSE` in ns: as of the kernel's last tick, 1 to 10 ms old.
pub(super) fn coarse_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. It cannot fail: the clock exists since Linux 2.6.32.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    crate::clock::timespec_to_ns(now.tv_sec, now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_move_on_and_durations_convert() {
        let t0 = ticks();
        std::thread::sleep(Duration::from_millis(1));
        assert_ne!(ticks(), t0);
        let ms = from_duration(Duration::from_millis(1));
        // From a 1 MHz counter to a 10 GHz one.
        assert!((1_000..10_000_000).contains(&ms), "{ms} ticks per ms");
        assert_eq!(from_duration(Duration::ZERO), 0);
        assert_eq!(from_duration(Duration::MAX), u64::MAX);
    }
}
