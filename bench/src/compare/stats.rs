//! Medians and quartiles.

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
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|v| v.is_finite());
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
            low + (high - low) * place.fract()
        };
        if values.is_empty() {
            return None;
        }
        Some(Self { median: at(0.5), q1: at(0.25), q3: at(0.75), runs: values.len() })
    }
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
}
