//! What was measured, kept in a file, so that the page can be written again and runs compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::stats::Spread;
use super::{Class, Column, Rule, Target};

/// Rates that differ by less are the same: what the same program shows between two runs.
pub const RESOLUTION: f64 = 0.02;
/// A generator that could do less than this many times what was delivered may have been the limit.
pub const HEADROOM: f64 = 1.2;

/// All cases, in the order in which they are shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// By case.
    pub cases: Vec<CaseResult>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// See [`Case`](super::Case).
    pub name: String,
    /// Heading.
    pub title: String,
    /// What was done.
    pub text: String,
    /// When, where and with what, for a reader.
    pub facts: Vec<(String, String)>,
    /// Rounds that were wanted, and how long each load lasted.
    pub how: String,
    /// What is shown.
    pub columns: Vec<Column>,
    /// Names of the loads.
    pub loads: Vec<String>,
    /// Who was compared.
    pub rows: Vec<Row>,
    /// What had to hold.
    pub targets: Vec<Target>,
}

/// One contender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it is to us.
    pub class: Class,
    /// By load: the values of all rounds, by key.
    pub values: Vec<BTreeMap<String, Vec<f64>>>,
    /// By load: why it did not run, if it did not.
    pub failures: Vec<Option<String>>,
}

impl Row {
    /// The rounds of a column.
    #[must_use]
    pub fn spread(&self, load: usize, key: &str) -> Option<Spread> {
        Spread::of(self.values.get(load)?.get(key)?.clone())
    }

    /// The median of our ratio to another row within each round: what changes from round to round
    /// (where the two virtual CPUs run, say) changes both. `None`: not all rounds have both.
    fn ratio_to(&self, other: &Self, load: usize, key: &str) -> Option<f64> {
        let values = |row: &Self| row.values.get(load)?.get(key).cloned();
        let (ours, theirs) = (values(self)?, values(other)?);
        let is_whole = ours.len() == theirs.len() && theirs.iter().all(|value| *value > 0.0);
        let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        Some(Spread::of(ratios)?.median).filter(|_| is_whole)
    }
}

/// How a target came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// With every load.
    pub met: bool,
    /// By load: its name, our ratio, and whom it was taken to.
    pub ratios: Vec<(String, f64, String)>,
}

impl CaseResult {
    /// `None`: ours did not run, or nobody to hold it against did.
    #[must_use]
    pub fn verdict(&self, target: &Target) -> Option<Verdict> {
        let row = |name: &str| self.rows.iter().find(|row| row.name == name);
        let ours = row(&target.ours)?;
        let mut ratios = Vec::new();
        for (load, label) in self.loads.iter().enumerate() {
            let Some(mine) = ours.spread(load, &target.column) else { continue };
            if let Rule::Below(_) = target.rule {
                ratios.push((label.clone(), mine.median, String::new()));
                continue;
            }
            let theirs = target.rivals.iter().filter_map(|name| {
                let row = row(name)?;
                Some((row.spread(load, &target.column)?.median, row))
            });
            let best = match target.rule {
                Rule::AtLeast(_) => theirs.max_by(|a, b| a.0.total_cmp(&b.0)),
                _ => theirs.min_by(|a, b| a.0.total_cmp(&b.0)),
            };
            if let Some((value, best)) = best.filter(|(value, _)| *value > 0.0) {
                let ratio = ours.ratio_to(best, load, &target.column);
                let ratio = ratio.unwrap_or(mine.median / value);
                ratios.push((label.clone(), ratio, best.name.clone()));
            }
        }
        let met = ratios.iter().all(|(_, ratio, _)| match target.rule {
            // "At or above": as good as equal is at.
            Rule::AtLeast(1.0) => *ratio >= 1.0 - RESOLUTION,
            Rule::AtLeast(wanted) => *ratio >= wanted,
            Rule::AtMost(wanted) | Rule::Below(wanted) => *ratio <= wanted,
        });
        if ratios.is_empty() { None } else { Some(Verdict { met, ratios }) }
    }

    /// Was the generator perhaps the limit of a row?
    #[must_use]
    pub fn is_generator_bound(&self, row: &Row, load: usize) -> bool {
        let bound = self.rows.iter().find(|row| row.class == Class::Bound);
        let could = bound.and_then(|bound| bound.spread(load, "offered"));
        let did = row.spread(load, "mpps").filter(|_| row.class != Class::Bound);
        could.zip(did).is_some_and(|(could, did)| could.median < HEADROOM * did.median)
    }
}

impl Results {
    /// Those of earlier runs; none if there is no such file.
    ///
    /// # Errors
    ///
    /// It is no file of ours.
    pub fn read(path: &Path) -> Result<Self, String> {
        match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
            }
            Err(_) => Ok(Self::default()),
        }
    }

    /// Takes in a case, in place of what an earlier run had of it, and keeps `order`.
    pub fn put(&mut self, case: CaseResult, order: &[&str]) {
        self.cases.retain(|old| old.name != case.name && order.contains(&old.name.as_str()));
        self.cases.push(case);
        self.cases.sort_by_key(|case| order.iter().position(|name| *name == case.name));
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        text.push('\n');
        fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, class: Class, key: &str, values: &[f64]) -> Row {
        let values = BTreeMap::from([(key.to_owned(), values.to_vec())]);
        Row { name: name.into(), class, values: vec![values], failures: vec![None] }
    }

    fn case(rows: Vec<Row>) -> CaseResult {
        CaseResult {
            name: "c".into(),
            title: String::new(),
            text: String::new(),
            facts: Vec::new(),
            how: String::new(),
            columns: Vec::new(),
            loads: vec!["64 B".into()],
            rows,
            targets: Vec::new(),
        }
    }

    #[test]
    fn targets_compare_medians_with_the_best_that_ran() {
        let case = case(vec![
            row("us", Class::Ours, "mpps", &[3.0, 9.0, 1.0]),
            row("slow", Class::Peer, "mpps", &[2.0]),
            row("fast", Class::Peer, "mpps", &[3.04]),
        ]);
        let rivals = ["slow", "fast", "absent"];
        let verdict = |rule| case.verdict(&Target::new("", "us", &rivals, "mpps", rule));
        let equal = verdict(Rule::AtLeast(1.0)).unwrap();
        assert!(equal.met);
        assert_eq!(equal.ratios[0].2, "fast");
        assert!(!verdict(Rule::AtLeast(1.01)).unwrap().met);
        assert!(verdict(Rule::AtMost(1.5)).unwrap().met);
        assert_eq!(verdict(Rule::AtMost(1.5)).unwrap().ratios[0].1, 1.5);
        assert!(!verdict(Rule::Below(2.9)).unwrap().met);
        assert_eq!(
            case.verdict(&Target::new("", "us", &["absent"], "mpps", Rule::AtMost(1.0))),
            None
        );
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        // The machine was slow in the second round, and differently so in the third.
        let mut case = case(vec![
            row("us", Class::Ours, "ns", &[2.0, 20.0, 3.0]),
            row("them", Class::Peer, "ns", &[2.5, 25.0, 2.0]),
        ]);
        let target = Target::new("", "us", &["them"], "ns", Rule::AtMost(1.0));
        assert_eq!(case.verdict(&target).unwrap().ratios[0].1, 0.8);
        // A round is missing: medians it is.
        case.rows[1].values[0].insert("ns".into(), vec![2.5, 25.0]);
        assert!(case.verdict(&target).unwrap().ratios[0].1 < 0.3);
    }

    #[test]
    fn a_generator_without_headroom_is_told() {
        let mut case = case(vec![
            row("bound", Class::Bound, "offered", &[6.0]),
            row("us", Class::Ours, "mpps", &[4.9]),
            row("fast", Class::Peer, "mpps", &[5.1]),
        ]);
        assert!(!case.is_generator_bound(&case.rows[1], 0));
        assert!(case.is_generator_bound(&case.rows[2], 0));
        case.rows.remove(0);
        assert!(!case.is_generator_bound(&case.rows[1], 0));
    }
}
