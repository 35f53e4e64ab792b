//! A simulated verbs device: a provider in Rust **under the real libibverbs**.
//!
//! No kernel RDMA, no root: libibverbs opens the device, keeps its objects and dispatches every
//! call as it does for a card, and what answers is this module. Raw packet queue pairs, flow
//! steering, extended completion queues with timestamps, completion channels, asynchronous
//! events, and the faults in [`Faults`].
//!
//! ```no_run
//! use linerate_sim::{Plug, verbs::Device};
//!
//! let (a, b) = Plug::pair();
//! let (a, b) = (Device::new("simv0", a)?, Device::new("simv1", b)?);
//! // Give `a.raw()` to `ibv_open_device`, or to `Context::from_device` of linerate-verbs.
//! # let _ = (a.raw(), b.raw());
//! # Ok::<(), linerate_sim::verbs::Unavailable>(())
//! ```
//!
//! The interface between libibverbs and its providers is private and renumbered at any change.
//! This is written for number 34 (rdma-core 34 to 57); elsewhere [`Device::new`] says so.
//!
//! Other people's programs run on it too: [`register_driver`] makes it a driver that libibverbs
//! loads (`sim/verbs-driver`).
//!
//! Memory that work requests point to is written by the device's own thread, as a card would by
//! DMA: behind the back of the program, between posting and completion.

mod abi;
mod checksum;
mod cq;
mod device;
mod driver;
mod faults;
mod flow;
mod hardware;
mod provider;
mod qp;
mod spread;

pub use abi::Unavailable;
pub use device::Device;
pub use driver::register_driver;
pub use faults::{Faults, Forged, RecvFault, SendFault, StampKind};
pub use provider::api;
