//! The words that we share with the kernel, in two kinds: the standard library's, and loom's,
//! whose models try every order in which the two sides can meet (`tests/trust.sh loom`).

#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicU32, fence};

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicU32, fence};
