//! The rules that every pair of queues obeys, as functions that can be run on it.
//!
//! # For backend authors
//!
//! Implement [`Rig`]: how to open a connected pair, what lies between the two ends, and which
//! capabilities they have. [`run_all`] then tries every [rule](rules) on fresh pairs. Failures
//! come back as values, so the same suite serves `cargo test` and a self-test on a user's card.
//!
//! ```
//! use linerate_common::conformance::{Rig, Wire, run_all};
//! use linerate_common::loopback::{self, LoopRx, LoopTx, Options};
//! use linerate_common::{BufRx, SetupError};
//!
//! struct Cable;
//!
//! impl Rig for Cable {
//!     type Tx = LoopTx;
//!     type Rx = LoopRx;
//!
//!     fn pair(&mut self) -> Result<(LoopTx, LoopRx), SetupError> {
//!         loopback::pair(&Options::default())
//!     }
//!     fn wire(&self) -> Wire {
//!         Wire { quiet: true, ..Wire::default() } // nobody else sends here
//!     }
//!     fn buf_rx<'q>(&self, rx: &'q mut LoopRx) -> Option<&'q mut dyn BufRx> {
//!         Some(rx)
//!     }
//! }
//!
//! let report = run_all(&mut Cable);
//! assert!(report.is_clean(), "{report}");
//! ```
//!
//! A queue's handler is made to panic on purpose, so the suite needs unwinding; it keeps its own
//! panics off the terminal.

mod buffers;
mod capabilities;
mod link;
mod quiet;
mod report;
mod rig;
mod send;
mod stream;
mod window;

pub use report::{Outcome, Report, Row};
pub use rig::{Rig, Wire};

use link::{Checked, Link, Verdict};

/// One rule of the traits' contract.
pub struct Rule<R: Rig> {
    /// Its name, a Rust identifier.
    pub name: &'static str,
    /// What it demands, as a sentence.
    pub says: &'static str,
    check: fn(&mut Link<'_, R>) -> Checked,
}

impl<R: Rig> Rule<R> {
    /// Tries the rule on a fresh pair.
    pub fn run(&self, rig: &mut R) -> Outcome {
        if cfg!(not(panic = "unwind")) {
            return Outcome::NotSupported("built with panic=abort".into());
        }
        let result = quiet::catch(|| {
            let mut link =
                Link::open(rig).map_err(|e| Verdict::Fail(format!("cannot open: {e}")))?;
            (self.check)(&mut link)
        });
        match result {
            Ok(Ok(())) => Outcome::Pass,
            Ok(Err(Verdict::NotSupported(why))) => Outcome::NotSupported(why),
            Ok(Err(Verdict::Fail(what))) => Outcome::Fail(what),
            Err(panic) => Outcome::Fail(format!("panicked: {panic}")),
        }
    }
}

impl<R: Rig> std::fmt::Debug for Rule<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All rules, in the order in which [`run_all`] tries them.
#[must_use]
pub fn rules<R: Rig>() -> Vec<Rule<R>> {
    [window::rules(), stream::rules(), send::rules(), buffers::rules(), capabilities::rules()]
        .into_iter()
        .flatten()
        .map(|(name, says, check)| Rule { name, says, check })
        .collect()
}

/// Tries every rule. Rigs on real kernels take some seconds.
pub fn run_all<R: Rig>(rig: &mut R) -> Report {
    let rows = rules::<R>()
        .iter()
        .map(|rule| Row { rule: rule.name, says: rule.says, outcome: rule.run(rig) })
        .collect();
    Report { rows }
}
