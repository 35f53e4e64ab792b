//! A card's clock held against the host's.

use std::fs::File;
use std::io::ErrorKind;

use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

use super::finding::{Finding, Verdict};

/// TAI is ahead of UTC by this much since 2017, where the kernel was not told.
const TAI_LEAD_S: i32 = 37;
/// A clock that is kept is nearer than this.
const KEPT_NS: i128 = 1_000_000;
/// The host's clock is read before and after the card's, this often: the nearest pair counts.
const TRIES: usize = 10;

/// How far `/dev/ptpN` is from the host's clock, and on which time scale it seems to run.
pub(super) fn look(card: &str, n: u32, kernel_tai_s: i32) -> Finding {
    let path = format!("/dev/ptp{n}");
    let why = "stamps of the card are of another time than the host's, and other cards'";
    let finding = Finding::new(card, "phc", why, &path);
    let clock = match File::open(&path) {
        Ok(clock) => clock,
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return finding.seen(Verdict::Unknown, format!("{path}: needs root"));
        }
        Err(e) => return finding.seen(Verdict::Unknown, format!("{path}: {e}")),
    };
    let read = || {
        let id = DynamicClockId::Dynamic(std::os::fd::AsFd::as_fd(&clock));
        clock_gettime_dynamic(id).ok().map(ns)
    };
    match offset(read, || ns(clock_gettime(ClockId::Realtime))) {
        Some((off, within)) => {
            let (verdict, seen) = judge(off, within, kernel_tai_s);
            finding
                .seen(verdict, seen)
                .fix(format!("phc2sys -c {card} -s CLOCK_REALTIME -O 0 & # or ptp4l -i {card}"))
        }
        None => finding.seen(Verdict::Unknown, format!("{path} cannot be read")),
    }
}

fn ns(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// The card's clock minus the host's, and how far from the truth that can be; in ns.
fn offset(
    mut card: impl FnMut() -> Option<i128>,
    mut host: impl FnMut() -> i128,
) -> Option<(i128, i128)> {
    let pairs = (0..TRIES).filter_map(|_| {
        let before = host();
        let card = card()?;
        let after = host();
        let half = (after - before) / 2;
        Some((card - before - half, half))
    });
    pairs.min_by_key(|(_, within)| *within)
}

/// In words. A clock is taken to run on the scale that it is nearer to.
fn judge(offset_ns: i128, within_ns: i128, kernel_tai_s: i32) -> (Verdict, String) {
    let lead_s = if kernel_tai_s == 0 { TAI_LEAD_S } else { kernel_tai_s };
    let from_tai = offset_ns - i128::from(lead_s) * 1_000_000_000;
    let tai = from_tai.abs() < offset_ns.abs();
    let (off, scale) = if tai { (from_tai, "TAI") } else { (offset_ns, "UTC") };
    let us = |ns: i128| ns as f64 / 1000.0;
    let seen = format!("{:+.3} µs from the host's {scale}, ±{:.3} µs", us(off), us(within_ns));
    if off.abs() > KEPT_NS + within_ns {
        return (Verdict::Warn, format!("{seen}: nobody keeps it"));
    }
    let note = if tai { format!("; give ports clock_lead_s={lead_s}") } else { String::new() };
    (Verdict::Ok, format!("{seen}{note}"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_narrowest_pair_of_readings_counts() {
        // The third reading of the card is quick, all others take a while.
        let (now, turn) = (Cell::new(0_i128), Cell::new(0));
        let host = || now.get();
        let card = || {
            turn.set(turn.get() + 1);
            let took = if turn.get() == 3 { 40 } else { 9_000 };
            now.set(now.get() + took);
            Some(now.get() - took / 2 + 500)
        };
        assert_eq!(offset(card, host), Some((500, 20)));
        assert_eq!(offset(|| None, || 0), None);
    }

    #[test]
    fn scales_are_told_apart() {
        const S: i128 = 1_000_000_000;
        let of = |offset, tai| judge(offset, 100, tai);
        assert_eq!(of(1_500, 0), (Verdict::Ok, "+1.500 µs from the host's UTC, ±0.100 µs".into()));
        let (verdict, text) = of(37 * S - 250, 0);
        assert!(verdict == Verdict::Ok && text.contains("-0.250 µs from the host's TAI"), "{text}");
        assert!(text.contains("clock_lead_s=37"), "{text}");
        assert!(of(38 * S, 38).1.contains("TAI") && of(38 * S, 38).0 == Verdict::Ok);
        for off in [2_000_000, -2_000_000, 36 * S, -1_700_000_000 * S] {
            assert_eq!(of(off, 37).0, Verdict::Warn, "{off}");
        }
    }

    #[test]
    fn a_clock_that_is_not_there_is_unknown() {
        let found = look("eth9", 987_654, 37);
        assert_eq!(found.verdict, Verdict::Unknown);
    }
}
