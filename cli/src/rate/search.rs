//! Which rate to try next.

use super::trial::Trial;

/// Below this many frames a second there is nothing left to find.
const FLOOR: f64 = 10.0;

/// A binary search between the highest rate that passed and the lowest that failed.
#[derive(Debug)]
pub(crate) struct Search {
    passed: f64,
    /// `None`: nothing has failed yet.
    failed: Option<f64>,
    /// The rate at hand; `None`: full speed.
    at: Option<f64>,
    resolution: f64,
    tries: u32,
    failures: u32,
    /// The rate of the tries at hand that failed.
    tried: f64,
    over: bool,
}

impl Search {
    /// Up to `max` frames a second, or to what the port sends at full speed; until the answer is
    /// known to this fraction of it. A rate fails with its `tries`th failure.
    pub(crate) fn new(max: Option<f64>, resolution: f64, tries: u32) -> Self {
        Self {
            passed: 0.0,
            failed: None,
            at: max,
            resolution,
            tries,
            failures: 0,
            tried: 0.0,
            over: false,
        }
    }

    /// The rate to try: `Some(None)` at full speed. `None`: the search is over.
    pub(crate) fn next(&self) -> Option<Option<f64>> {
        (!self.over).then_some(self.at)
    }

    /// Takes note of how a trial of that rate went.
    pub(crate) fn learn(&mut self, trial: &Trial) {
        self.step(trial.passed, trial.sent_pps(), trial.received_pps());
    }

    fn step(&mut self, passed: bool, sent_pps: f64, received_pps: f64) {
        // At full speed the rate is what came out of it: of several tries the fastest.
        let rate = self.at.unwrap_or_else(|| sent_pps.max(self.tried));
        let guess = if passed {
            self.passed = self.passed.max(rate);
            self.failures = 0;
            None
        } else {
            self.failures += 1;
            if self.failures < self.tries {
                self.tried = rate;
                return;
            }
            let first = self.failed.is_none();
            self.failed = Some(rate);
            (self.failures, self.tried) = (0, 0.0);
            // What got through the first time is near to what can.
            first.then_some(received_pps)
        };
        let Some(failed) = self.failed else {
            self.over = true; // nothing faster can be offered
            return;
        };
        if failed - self.passed <= self.resolution * failed || failed <= FLOOR {
            self.over = true;
            return;
        }
        // Far apart, by factors: the answer may be anywhere between tens and millions.
        let far = self.passed > 0.0 && failed > 4.0 * self.passed;
        let middle =
            if far { (self.passed * failed).sqrt() } else { f64::midpoint(self.passed, failed) };
        let inside = |guess: &f64| *guess > self.passed && *guess < failed * 0.98;
        self.at = Some(guess.filter(inside).unwrap_or(middle));
    }

    /// Which of the trials is the answer: the fastest that passed.
    pub(crate) fn best(&self, trials: &[Trial]) -> Option<usize> {
        let passed = trials.iter().enumerate().filter(|(_, trial)| trial.passed);
        passed.max_by(|a, b| a.1.sent_pps().total_cmp(&b.1.sent_pps())).map(|(i, _)| i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a device that passes everything up to `limit`, sent by a port that does `top`.
    fn find(limit: f64, top: f64, hiccup: Option<usize>) -> (f64, usize) {
        let mut search = Search::new(None, 0.02, 2);
        let mut n = 0;
        while let Some(at) = search.next() {
            n += 1;
            assert!(n < 40, "it does not end");
            let rate = at.unwrap_or(top);
            let passed = rate <= limit && hiccup != Some(n);
            search.step(passed, rate, rate.min(limit * 0.9));
        }
        (search.passed, n)
    }

    #[test]
    fn it_ends_within_the_resolution_and_below_the_truth() {
        for limit in [50.0, 1_000.0, 123_456.0, 980_000.0] {
            let (found, trials) = find(limit, 1_000_000.0, None);
            assert!(found <= limit && found >= limit * 0.97, "{limit}: {found}");
            assert!(trials <= 36, "{limit}: {trials}");
        }
    }

    #[test]
    fn a_line_faster_than_the_sender_takes_one_trial() {
        assert_eq!(find(2_000_000.0, 1_000_000.0, None), (1_000_000.0, 1));
    }

    #[test]
    fn one_hiccup_does_not_spoil_the_answer() {
        for hiccup in 1..8 {
            let (found, _) = find(500_000.0, 1_000_000.0, Some(hiccup));
            assert!(found >= 480_000.0, "hiccup in trial {hiccup}: {found}");
        }
        // Full speed has as many tries as any other rate.
        assert_eq!(find(2_000_000.0, 1_000_000.0, Some(1)), (1_000_000.0, 2));
    }

    #[test]
    fn a_line_that_passes_nothing_ends_at_zero() {
        assert_eq!(find(0.0, 1_000_000.0, None).0, 0.0);
    }
}
