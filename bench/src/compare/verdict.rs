//! Whether a target is met, as far as a run can tell.
//!
//! What a round gave is only held against what the same round gave of others: the machine is another
//! one in the next round. The ratios of all rounds have a median, and an [`Interval`] in which the
//! true one lies. A target is met when all of that interval reaches it, not met when none of it
//! does, and what lies in between is within noise: another run may come out on the other side.

use std::fmt;

use super::results::{CaseResult, Results, Row};
use super::stats::Interval;
use super::{Rule, Target};

/// What the same program shows between two runs, so that no interval is taken as narrower, and
/// "at or above" is met by what is as good as equal.
pub const RESOLUTION: f64 = 0.02;

/// Fewer rounds tell nothing about how they vary.
pub const FEWEST: usize = 3;

/// How a target came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// On all of the interval.
    Met,
    /// The interval has the target in it, or there are not [`FEWEST`] rounds.
    WithinNoise,
    /// On none of the interval.
    NotMet,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::WithinNoise => "within noise",
            Self::NotMet => "not met",
        })
    }
}

impl Rule {
    /// What a ratio (or, for [`Rule::Below`], a number) must reach.
    fn limit(self) -> f64 {
        match self {
            Self::AtLeast(1.0) => 1.0 - RESOLUTION,
            Self::AtLeast(limit) | Self::AtMost(limit) | Self::Below(limit) => limit,
        }
    }

    fn reaches(self, value: f64) -> bool {
        match self {
            Self::AtLeast(_) => value >= self.limit(),
            Self::AtMost(_) | Self::Below(_) => value <= self.limit(),
        }
    }

    fn state(self, interval: Interval) -> State {
        match (self.reaches(interval.low), self.reaches(interval.high)) {
            _ if interval.rounds < FEWEST => State::WithinNoise,
            (true, true) => State::Met,
            (false, false) => State::NotMet,
            _ => State::WithinNoise,
        }
    }
}

/// Ours with one load, against the rival that it does worst against.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Name of the load.
    pub load: String,
    /// Our ratio to the rival, or our number where there is none.
    pub interval: Interval,
    /// Who that is.
    pub rival: String,
    /// With this load.
    pub state: State,
}

/// How a target came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The worst of all loads.
    pub state: State,
    /// By load.
    pub findings: Vec<Finding>,
}

impl CaseResult {
    /// `None`: ours did not run, or nobody to hold it against did.
    #[must_use]
    pub fn verdict(&self, target: &Target) -> Option<Verdict> {
        let row = |name: &str| self.rows.iter().find(|row| row.name == name);
        let ours = row(&target.ours)?;
        let finding = |load: usize, rival: &str, values: Vec<f64>| {
            let interval = Interval::of(values)?.at_least(RESOLUTION);
            let state = target.rule.state(interval);
            Some(Finding { load: self.loads[load].clone(), interval, rival: rival.into(), state })
        };
        let worst = |load: usize| match target.rule {
            Rule::Below(_) => finding(load, "", ours.numbers(load, &target.column)),
            _ => target
                .rivals
                .iter()
                .filter_map(|name| {
                    finding(load, name, ours.ratios_to(row(name)?, load, &target.column))
                })
                .max_by(|a, b| {
                    let farther = a.interval.median.total_cmp(&b.interval.median);
                    let more_is_better = matches!(target.rule, Rule::AtLeast(_));
                    let farther = if more_is_better { farther.reverse() } else { farther };
                    a.state.cmp(&b.state).then(farther)
                }),
        };
        let findings: Vec<Finding> = (0..self.loads.len()).filter_map(worst).collect();
        let state = findings.iter().map(|finding| finding.state).max()?;
        Some(Verdict { state, findings })
    }
}

impl Row {
    /// Ours to theirs in every round that has both.
    fn ratios_to(&self, other: &Self, load: usize, key: &str) -> Vec<f64> {
        let rounds = |row: &Self| row.values.get(load).and_then(|of| of.get(key)).cloned();
        let (ours, theirs) = (rounds(self).unwrap_or_default(), rounds(other).unwrap_or_default());
        let pairs = ours.into_iter().zip(theirs).filter_map(|(ours, theirs)| ours.zip(theirs));
        pairs.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect()
    }
}

/// A target that came out differently in two runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Case, whose target, and its text.
    pub target: String,
    /// Before and now. `None`: it could not be measured.
    pub states: [Option<State>; 2],
}

impl Difference {
    /// Is what was met not met, or the other way round? All else is what noise does.
    #[must_use]
    pub fn is_contradiction(&self) -> bool {
        matches!(
            self.states,
            [Some(State::Met), Some(State::NotMet)] | [Some(State::NotMet), Some(State::Met)]
        )
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, now] = self
            .states
            .map(|state| state.map_or("not measured".to_owned(), |state| state.to_string()));
        let mark = if self.is_contradiction() { "CONTRADICTS" } else { "moved" };
        write!(f, "{mark:11}  {}: {before}, then {now}", self.target)
    }
}

/// Targets of both results, and which of them came out differently.
#[must_use]
pub fn differences(before: &Results, now: &Results) -> (usize, Vec<Difference>) {
    let mut common = 0;
    let mut found = Vec::new();
    for case in &now.cases {
        let Some(old) = before.cases.iter().find(|old| old.name == case.name) else { continue };
        for target in &case.targets {
            let same = |t: &&Target| t.text == target.text && t.ours == target.ours;
            let Some(was) = old.targets.iter().find(same) else { continue };
            common += 1;
            let states = [old.verdict(was), case.verdict(target)].map(|v| v.map(|v| v.state));
            if states[0] != states[1] {
                let target = format!("{}, {}: {}", case.name, target.ours, target.text);
                found.push(Difference { target, states });
            }
        }
    }
    (common, found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compare::Class;

    pub(super) fn row(name: &str, values: &[f64]) -> Row {
        let rounds = values.iter().map(|v| Some(*v).filter(|v| v.is_finite())).collect();
        let values = BTreeMap::from([("x".to_owned(), rounds)]);
        Row { name: name.into(), class: Class::Peer, values: vec![values], failures: vec![None] }
    }

    fn case(rows: Vec<Row>) -> CaseResult {
        let mut case = CaseResult::empty("c");
        case.loads = vec!["64 B".into()];
        case.rows = rows;
        case
    }

    fn target(rivals: &[&str], rule: Rule) -> Target {
        Target::new("", "us", rivals, "x", rule)
    }

    #[test]
    fn a_target_is_met_only_by_the_whole_interval() {
        let state = |values: &[f64], rule| {
            let case = case(vec![row("us", values), row("them", &[1.0; 5])]);
            case.verdict(&target(&["them"], rule)).unwrap().state
        };
        let around = [1.0, 0.99, 1.01, 1.0, 1.0];
        assert_eq!(state(&around, Rule::AtLeast(1.0)), State::Met);
        assert_eq!(state(&around, Rule::AtLeast(1.01)), State::WithinNoise);
        assert_eq!(state(&around, Rule::AtLeast(1.2)), State::NotMet);
        assert_eq!(state(&around, Rule::AtMost(1.02)), State::Met);
        assert_eq!(state(&[1.0, 1.0, 1.0, 1.0, 1.1], Rule::AtMost(1.02)), State::WithinNoise);
        assert_eq!(state(&[1.06; 5], Rule::AtMost(1.02)), State::NotMet);
        assert_eq!(state(&[4.0; 5], Rule::Below(5.0)), State::Met);
        assert_eq!(state(&[4.0; 2], Rule::Below(5.0)), State::WithinNoise);
    }

    #[test]
    fn ratios_are_taken_within_rounds_that_have_both() {
        // The machine was slow in the second round, and differently so in the third.
        let case =
            case(vec![row("us", &[2.0, 20.0, 3.0, 8.0]), row("them", &[2.5, 25.0, 2.0, f64::NAN])]);
        let verdict = case.verdict(&target(&["them"], Rule::AtMost(1.0))).unwrap();
        let interval = verdict.findings[0].interval;
        assert_eq!((interval.median, interval.high, interval.rounds), (0.8, 1.5, 3));
    }

    #[test]
    fn the_hardest_rival_decides() {
        let rows = vec![row("us", &[3.0; 5]), row("slow", &[2.0; 5]), row("fast", &[4.0; 5])];
        let case = case(rows);
        let verdict = |rule| case.verdict(&target(&["slow", "fast", "absent"], rule));
        let more = verdict(Rule::AtLeast(1.0)).unwrap();
        assert_eq!((more.state, more.findings[0].rival.as_str()), (State::NotMet, "fast"));
        let less = verdict(Rule::AtMost(1.0)).unwrap();
        assert_eq!((less.state, less.findings[0].rival.as_str()), (State::NotMet, "slow"));
        assert_eq!(case.verdict(&target(&["absent"], Rule::AtMost(1.0))), None);
    }

    #[test]
    fn only_sides_that_change_contradict() {
        let results = |ours: f64| {
            let mut case = case(vec![row("us", &[ours; 5]), row("them", &[1.0; 5])]);
            case.targets = vec![target(&["them"], Rule::AtMost(1.0))];
            Results { cases: vec![case] }
        };
        let of = |before, now| differences(&results(before), &results(now));
        assert_eq!(of(0.9, 0.95), (1, vec![]));
        assert!(!of(0.9, 1.0).1[0].is_contradiction());
        assert!(of(0.9, 1.1).1[0].is_contradiction());
    }
}
