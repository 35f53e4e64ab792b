//! Ours and other programs, measured in turns in one run.
//!
//! A [`Case`] asks one question of several [`Contender`]s: each is run with each [`Load`], in
//! turns (A B C, A B C, ...), so that what disturbs the machine disturbs all of them alike. What a
//! run gives is a [`Sample`]; the median of the rounds goes into a table, and [`Target`]s compare
//! medians. `bench/README.md` says how to add a case.

mod bpf;
pub mod cases;
pub mod interrupt;
pub mod lab;
pub mod machine;
pub mod peers;
pub mod perftest;
pub mod program;
pub mod report;
pub mod results;
pub mod run;
pub mod stats;
pub mod verdict;
pub mod xdp;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lab::Lab;
use serde::{Deserialize, Serialize};
use xdp::Bytes;

/// One question.
pub struct Case {
    /// For `--only`, and a key in the results: `receive-afxdp`.
    pub name: &'static str,
    /// Heading of its table.
    pub title: &'static str,
    /// What was done and how it was counted, below the heading. Markdown.
    pub text: &'static str,
    /// What is shown of each load.
    pub columns: Vec<Column>,
    /// What all contenders are run with.
    pub loads: Vec<Load>,
    /// Who is compared, in the order of their turns.
    pub contenders: Vec<Contender>,
    /// What must hold.
    pub targets: Vec<Target>,
}

/// A number of a [`Sample`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its key there.
    pub key: String,
    /// Its heading, with the unit.
    pub heading: String,
    /// Digits after the point.
    pub digits: usize,
}

impl Column {
    /// A number with its key in the sample, its heading, and the digits to show.
    #[must_use]
    pub fn new(key: &str, heading: &str, digits: usize) -> Self {
        Self { key: key.into(), heading: heading.into(), digits }
    }
}

/// What goes over the cable, or another setting that is varied.
#[derive(Debug, Clone)]
pub struct Load {
    /// Name in the table: `64 B`.
    pub label: &'static str,
    /// Lengths of frames, where they matter.
    pub bytes: Bytes,
    /// Anything else that varies; 0 where nothing does.
    pub number: u64,
    /// Is it part of `--quick`?
    pub quick: bool,
}

impl Load {
    /// Frames of one length, named by their length on the wire.
    #[must_use]
    pub fn frames(label: &'static str, bytes: usize, quick: bool) -> Self {
        Self { label, bytes: Bytes::Each(bytes), number: 0, quick }
    }

    /// Bytes of the longest frame.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self.bytes {
            Bytes::Each(bytes) => bytes,
            Bytes::Mix => xdp::IMIX[2].1,
        }
    }

    /// As a word for the command line of our loops.
    #[must_use]
    pub fn word(&self) -> String {
        match self.bytes {
            Bytes::Each(bytes) => bytes.to_string(),
            Bytes::Mix => "imix".into(),
        }
    }
}

/// Frames of 64, 256 and 1400 bytes on the wire, with check sequence, and a mix.
#[must_use]
pub fn frame_loads() -> Vec<Load> {
    vec![
        Load::frames("64 B", 60, true),
        Load::frames("256 B", 252, false),
        Load::frames("1400 B", 1396, true),
        Load { label: "IMIX", bytes: Bytes::Mix, number: 0, quick: false },
    ]
}

/// What a contender is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// linerate.
    Ours,
    /// The same loop, written in C for this comparison.
    Twin,
    /// Somebody else's program or library.
    Peer,
    /// What the kernel, the disk or the generator could do at most: no competitor.
    Bound,
}

/// What one run gave, by key: rates in Mpps, times in ns.
pub type Sample = BTreeMap<&'static str, f64>;

/// How a contender is run once.
pub type Run = Box<dyn FnMut(&Ground<'_>, &Load) -> Result<Sample, String>>;

/// Where and how long to run.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The namespaces.
    pub lab: &'a Lab,
    /// How long a load lasts.
    pub time: Duration,
}

/// A program that is compared.
pub struct Contender {
    /// Name in the table.
    pub name: &'static str,
    /// What it is to us.
    pub class: Class,
    /// Runs it once. An error is a reason, shown in the table.
    pub run: Run,
}

impl Contender {
    /// Anything that can be run.
    pub fn new(
        name: &'static str,
        class: Class,
        run: impl FnMut(&Ground<'_>, &Load) -> Result<Sample, String> + 'static,
    ) -> Self {
        Self { name, class, run: Box::new(run) }
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What must hold between one of ours and the best of others, with every load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// As it was set.
    pub text: String,
    /// Our contender.
    pub ours: String,
    /// Those that it is held against; those that did not run are left out.
    pub rivals: Vec<String>,
    /// What is compared.
    pub column: String,
    /// Which ratio of ours to the best of them is wanted.
    pub rule: Rule,
}

/// A wanted ratio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Rule {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
    /// Not a ratio: our number itself, at most this. Without rivals.
    Below(f64),
}

impl Target {
    /// A target in words, and who is compared by which column.
    #[must_use]
    pub fn new(text: &str, ours: &str, rivals: &[&str], column: &str, rule: Rule) -> Self {
        Self {
            text: text.into(),
            ours: ours.into(),
            rivals: rivals.iter().map(|&name| name.into()).collect(),
            column: column.into(),
            rule,
        }
    }
}
