//! What was measured, kept in a file, so that the page can be written again and runs compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::stats::Spread;
use super::{Class, Column, Sample, Target};

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
    /// By load: the values of all rounds, by key. A round that failed has none.
    pub values: Vec<BTreeMap<String, Vec<Option<f64>>>>,
    /// By load: why it did not run, if it did not.
    pub failures: Vec<Option<String>>,
}

impl Row {
    /// The rounds of a column that have a number.
    #[must_use]
    pub fn numbers(&self, load: usize, key: &str) -> Vec<f64> {
        let rounds = self.values.get(load).and_then(|of| of.get(key));
        rounds.into_iter().flatten().flatten().copied().collect()
    }

    /// What the rounds of a column came to.
    #[must_use]
    pub fn spread(&self, load: usize, key: &str) -> Option<Spread> {
        Spread::of(self.numbers(load, key))
    }

    /// Takes in what a round gave.
    pub fn put(&mut self, load: usize, round: usize, sample: Sample) {
        for (key, value) in sample {
            let rounds = self.values[load].entry(key.into()).or_default();
            rounds.resize(round, None);
            rounds.push(Some(value));
        }
    }
}

impl CaseResult {
    /// Nothing, of a name.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.into(),
            title: String::new(),
            text: String::new(),
            facts: Vec::new(),
            how: String::new(),
            columns: Vec::new(),
            loads: Vec::new(),
            rows: Vec::new(),
            targets: Vec::new(),
        }
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
        let values = BTreeMap::from([(key.to_owned(), values.iter().map(|v| Some(*v)).collect())]);
        Row { name: name.into(), class, values: vec![values], failures: vec![None] }
    }

    fn case(rows: Vec<Row>) -> CaseResult {
        let mut case = CaseResult::empty("c");
        case.loads = vec!["64 B".into()];
        case.rows = rows;
        case
    }

    #[test]
    fn a_round_that_failed_leaves_its_place_empty() {
        let mut row = row("us", Class::Ours, "ns", &[]);
        for (round, ns) in [(0, 1.0), (2, 3.0)] {
            row.put(0, round, Sample::from([("ns", ns)]));
        }
        assert_eq!(row.values[0]["ns"], [Some(1.0), None, Some(3.0)]);
        assert_eq!(row.numbers(0, "ns"), [1.0, 3.0]);
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
