//! Loops to be measured, over simulated cards, and the same loops in C.
//!
//! A [`Case`] is one loop over one card: `stage` lets the card bring frames (or take what was
//! sent), outside of what is measured; `hot` is what is counted. The C loops in `twins/` run
//! over the same simulated libraries and read the same memory, and their sums must be the same.
//!
//! What is counted this way is the cost of the abstraction, in instructions. It says nothing about
//! how fast a card is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measuring program may just stop")]

pub mod callgrind;
mod cards;
pub mod compare;
mod feed;
pub mod frames;
pub mod meter;
mod sink;
pub mod twins;

pub use cards::{CARDS, LOOPS, case};
pub use sink::Sink;

/// Frames of a receive round, and of a send round: one burst.
pub const ROUND_RX: usize = 256;
/// As above; a round of sending is what goes out with one doorbell.
pub const ROUND_TX: usize = 32;

/// A loop over a card.
pub struct Case {
    /// Lets the card do its part.
    pub stage: Box<dyn FnMut()>,
    /// The loop: returns how many frames went through it.
    pub hot: Box<dyn FnMut() -> usize>,
    /// What the loop has seen, to compare with its twin.
    pub seen: Box<dyn Fn() -> Sink>,
}

/// Runs `hot`. Counting is switched on by this function's name.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn linerate_bench_measured(hot: &mut dyn FnMut() -> usize) -> usize {
    hot()
}
