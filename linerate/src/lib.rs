//! Frames off a network card: ef_vi, verbs, ExaNIC, AF_XDP, AF_PACKET and UDP behind one
//! zero-copy trait.
//!
//! Write a market-data or trading program once. On a laptop it runs over a UDP socket without
//! any rights, in CI over a veth pair or a capture file, and in the rack over the card's own
//! kernel bypass, with no change but the name of the port.
//!
//! ```no_run
//! use linerate::prelude::*;
//!
//! // The best backend that works for this user on this interface; joins the group.
//! let mut port = linerate::port("eth2").flow("239.1.1.1:5000".parse()?).open()?;
//! for candidate in port.choice() {
//!     println!("{}: {}, {}", candidate.backend, candidate.verdict, candidate.reason);
//! }
//! loop {
//!     // Up to 64 frames at a time, lent from where the card put them.
//!     port.rx[0].poll(64, |frame| {
//!         println!("{} ns: {} bytes", frame.meta.ts_ns, frame.bytes.len());
//!     })?;
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Ports
//!
//! A port's name is an interface, or a backend with its target and options:
//!
//! | name | what it opens |
//! |---|---|
//! | `eth2` | the best backend that works here; [`Port::choice`] tells which and why not the others |
//! | `afxdp:eth2?queue=0..3&mode=zerocopy` | AF_XDP sockets |
//! | `afpacket:eth2?ring_mb=64` | an AF_PACKET ring |
//! | `udp:eth2` | UDP sockets: no rights needed |
//! | `efvi:eth2`, `verbs:mlx5_0/1`, `exanic:exanic0/0` | a vendor's kernel bypass |
//! | `sim:verbs?peer=loop`, `sim:exanic?peer=veth0`, `sim:efvi?cable=NAME` | a simulated card: its cable goes back into itself, to a network interface, or to the other port of that cable |
//! | `pcap:FILE` | a capture file, see [`mod@file`] |
//!
//! [`open`] takes the name alone; [`port()`] also takes flows, direction and the rest. [`ports`]
//! lists the interfaces with the verdict on each backend. An error is one line that says what to
//! do about it.
//!
//! The order of an automatic choice is: the vendor's bypass when the interface's driver is the
//! vendor's, AF_XDP, AF_PACKET, UDP. A backend is passed over when its driver, library or rights
//! are missing, when it cannot select the flows that were asked for, or when opening it fails.
//!
//! # Queues
//!
//! [`AnyRx`] and [`AnyTx`] are enums over the backends' queues, matched once per burst. They
//! implement [`FrameRx`] and [`FrameTx`], where the rules are; [`loops`] has event loops over
//! one or several of them, [`pool`] the DMA buffers behind [`BufRx`] and [`BufTx`].
//!
//! What only one backend can do is reached through that backend's crate, which is a module here
//! under its feature: `linerate::afxdp`'s drop rules, `linerate::exanic`'s cut-through receive.
//! The queues in [`AnyRx`] and [`AnyTx`] are its types. [`Preloaded`] fires frames that were made
//! ready ahead of time, in the card where the card can.
//!
//! # Features
//!
//! One per backend, additive; none changes a trait. `default` is what the kernel always offers.
//!
//! | feature | backend | in `default` |
//! |---|---|---|
//! | `afpacket` | AF_PACKET | yes |
//! | `udp` | UDP sockets | yes |
//! | `afxdp` | AF_XDP | yes |
//! | `efvi` | ef_vi (Solarflare, AMD) | |
//! | `verbs` | raw packet queues over libibverbs (Mellanox, NVIDIA) | |
//! | `exanic` | libexanic (Exablaze, Cisco) | |
//! | `sim` | simulated cards | |
//! | `full` | all of them | |
//!
//! Real Solarflare, AMD and ExaNIC cards also need `sdk`: it looks for the vendor's static library
//! at build time and links it. Without one these backends compile, and run on simulated cards.
//! libibverbs is loaded at run time.
//!
//! Beside these, `smoltcp` makes a port a device of that TCP/IP stack, `latency` has the adapter
//! that measures latencies, and `conformance` the rules of the traits as functions, for testing
//! queues of your own.
//!
//! # For backend authors
//!
//! Depend on `linerate-common`, not on this crate. A queue that this crate does not know travels
//! as [`AnyRx::Custom`] or [`AnyTx::Custom`].

// What several backends share has no user where some are left out.
#![cfg_attr(not(feature = "full"), allow(dead_code))]

mod any;
mod arm;
mod backend;
mod choice;
mod error;
pub mod file;
mod interface;
mod join;
mod port;
mod preload;
pub mod prelude;
mod rights;
#[cfg(feature = "smoltcp")]
pub mod smoltcp;
mod uri;

pub use any::{AnyRx, AnyTx, CustomRx};
pub use backend::Backend;
pub use choice::{Candidate, Verdict};
pub use error::OpenError;
pub use interface::{DriverSettings, Interface, XdpSocket, xdp_sockets};
pub use linerate_common::*;
pub use port::{Direction, Port, PortBuilder, PortGuard, PortInfo, ports};
pub use preload::{Preloaded, Waits};

#[cfg(feature = "afpacket")]
#[doc(inline)]
pub use linerate_afpacket as afpacket;
#[cfg(feature = "afxdp")]
#[doc(inline)]
pub use linerate_afxdp as afxdp;
#[cfg(feature = "efvi")]
#[doc(inline)]
pub use linerate_efvi as efvi;
#[cfg(feature = "exanic")]
#[doc(inline)]
pub use linerate_exanic as exanic;
#[cfg(feature = "sim")]
#[doc(inline)]
pub use linerate_sim as sim;
#[cfg(feature = "udp")]
#[doc(inline)]
pub use linerate_udp as udp;
#[cfg(feature = "verbs")]
#[doc(inline)]
pub use linerate_verbs as verbs;

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
