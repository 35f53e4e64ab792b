//! Medians, quartiles, and how sure a median is.

/// What several runs gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// A quarter of the runs is at or below this.
    pub q1: f64,
    /// A quarter of the runs is at or above this.
    pub q3: f64,
    /// Runs.
    pub runs: usize,
}

impl Spread {
    /// `None`: no run.
    #[must_use]
    pub fn of(values: Vec<f64>) -> Option<Self> {
        let values = sorted(values)?;
        let at = |share| quantile(&values, share);
        Some(Self { median: at(0.5), q1: at(0.25), q3: at(0.75), runs: values.len() })
    }
}

fn sorted(mut values: Vec<f64>) -> Option<Vec<f64>> {
    values.retain(|v| v.is_finite());
    values.sort_by(f64::total_cmp);
    Some(values).filter(|values| !values.is_empty())
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// How sure an [`Interval`] is to be, where there are rounds enough.
pub const COVERAGE: f64 = 0.9;

/// Where the median of all possible rounds lies, as far as those that were run can tell.
///
/// From the k-th smallest to the k-th largest, whatever the values are distributed like: the
/// median is outside only when fewer than k of the rounds fell on one side of it, and each falls
/// on either side with the same chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Of the rounds that were run.
    pub median: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Rounds.
    pub rounds: usize,
}

impl Interval {
    /// The narrowest that is [`COVERAGE`] sure; with fewer than five rounds all of them, which is
    /// less. `None`: no round.
    #[must_use]
    pub fn of(values: Vec<f64>) -> Option<Self> {
        let values = sorted(values)?;
        let n = values.len();
        let mut skipped = 0;
        while 2 * (skipped + 1) < n && coverage(n, skipped + 1) >= COVERAGE {
            skipped += 1;
        }
        let (low, high) = (values[skipped], values[n - 1 - skipped]);
        Some(Self { median: quantile(&values, 0.5), low, high, rounds: n })
    }

    /// Not narrower than a share of the median to either side.
    #[must_use]
    pub fn at_least(self, share: f64) -> Self {
        let margin = (self.median * share).abs();
        let (low, high) = (self.low.min(self.median - margin), self.high.max(self.median + margin));
        Self { low, high, ..self }
    }
}

/// How sure it is that the median lies between all of `n` rounds but the `skipped` at each end.
fn coverage(n: usize, skipped: usize) -> f64 {
    // Heads in n throws of a coin: `skipped` at most.
    let mut ways = 1.0;
    let mut outside = 0.0;
    for heads in 0..=skipped {
        outside += ways;
        ways = ways * (n - heads) as f64 / (heads + 1) as f64;
    }
    1.0 - 2.0 * outside / 2f64.powi(n as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_runs() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0, f64::NAN]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, q1: 1.75, q3: 3.25, runs: 4 });
        assert_eq!(Spread::of(vec![7.0]).unwrap().q1, 7.0);
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn an_interval_is_as_sure_as_its_rounds_allow() {
        // 1 - 2/32, and 1 - 2 * (1 + 8) / 256.
        assert_eq!(coverage(5, 0), 0.9375);
        assert_eq!(coverage(8, 1), 1.0 - 18.0 / 256.0);
        let of = |n: usize| Interval::of((1..=n).map(|i| i as f64).collect()).unwrap();
        let ends = |n| (of(n).low, of(n).high);
        assert_eq!(ends(1), (1.0, 1.0));
        assert_eq!(ends(3), (1.0, 3.0));
        assert_eq!(ends(7), (1.0, 7.0));
        assert_eq!(ends(8), (2.0, 7.0));
        assert_eq!(ends(11), (3.0, 9.0));
        assert_eq!(Interval::of(vec![f64::NAN]), None);
    }

    #[test]
    fn one_wild_round_of_eight_moves_nothing() {
        let interval = Interval::of(vec![1.0, 1.01, 0.99, 1.0, 9.0, 1.01, 1.0, 0.99]).unwrap();
        assert_eq!((interval.median, interval.low, interval.high), (1.0, 0.99, 1.01));
        let wider = interval.at_least(0.02);
        assert_eq!((wider.low, wider.high), (0.98, 1.02));
        assert_eq!(interval.at_least(0.001), interval);
    }
}
