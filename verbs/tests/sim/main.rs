//! The verbs backend on simulated devices under the real libibverbs.

#![allow(clippy::unwrap_used)]

#[macro_use]
mod pair;
mod conformance;
mod faults;
mod frames;
mod offloads;
mod recovery;
mod setup_failures;
mod spread;
mod steering;
