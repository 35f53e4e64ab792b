//! Frames off a network card: ef_vi, verbs, ExaNIC, AF_XDP, AF_PACKET and UDP behind one zero-copy trait.

#![allow(dead_code)] // Until the first backend is wired in.

mod any;
mod arm;
mod backend;
mod choice;
mod error;
pub mod file;
mod interface;
mod port;
mod uri;

pub use any::{AnyRx, AnyTx, CustomRx};
pub use backend::Backend;
pub use choice::{Candidate, Verdict};
pub use error::OpenError;
pub use interface::Interface;
pub use linerate_common::*;
pub use port::{Direction, Port, PortBuilder, PortGuard, PortInfo, ports};

/// Opens a port for receiving every frame, and for sending where that is possible.
///
/// # Errors
///
/// As [`PortBuilder::open`].
pub fn open(uri: &str) -> Result<Port, OpenError> {
    port(uri).open()
}

/// A port to be opened for certain flows or in a certain way.
pub fn port(uri: &str) -> PortBuilder {
    PortBuilder::new(uri)
}
