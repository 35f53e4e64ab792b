//! One line of the doctor's.

use serde::Serialize;

use crate::output::Paint;

/// How bad it is. In ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be, or nothing that matters.
    Ok,
    /// Could not be seen.
    Unknown,
    /// Costs frames or time in bad moments.
    Warn,
    /// Costs frames or time for sure.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    /// What it belongs to: host, cpu 3, eth2.
    area: String,
    /// A short name that does not change.
    check: &'static str,
    pub(super) verdict: Verdict,
    observed: String,
    /// Why it matters.
    why: &'static str,
    /// Where it was read.
    source: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    pub(super) fn new(
        area: impl Into<String>,
        check: &'static str,
        why: &'static str,
        source: impl Into<String>,
    ) -> Self {
        Self {
            area: area.into(),
            check,
            verdict: Verdict::Unknown,
            observed: "not there".into(),
            why,
            source: source.into(),
            fix: None,
        }
    }

    /// With what was seen, and the verdict.
    pub(super) fn seen(mut self, verdict: Verdict, observed: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.observed = observed.into();
        self
    }

    /// With the command that mends it. Kept only where there is something to mend.
    pub(super) fn fix(mut self, command: impl Into<String>) -> Self {
        if self.verdict >= Verdict::Warn {
            self.fix = Some(command.into());
        }
        self
    }

    pub(super) fn command(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// The name of the check and what was seen, for a comment.
    pub(super) fn title(&self) -> String {
        format!("{}: {} {}", self.area, self.check, self.observed)
    }

    #[cfg(test)]
    pub(super) fn check(&self) -> &str {
        self.check
    }

    /// A line; where something is wrong also why it matters and what to do.
    pub(super) fn render(&self, verbose: bool, paint: Paint) -> String {
        let Self { area, check, observed, .. } = self;
        let word = match self.verdict {
            Verdict::Ok => paint.good("ok     "),
            Verdict::Unknown => paint.dim("unknown"),
            Verdict::Warn => paint.bold("warn   "),
            Verdict::Fail => paint.bad("FAIL   "),
        };
        let mut text = format!("{area:<9} {word} {check}: {observed}");
        if verbose || self.verdict >= Verdict::Warn {
            let why = format!("{} ({})", self.why, self.source);
            text.push_str(&format!("\n{:18}{}", "", paint.dim(&why)));
        }
        if let Some(fix) = &self.fix {
            text.push_str(&format!("\n{:18}fix: {fix}", ""));
        }
        text
    }
}
