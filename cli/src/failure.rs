//! Why a command failed: one line for the user, and the exit status.

use std::fmt;
use std::process::ExitCode;

/// Exit status of a run that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// 1: a port, a file or the disk failed.
    Failed,
    /// 2: the arguments make no sense.
    Usage,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        match status {
            Status::Failed => Self::from(1),
            Status::Usage => Self::from(2),
        }
    }
}

/// What went wrong, with the remedy in the same line: `what; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: Status,
    /// Has the user been told already?
    pub(crate) told: bool,
    text: String,
}

impl Failure {
    /// Something outside the command line failed.
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self { status: Status::Failed, told: false, text: one_line(&what.to_string()) }
    }

    /// The arguments cannot be followed.
    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self { status: Status::Usage, told: false, text: one_line(&what.to_string()) }
    }

    /// The user has been told, if so: only the exit status is left to give.
    pub(crate) fn told(mut self, told: bool) -> Self {
        self.told = told;
        self
    }

    /// Says first where it happened.
    pub(crate) fn on(mut self, port: &str) -> Self {
        self.text = format!("{port}: {}", self.text);
        self
    }

    /// Appends what to do about it.
    pub(crate) fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.text = format!("{}; {}", self.text, one_line(&remedy.to_string()));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Errors are one line, whatever a file name or a library put into them.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(['\n', '\r']).map(str::trim).collect();
    words.join(" ").trim().to_owned()
}

/// "Permission denied" rather than "Permission denied (os error 13)".
pub(crate) fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::new("a\nb").remedy("c\r\nd");
        assert_eq!(failure.to_string(), "a b; c  d");
    }
}
