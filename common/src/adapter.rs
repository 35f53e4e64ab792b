//! Queues around queues: each of these is a [`FrameRx`](crate::FrameRx) or
//! [`FrameTx`](crate::FrameTx) over another one.
//!
//! # For application authors
//!
//! ```
//! use linerate_common::adapter::{Fault, Faults, Tap};
//! use linerate_common::loopback::{self, Options};
//! use linerate_common::{FrameRx, FrameTx, RxFrame};
//!
//! let (mut tx, rx) = loopback::pair(&Options::default())?;
//! // A line that loses one frame in ten, and a look at what is left of it.
//! let rx = Fault::new(rx, Faults { drop: 0.1, seed: 7, ..Faults::default() });
//! let mut seen = 0;
//! let mut rx = Tap::new(rx, |_frame: &RxFrame<'_>| seen += 1);
//! for _ in 0..100 {
//!     tx.send(b"tick")?;
//! }
//! tx.kick()?;
//! let mut delivered = 0;
//! while rx.poll(64, |_| delivered += 1)? > 0 {}
//! assert_eq!(delivered + rx.stats().filtered, 100);
//! drop(rx);
//! assert_eq!(seen, delivered);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Queues can also be lent to a loop or an adapter: `&mut rx`, `&mut tx` and `Box<dyn FrameRx>`
//! are queues too.
//!
//! # For backend authors
//!
//! An adapter passes the conformance suite when what it wraps does.

mod by_ref;
mod draft;
mod fault;
#[cfg(feature = "latency")]
mod latency;
mod rng;
mod tap;

pub use fault::{Fault, FaultCounts, Faults};
#[cfg(feature = "latency")]
pub use latency::Latency;
pub use tap::{FrameSink, Tap};
