//! The options of `doctor`.

use clap::{Args, ValueEnum};

use crate::values::parse_seconds;

/// What the machine is for: decides how bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// No frame may be lost.
    Capture,
    /// No frame may be late.
    Latency,
}

/// Say what stands between this machine and zero loss, or low latency, and how to mend it.
///
/// Reads only: nothing is changed. Without root some checks say "unknown".
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 all is well, 1 warnings, 2 failures.

--watch takes --metrics of a running `linerate capture --metrics ADDR`, to name
losses inside that program too; it may be given many times.

Examples:
  linerate doctor
  linerate doctor eth2 --cpus 3,5 --profile latency
  linerate doctor eth2 --watch 10s
  linerate doctor eth2 --cpus 3,5 --fix-script > mend.sh")]
pub(crate) struct DoctorArgs {
    /// Look at this port's interface instead of every one that is up.
    #[arg(value_name = "PORT")]
    pub(crate) port: Option<String>,
    /// The CPUs that receive or send: 3,5 or 2-7.
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub(crate) cpus: Option<Cpus>,
    /// What the machine is for.
    #[arg(long, value_enum, default_value = "capture")]
    pub(crate) profile: Profile,
    /// How long to measure interruptions on each of --cpus; 0 does not.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_jitter)]
    pub(crate) jitter: f64,
    /// Instead of the checks: hold every loss counter against itself after this long (10s, 1m)
    /// and name the layer that lost frames.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) watch: Option<f64>,
    /// With --watch: also read the counters of a linerate that serves them here.
    #[arg(long, value_name = "ADDR", requires = "watch")]
    pub(crate) metrics: Vec<String>,
    /// Print a shell script of every remedy, and nothing else.
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub(crate) fix_script: bool,
}

/// A list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) Vec<u32>);

/// `3,5` or `2-7,9`, as the kernel writes such lists.
pub(super) fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let list = list(text).filter(|cpus| !cpus.is_empty());
    list.map(Cpus).ok_or_else(|| "use CPU numbers as 3,5 or 2-7".into())
}

/// The kernel's lists of numbers; an empty text is an empty list.
pub(super) fn list(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 8192;
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last >= MOST || first > last {
            return None;
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

fn parse_jitter(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("use 0 to 60 seconds".into()),
    }
}

fn parse_time(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => match (text.strip_suffix('s'), text.strip_suffix('m')) {
            (Some(number), _) => (number, 1.0),
            (None, Some(number)) => (number, 60.0),
            (None, None) => (text, 1.0),
        },
    };
    parse_seconds(number).map(|n| n * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_times() {
        assert_eq!(parse_cpus("3,5-7,5"), Ok(Cpus(vec![3, 5, 6, 7])));
        assert_eq!(list(""), Some(Vec::new()));
        for text in ["", "a", "7-3", "1-99999999", "3;5"] {
            assert!(parse_cpus(text).is_err(), "accepted: {text}");
        }
        assert_eq!(parse_time("10s"), Ok(10.0));
        assert_eq!(parse_time("1m"), Ok(60.0));
        assert_eq!(parse_time("2"), Ok(2.0));
        assert!(parse_time("s").is_err() && parse_time("-1s").is_err());
        assert!(parse_jitter("61").is_err() && parse_jitter("nan").is_err());
    }
}
