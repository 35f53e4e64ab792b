//! What came of a run.

use std::fmt;

/// What came of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The queues obey it.
    Pass,
    /// They lack the capability that it is about, or it cannot be tried here: why.
    NotSupported(String),
    /// They break it: how.
    Fail(String),
}

/// One rule and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The rule's name.
    pub rule: &'static str,
    /// What it demands.
    pub says: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// Every rule and what came of it. Displays as a table with a summary line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were tried.
    pub rows: Vec<Row>,
}

impl Report {
    /// Did no rule fail?
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The rules that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| matches!(row.outcome, Outcome::Fail(_)))
    }

    /// What came of the rule of that name.
    #[must_use]
    pub fn outcome(&self, rule: &str) -> Option<&Outcome> {
        self.rows.iter().find(|row| row.rule == rule).map(|row| &row.outcome)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for Row { rule, says, outcome } in &self.rows {
            match outcome {
                Outcome::Pass => {
                    passed += 1;
                    writeln!(f, "pass  {rule}: {says}")?;
                }
                Outcome::NotSupported(why) => {
                    skipped += 1;
                    writeln!(f, "n/a   {rule}: {why}")?;
                }
                Outcome::Fail(what) => {
                    failed += 1;
                    writeln!(f, "FAIL  {rule}: {says}\n      {what}")?;
                }
            }
        }
        write!(f, "{passed} passed, {failed} failed, {skipped} not supported")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_failed() {
        let row = |rule, outcome| Row { rule, says: "what it demands", outcome };
        let report = Report {
            rows: vec![
                row("one", Outcome::Pass),
                row("two", Outcome::NotSupported("no pool".into())),
                row("three", Outcome::Fail("frame 7 came twice".into())),
            ],
        };
        assert!(!report.is_clean());
        assert_eq!(
            report.to_string(),
            "pass  one: what it demands\nn/a   two: no pool\nFAIL  three: what it demands\n      \
             frame 7 came twice\n1 passed, 1 failed, 1 not supported"
        );
    }
}
