//! ExaNIC (Exablaze, Cisco Nexus SmartNIC) through libexanic.
//!
//! # For application authors
//!
//! ```no_run
//! use linerate_common::{FrameRx, FrameTx};
//! use linerate_exanic::{Options, open};
//!
//! let port = open("exanic0/0", &Options::default())?;
//! port.notices().iter().for_each(|n| eprintln!("{n}"));
//! let (mut rx, mut tx) = port.split()?;
//! loop {
//!     rx.poll(64, |frame| println!("{} bytes at {} ns", frame.bytes.len(), frame.meta.ts_ns))?;
//!     tx.send(&[0xff; 60])?;
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * [`ExanicRx`] and [`ExanicTx`] are the queues of the common traits.
//! * [`CutThrough`] shows the first bytes of a frame while the rest is still on the wire.
//! * [`Preloaded`] holds frames in the card, to be fired with one store.
//! * [`Port::hashed`] spreads flows over several readers.
//!
//! There is nothing to sleep on: the card raises no interrupt for programs, so `waitable()` is
//! `None` and a queue is polled. A queue and its card belong together by an `Arc`: drop them in
//! any order.
//!
//! The default ring is read beside the kernel, which sees the same frames. Steered flows
//! ([`Options::flows`]) come to this program only. Joining multicast groups is not done here.
//!
//! # For backend authors
//!
//! libexanic opens the card, hands out rings and transmit memory, sets rules, and is called for
//! nothing else: its receive functions wait without limit for the rest of a frame, and its
//! transmit functions for room. The ring is walked in `assemble/mod.rs`, transmit memory is
//! managed in `sender.rs`, both through public fields of the library's structs. Everything in the
//! library that touches its globals runs under one lock (`library.rs`); who may read which ring is
//! in `claims.rs`.
//!
//! The table of functions can be a simulated card's: [`open_with`].

mod assemble;
mod claims;
mod clock;
mod cut_through;
#[cfg_attr(all(loom, test), allow(dead_code))] // a model opens no card
mod device;
mod error;
mod feedback;
mod filter;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod hash;
mod library;
mod port;
mod preload;
mod promiscuous;
mod reader;
mod ring;
mod room;
mod rx;
#[cfg(not(all(loom, test)))]
mod sender;
#[cfg(all(loom, test))]
#[path = "sender/model.rs"]
mod sender;
mod shared;
mod stamp;
mod tx;

pub use cut_through::{Arrival, Chunk, CutThrough};
pub use device::{
    Device, PortCounters, PortStatus, port_of_interface, port_of_interface_with, ports, ports_with,
};
pub use hash::HashOver;
pub use linerate_exanic_sys::Api;
pub use port::{BadFrames, Options, Port, RxBuffer, open, open_with};
pub use preload::Preloaded;
pub use rx::{ExanicRx, FrameStatus};
pub use tx::{CardFrame, ExanicTx};
