//! Setting the clock of the machine, which is for machines that are thrown away: each of these
//! panics outside the guest of `tests/guest/run.sh`.

use std::io;

/// Sets `CLOCK_REALTIME` to ns since the UNIX epoch.
pub fn set(ns: i64) {
    let time = libc::timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 };
    check_place();
    // SAFETY: a timespec that outlives the call.
    let rc = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
}

/// The last second of this day (UTC) will be told twice.
pub fn arm_leap_second() {
    adjust(libc::ADJ_STATUS, |timex| timex.status = libc::STA_INS);
}

/// Tells the kernel how far TAI is ahead of UTC.
pub fn set_tai_offset(seconds: i32) {
    adjust(libc::ADJ_TAI, |timex| timex.constant = seconds.into());
}

fn adjust(modes: libc::c_uint, what: impl FnOnce(&mut libc::timex)) {
    check_place();
    // SAFETY: all zeros is a valid timex.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = modes;
    what(&mut timex);
    // SAFETY: a timex that outlives the call.
    let rc = unsafe { libc::adjtimex(&raw mut timex) };
    assert!(rc >= 0, "{}", io::Error::last_os_error());
}

fn check_place() {
    assert!(std::env::var_os("LINERATE_GUEST").is_some(), "not on a machine that others use");
}
