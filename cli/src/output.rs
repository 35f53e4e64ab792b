//! Everything the command prints, in one of two voices: text for a person, JSON lines for a
//! program.
//!
//! Results go to stdout; notices, live lines and errors go to stderr. When the capture itself
//! goes to stdout, results move to stderr. Colours and live lines appear on a terminal only, and
//! `NO_COLOR` turns colours off. A reader that closes its end early is no error: what can no
//! longer be printed is dropped.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Errors only.
    Quiet,
    /// Results and notices.
    Normal,
    /// Details too.
    Verbose,
}

/// Where the command's words go.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    level: Level,
    results_on_stderr: bool,
    stderr_is_terminal: bool,
    closed: Cell<bool>,
    live: RefCell<bool>,
}

impl Output {
    /// For stdout and stderr as they are.
    pub(crate) fn new(json: bool, level: Level) -> Self {
        Self {
            json,
            level,
            results_on_stderr: false,
            stderr_is_terminal: std::io::stderr().is_terminal(),
            closed: Cell::new(false),
            live: RefCell::new(false),
        }
    }

    /// Keeps stdout free for a capture.
    pub(crate) fn keep_stdout_free(&mut self) {
        self.results_on_stderr = true;
    }

    /// JSON lines instead of text?
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Did the user ask for details?
    pub(crate) fn is_verbose(&self) -> bool {
        self.level >= Level::Verbose
    }

    /// Has the reader of our results gone away?
    pub(crate) fn closed(&self) -> bool {
        self.closed.get()
    }

    /// Colours for the stream that results go to.
    pub(crate) fn paint(&self) -> Paint {
        let terminal = if self.results_on_stderr {
            self.stderr_is_terminal
        } else {
            std::io::stdout().is_terminal()
        };
        Paint { on: terminal && colours_wanted() }
    }

    /// A result in words. Silent with `--json` and `--quiet`.
    pub(crate) fn text(&self, text: &str) {
        if !self.json && self.level > Level::Quiet {
            self.end_live();
            self.print(text);
        }
    }

    /// A result as one JSON line.
    pub(crate) fn json(&self, value: &impl Serialize) {
        if !self.json {
            return;
        }
        match serde_json::to_string(value) {
            Ok(line) => self.print(&line),
            Err(e) => self.warn(&format!("cannot write JSON: {e}")),
        }
    }

    /// Something worth knowing, on stderr.
    pub(crate) fn notice(&self, text: &str) {
        if self.level > Level::Quiet && !self.json {
            self.warn(text);
        }
    }

    /// Something for those who asked with `-v`, on stderr.
    pub(crate) fn detail(&self, text: &str) {
        if self.level >= Level::Verbose {
            self.warn(text);
        }
    }

    /// Would [`live`](Self::live) show anything?
    pub(crate) fn shows_live(&self) -> bool {
        self.stderr_is_terminal && !self.json && self.level > Level::Quiet
    }

    /// Replaces the live line, on a terminal only.
    pub(crate) fn live(&self, text: &str) {
        if self.shows_live() {
            let cut: String = text.chars().take(79).collect();
            let _ = write!(std::io::stderr(), "\r\x1b[2K{cut}");
            *self.live.borrow_mut() = true;
        }
    }

    /// Takes the live line away.
    pub(crate) fn end_live(&self) {
        if self.live.replace(false) {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }

    /// The line that ends a failed command.
    pub(crate) fn failure(&self, failure: &Failure) {
        #[derive(Serialize)]
        struct Line<'a> {
            error: &'a str,
        }
        if self.json {
            self.json(&Line { error: &failure.to_string() });
        } else {
            self.warn(&failure.to_string());
        }
    }

    fn warn(&self, text: &str) {
        self.end_live();
        let _ = writeln!(std::io::stderr(), "linerate: {text}");
    }

    fn print(&self, text: &str) {
        let done = if self.results_on_stderr {
            writeln!(std::io::stderr(), "{text}")
        } else {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{text}").and_then(|()| stdout.flush())
        };
        if done.is_err() {
            self.closed.set(true);
        }
    }
}

fn colours_wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Terminal colours, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// No colours.
    pub(crate) const PLAIN: Self = Self { on: false };

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// All is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Look here.
    pub(crate) fn bad(self, text: &str) -> String {
        self.wrap("31;1", text)
    }

    /// Bars and other drawings.
    pub(crate) fn ink(self, text: &str) -> String {
        self.wrap("36", text)
    }
}
