//! The frames that the instruments send to each other: UDP frames that carry a number, a time
//! and a check sum of their own, so that either end knows what is missing and what is damaged.

mod follow;
mod mark;
mod origin;
mod stencil;

pub(crate) use follow::Follow;
pub(crate) use mark::{Kind, MARK_BYTES, Mark, Unmarked};
pub(crate) use origin::Origin;
pub(crate) use stencil::Stencil;

use std::hash::{BuildHasher, Hasher, RandomState};

/// Shortest frame an Ethernet carries, without check sequence.
pub(crate) const MIN_FRAME: usize = 60;

/// A number that differs from run to run: to tell senders apart, not to hide anything.
pub(crate) fn any_number() -> u64 {
    RandomState::new().build_hasher().finish()
}
