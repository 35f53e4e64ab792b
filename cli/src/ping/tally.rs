//! What became of the frames of a run.

use std::sync::atomic::{AtomicBool, AtomicU64};

use linerate::TxStats;

use crate::failure::Failure;

/// What the main thread sees and says.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// End early.
    pub(crate) stop: AtomicBool,
    pub(crate) sent: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) lost: AtomicU64,
}

/// What became of the frames of one size, without those of the warm-up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// No answer in time.
    pub(crate) lost: u64,
}

/// Frames that came but answer nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stray {
    /// Answers to frames that had been given up.
    pub(crate) late: u64,
    /// Second answers.
    pub(crate) duplicates: u64,
    /// Not as they were sent.
    pub(crate) damaged: u64,
    /// Not ours.
    pub(crate) foreign: u64,
    /// Answers that count, but whose stamps are of a clock that was set meanwhile.
    pub(crate) torn: u64,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) tallies: Vec<Tally>,
    pub(crate) stray: Stray,
    pub(crate) queue: TxStats,
    pub(crate) failure: Option<Failure>,
}
