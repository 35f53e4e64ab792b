//! Queues of any backend, chosen at run time: an enum each, matched once per burst.

mod rx;
mod tx;

pub use rx::{AnyRx, CustomRx};
pub use tx::AnyTx;
