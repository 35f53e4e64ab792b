//! UDP.

mod batch;
mod control;
mod error;
mod headers;
mod inlet;
mod inlets;
mod mail;
mod outbox;
mod plan;
mod port;
mod rx;
mod stamps;
mod strip;
mod sys;
mod tx;

pub use port::{Gso, Options, Port, open};
pub use rx::UdpRx;
pub use tx::UdpTx;
