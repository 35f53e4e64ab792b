//! How often, and for how long, a CPU is taken away from a program that never sleeps.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use linerate::loops::pin_to_cpu;

use super::args::Profile;
use super::finding::{Finding, Verdict};
use crate::format::{count, ns};
use crate::histogram::of_ns;
use crate::threads::{join, spawn};

/// Two readings of the clock further apart than this were interrupted.
const INTERRUPTED_NS: u64 = 1_000;
/// Interruptions that lose frames or time, by profile.
const TOO_LONG_NS: [(Profile, u64); 2] =
    [(Profile::Capture, 5_000_000), (Profile::Latency, 50_000)];

/// Spins on the CPU for so long.
pub(super) fn probe(cpu: u32, seconds: f64, profile: Profile) -> Finding {
    let why = "while the loop is interrupted, frames wait in the ring";
    let finding = Finding::new(format!("cpu {cpu}"), "jitter", why, "measured by spinning");
    let spun = spawn("linerate-probe", move || {
        pin_to_cpu(cpu).map_err(|e| e.to_string())?;
        Ok::<_, String>(spin(Duration::from_secs_f64(seconds)))
    });
    match spun.and_then(join) {
        Ok(Ok((gaps, stolen))) => {
            let worst = gaps.max();
            let limit = TOO_LONG_NS.iter().find(|(p, _)| *p == profile).map_or(u64::MAX, |l| l.1);
            let share = 100.0 * stolen.as_secs_f64() / seconds;
            let seen = format!(
                "{} interruptions in {seconds} s: p50 {}, p99 {}, longest {}; {share:.2} % taken",
                count(gaps.len()),
                ns(gaps.value_at_quantile(0.5)),
                ns(gaps.value_at_quantile(0.99)),
                ns(worst)
            );
            finding.seen(if worst > limit { Verdict::Warn } else { Verdict::Ok }, seen)
        }
        Ok(Err(why)) => finding.seen(Verdict::Fail, why),
        Err(why) => finding.seen(Verdict::Unknown, why.to_string()),
    }
}

/// Every interruption, and all of them together.
fn spin(span: Duration) -> (Histogram<u64>, Duration) {
    let mut gaps = of_ns();
    let begun = Instant::now();
    let mut last = begun;
    let mut stolen = Duration::ZERO;
    while last - begun < span {
        let now = Instant::now();
        let gap = now - last;
        if gap.as_nanos() > u128::from(INTERRUPTED_NS) {
            gaps.saturating_record(u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX));
            stolen += gap;
        }
        last = now;
    }
    (gaps, stolen)
}
