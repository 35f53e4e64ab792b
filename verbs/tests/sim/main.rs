//! The verbs backend on simulated devices under the real libibverbs.

#![allow(clippy::unwrap_used)]

#[macro_use]
mod pair;
mod conformance;
mod faults;
mod setup_failures;
