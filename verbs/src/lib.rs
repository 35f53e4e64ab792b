//! Ethernet frames through RDMA verbs: raw packet queue pairs with flow steering, for Mellanox
//! and NVIDIA cards (mlx5, mlx4) and for Microsoft's mana.
//!
//! # For application authors
//!
//! ```no_run
//! use linerate_common::FrameRx;
//! use linerate_verbs::{Options, open};
//!
//! let mut options = Options::default();
//! options.flows = vec!["239.1.1.1:5000".parse()?];
//! let (mut rx, _tx) = open("mlx5_0/1", &options)?.split();
//! loop {
//!     rx.poll(64, |frame| println!("{} bytes", frame.bytes.len()))?;
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Only steered flows come here; the kernel keeps the rest. Steering does not join a multicast
//! group: keep a [`Membership`](linerate_common::Membership) beside the port.
//!
//! Rights: CAP_NET_RAW in the initial user namespace, read and write on `/dev/infiniband`, and
//! room to lock the pool's memory. libibverbs is loaded at run time.
//!
//! # For backend authors
//!
//! Everything made from a context holds an `Arc` of it, so the order in which the library wants
//! its objects destroyed (flow, queue pair, completion queue, channel, memory, domain, context)
//! holds by itself. Receiving and sending use one queue pair each, so that each half has one
//! owner and may live on a thread of its own.

mod channel;
mod clock;
mod counter;
mod cq;
mod device;
mod error;
mod event;
mod flow;
mod library;
mod memory;
mod port;
mod qp;
mod queue;
mod rx;
mod seats;
mod spread;
mod steering;
mod tx;
pub mod ud;

pub use counter::NoBuffer;
pub use device::{Caps, Context, PortState, devices, interface_of_port, port_of_interface};
pub use flow::{FlowMode, FlowRule};
pub use library::Library;
pub use port::{Options, Port, open, open_on};
pub use rx::VerbsRx;
pub use spread::Spread;
pub use tx::VerbsTx;
