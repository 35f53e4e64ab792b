//! AF_PACKET backend of linerate: frames of any Linux interface, through the kernel.
//!
//! # For application authors
//!
//! Works on every interface that carries Ethernet, with any driver, and beside everything else
//! that uses the interface: the kernel's own stack gets its copy of each frame as before. Needs
//! CAP_NET_RAW and Linux 4.20. [`open`] gives the queues of a port:
//!
//! * [`PacketRx`]: a ring that is read without system calls, in one of two shapes ([`Ring`]).
//!   Blocks ([`Ring::THROUGHPUT`], the default) move most frames per second but hold a frame back
//!   for up to a millisecond; slots ([`Ring::LOW_LATENCY`]) show each frame at once.
//! * [`PacketTx`]: groups of frames, one system call for each group.
//!
//! Which frames reach the ring is decided in the kernel, by a filter made of the port's
//! [`FlowSpec`](linerate_common::FlowSpec)s; every form of flow is supported, and
//! [`Steer`](linerate_common::Steer) changes them while the queue runs. Joining multicast groups
//! is not the filter's business: see `Membership` of `linerate-common`, or ask for
//! [`all_multicast`](Options::all_multicast).
//!
//! What a frame's bytes are: exactly those of the wire, from the destination MAC address to the
//! last byte before the frame check sequence, padding and trailers included. The VLAN tag that
//! the kernel takes out is put back (`VLAN_RESTORED`). Two kinds of frame were never on a wire in
//! this form, and say so: those that the kernel merged (`MERGED`), and those of a neighbour on
//! the same host that left their checksum to the card (`CSUM_PARTIAL`).
//!
//! ```no_run
//! use linerate_common::{FrameRx, FrameTx};
//!
//! let options = linerate_afpacket::Options::default();
//! let (mut rx, tx) = linerate_afpacket::open("eth2", &options)?.into_parts();
//! if let Some(mut tx) = tx {
//!     tx.send(&[0xff; 60])?;
//!     tx.kick()?;
//! }
//! let n = rx[0].poll(64, |frame| println!("{:?}", frame.meta))?;
//! println!("{n} frames, {} lost", rx[0].stats().lost());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # For backend authors
//!
//! The filter compiler is the kernel's half of `FlowSpec::matches`, and is tested against it frame
//! by frame in the kernel: a new form of flow starts there. Everything that differs between the
//! two ring versions is in `blocks` and `frames`; what a frame is, in `decode`.

mod blocks;
mod decode;
mod error;
mod filter;
mod frames;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod ledger;
mod link;
#[cfg(not(all(loom, test)))]
mod map;
#[cfg(all(loom, test))]
#[path = "map/model.rs"]
mod map;
#[cfg(all(loom, test))]
mod models;
mod options;
mod phc;
mod port;
#[cfg(all(test, not(loom)))]
mod ring_tests;
mod rules;
mod rx;
mod sys;
mod tx;

pub use options::{Fanout, Options, Ring, Stamps};
pub use port::{Port, open};
pub use rx::PacketRx;
pub use tx::PacketTx;
