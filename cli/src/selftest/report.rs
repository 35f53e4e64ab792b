//! What came of a self-test: lines for a person, JSON for a program, one file to send back.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use linerate::conformance::Outcome;
use serde::Serialize;

use crate::failure::{Failure, io_text};
use crate::output::Paint;

/// One check or rule, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    part: &'static str,
    name: &'static str,
    says: &'static str,
    verdict: &'static str,
    /// Why it failed or could not be tried, or what was seen.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

impl Row {
    pub(super) fn new(
        part: &'static str,
        name: &'static str,
        says: &'static str,
        outcome: Outcome,
    ) -> Self {
        let (verdict, detail) = match outcome {
            Outcome::Pass => ("pass", String::new()),
            Outcome::NotSupported(why) => ("not supported", why),
            Outcome::Fail(what) => ("fail", what),
        };
        Self { part, name, says, verdict, detail }
    }

    /// Adds what was seen, where there is nothing else to tell.
    pub(super) fn seen(mut self, seen: String) -> Self {
        if self.detail.is_empty() {
            self.detail = seen;
        }
        self
    }

    /// One or two lines.
    pub(super) fn render(&self, paint: Paint) -> String {
        let Self { name, says, detail, .. } = self;
        match self.verdict {
            "fail" => format!("{} {name}: {says}\n      {detail}", paint.bad("FAIL ")),
            "pass" if detail.is_empty() => format!("{} {name}: {says}", paint.good("pass ")),
            "pass" => {
                let seen = paint.dim(detail);
                format!("{} {name}: {says}\n      {seen}", paint.good("pass "))
            }
            _ => format!("{} {name}: {}", paint.dim("n/a  "), paint.dim(detail)),
        }
    }
}

/// Everything about a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) r#final: bool,
    pub(super) port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<String>,
    pub(super) backend: &'static str,
    /// The machine, the card and its driver.
    pub(super) facts: Vec<(String, String)>,
    pub(super) rows: Vec<Row>,
    /// What could not be tried, and what it takes.
    pub(super) not_tried: Vec<String>,
    pub(super) interrupted: bool,
}

impl Report {
    /// `(passed, failed, not supported)`.
    pub(super) fn tally(&self) -> (usize, usize, usize) {
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        (count("pass"), count("fail"), count("not supported"))
    }

    pub(super) fn passed(&self) -> bool {
        !self.interrupted && self.tally().1 == 0
    }

    /// The last lines on the terminal.
    pub(super) fn summary(&self, paint: Paint) -> String {
        let (passed, failed, skipped) = self.tally();
        let counts = format!("{passed} passed, {failed} failed, {skipped} not supported");
        let mut text = if failed == 0 { paint.good(&counts) } else { paint.bad(&counts) };
        if self.interrupted {
            text.push_str(", interrupted");
        }
        for note in &self.not_tried {
            let _ = write!(text, "\nnot tried: {note}");
        }
        text
    }

    /// The whole report in words.
    fn text(&self) -> String {
        let mut text = format!("linerate selftest of {}", self.port);
        if let Some(peer) = &self.peer {
            let _ = write!(text, " against {peer}");
        }
        text.push('\n');
        for (name, value) in &self.facts {
            let _ = writeln!(text, "{name:<16} {value}");
        }
        let mut part = "";
        for row in &self.rows {
            if row.part != part {
                part = row.part;
                let _ = writeln!(text, "\n{part}");
            }
            let _ = writeln!(text, "{}", row.render(Paint::PLAIN));
        }
        let _ = writeln!(text, "\n{}", self.summary(Paint::PLAIN));
        text
    }

    /// Writes both forms into one file: the words, a line of dashes, the JSON.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let json = serde_json::to_string(self).map_err(Failure::new)?;
        let text = format!("{}\n{DASHES}\n{json}\n", self.text());
        fs::write(path, text).map_err(|e| cannot_write(path, &e))
    }
}

/// Between the words and the JSON.
const DASHES: &str = "---- the same as JSON ----";

pub(super) fn cannot_write(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {}", path.display(), io_text(e)))
        .remedy("choose another file with -w")
}
