//! A latency distribution drawn with characters.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::format::{count, ns};
use crate::output::Paint;

/// Percentiles that a report names.
const NAMED: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99)];

const BAR_COLUMNS: u64 = 40;

/// A histogram of ns that never refuses a value: 1 ns to 100 s, three digits.
pub(crate) fn of_ns() -> Histogram<u64> {
    // The bounds are constants that the crate accepts; 1 s to 100 s lose no more than digits.
    Histogram::new_with_bounds(1, 100_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// p50 to p99.99 and the maximum, names above values, in at most 80 columns.
pub(crate) fn percentiles(histogram: &Histogram<u64>, paint: Paint) -> String {
    let values = NAMED.iter().map(|(_, p)| ns(histogram.value_at_percentile(*p)));
    let names = NAMED.iter().map(|(name, _)| (*name).to_owned());
    let row = |cells: &mut dyn Iterator<Item = String>| {
        cells.map(|cell| format!("  {cell:>9}")).collect::<String>()
    };
    let names = row(&mut names.chain(["max".to_owned()]));
    let values = row(&mut values.chain([ns(histogram.max())]));
    format!("{}\n{values}", paint.dim(&names))
}

/// A distribution in the numbers that reports name, in ns.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: u64,
    #[serde(rename = "p99.99")]
    pub(crate) p9999: u64,
    pub(crate) max: u64,
    pub(crate) mean: f64,
    pub(crate) stdev: f64,
}

impl Spread {
    /// `None` where nothing was measured.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |percentile| histogram.value_at_percentile(percentile);
        (!histogram.is_empty()).then(|| Self {
            min: histogram.min(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            p9999: at(99.99),
            max: histogram.max(),
            mean: histogram.mean(),
            stdev: histogram.stdev(),
        })
    }
}

/// The names over the columns of [`spread_row`]: `label` over the first, `unit` over the second.
pub(crate) fn spread_header(label: &str, unit: &str) -> String {
    let names = ["min", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean", "stdev"];
    let names: String = names.iter().map(|name| format!(" {name:>6}")).collect();
    format!("{label:>5}  {unit:<5}{names}")
}

/// A distribution as a row of at most 80 columns, in µs, each value divided by `divide`.
pub(crate) fn spread_row(label: &str, name: &str, spread: &Spread, divide: f64) -> String {
    let Spread { min, p50, p90, p99, p999, p9999, max, mean, stdev } = *spread;
    let exact = [min, p50, p90, p99, p999, p9999, max].map(|n| n as f64);
    let cells = exact.into_iter().chain([mean, stdev]).map(|n| micros(n / divide));
    let cells: String = cells.map(|cell| format!(" {cell:>6}")).collect();
    format!("{label:>5}  {name:<5}{cells}")
}

/// ns as µs in six columns.
fn micros(ns: f64) -> String {
    match ns / 1e3 {
        us if us < 99.995 => format!("{us:.2}"),
        us if us < 9999.95 => format!("{us:.1}"),
        us if us < 999_999.5 => format!("{us:.0}"),
        us => format!("{:.1}s", us / 1e6),
    }
}

/// Bars over octaves of time. Empty octaves inside the range are shown, those outside are not.
pub(crate) fn draw(histogram: &Histogram<u64>, paint: Paint) -> String {
    if histogram.is_empty() {
        return "  (nothing measured)".into();
    }
    let octave = |value: u64| u64::BITS - value.leading_zeros();
    let (first, last) = (octave(histogram.min()), octave(histogram.max()));
    let mut bins = vec![0; (last - first + 1) as usize];
    for step in histogram.iter_recorded() {
        let at = octave(step.value_iterated_to()).clamp(first, last) - first;
        bins[at as usize] += step.count_at_value();
    }
    let tallest = bins.iter().copied().max().unwrap_or(1).max(1);
    let mut lines = Vec::with_capacity(bins.len());
    for (i, n) in bins.iter().enumerate() {
        let low = 1_u64.checked_shl(first + i as u32 - 1).unwrap_or(u64::MAX);
        let eighths = (n * BAR_COLUMNS * 8).div_ceil(tallest);
        lines.push(
            format!("  {:>7}  {:<10}  {}", ns(low), count(*n), paint.ink(&bar(eighths)))
                .trim_end()
                .to_owned(),
        );
    }
    lines.join("\n")
}

/// A bar of so many eighths of a column.
fn bar(eighths: u64) -> String {
    let mut text = "█".repeat((eighths / 8) as usize);
    if let Some(part) = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get((eighths % 8) as usize)
    {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_a_terminal_and_counts_every_value() {
        let mut histogram = of_ns();
        for value in [900, 1_000, 3_000, 3_100, 3_200, 90_000_000] {
            histogram.saturating_record(value);
        }
        let text = draw(&histogram, Paint::PLAIN);
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        let named = percentiles(&histogram, Paint::PLAIN);
        assert!(named.lines().all(|l| l.chars().count() <= 80), "{named}");
        let counts: u64 = text
            .lines()
            .map(|l| l.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(counts, 6);
    }

    #[test]
    fn a_row_fits_a_terminal_whatever_the_values() {
        for scale in [1_u64, 1_000, 1_000_000, 100_000_000] {
            let mut histogram = of_ns();
            for value in [1, 17, 999] {
                histogram.saturating_record(value * scale);
            }
            let spread = Spread::of(&histogram).unwrap();
            let row = spread_row("65535", "rtt/2", &spread, 1.0);
            assert_eq!(row.chars().count(), spread_header("size", "µs").chars().count(), "{row}");
            assert!(row.chars().count() <= 80, "{row}");
        }
        assert!(Spread::of(&of_ns()).is_none());
    }

    #[test]
    fn nothing_measured_is_said() {
        assert!(draw(&of_ns(), Paint::PLAIN).contains("nothing"));
    }
}
