//! ef_vi: frames of Solarflare and AMD cards, past the kernel.
//!
//! # For application authors
//!
//! Use the `linerate` crate, or this one when you want what only these cards have: CTPIO and
//! programmed I/O, transmit alternatives, warming, frames that are still arriving.
//!
//! ```no_run
//! use linerate_common::{FlowSpec, FrameRx, FrameTx, Steer};
//! use linerate_efvi::{Options, open};
//!
//! let (mut rx, mut tx) = open("eth2", &Options::default())?.split();
//! rx.add(&"239.1.1.1:5000".parse::<FlowSpec>()?)?;
//! loop {
//!     let mut answer = [0; 60];
//!     let n = rx.poll(16, |frame| answer[..12].copy_from_slice(&frame.bytes[..12]))?;
//!     if n > 0 && tx.send(&answer)? {
//!         tx.kick()?;
//!     }
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * A queue has one owner and may move between threads; libciul has no locks.
//! * `commit` on the CTPIO and PIO paths has already sent the frame; on the DMA path `kick` does.
//! * Counters: `no_buffer` is the card's "no descriptor" count, `crc`, `truncated` and
//!   `malformed` its discards ([`Discards`] has the reasons), `filtered` what
//!   [`SharedRx::own_flows_only`] dropped.
//! * [`ErrorKind::QueueLost`](linerate_common::ErrorKind::QueueLost) means that the event queue
//!   overflowed or the card was reset: [`EfviRx::rebuild`].
//! * A child that a program forks must not use the queues, and keeps the card's driver handle
//!   open until it execs or exits.
//!
//! # For backend authors
//!
//! Each queue is a `Session` (driver handle, protection domain, VI, registered memory) and a
//! `FrameCache`. The session closes before the cache returns what the card had. All calls go
//! through [`linerate_efvi_sys::Library`], so everything here runs on `linerate-sim`.

mod alternatives;
mod caps;
mod discard;
mod error;
mod filter;
mod future;
mod options;
mod pio;
mod port;
mod ring_rx;
mod rx;
mod session;
mod set;
mod shared_rx;
mod stamp;
mod tx;
mod vistats;
mod warm;

pub use caps::Caps;
pub use discard::Discards;
pub use future::Future;
pub use linerate_efvi_sys::{Library, NoSdk, SDK, Sdk};
pub use options::{Everything, Options, Push, SendPath};
pub use port::{Port, PortInfo, open, open_rx, open_set, open_tx};
pub use ring_rx::RingRx;
pub use rx::EfviRx;
pub use shared_rx::SharedRx;
pub use stamp::StampState;
pub use tx::{EfviTx, Path, PathCounts, Sent};
pub use warm::Warming;
