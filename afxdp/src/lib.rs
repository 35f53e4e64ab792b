//! AF_XDP backend of linerate: frames past the kernel's stack with any driver, and only those
//! that were asked for.
//!
//! A small program in the driver (XDP) looks at each frame. Flows that a rule asks for go to this
//! process through rings in shared memory, or are dropped on the spot; everything else goes on to
//! the kernel, so that ssh, ARP, IGMP and ordinary sockets work on. Where the driver can, the card
//! writes into the program's memory itself (zero-copy).
//!
//! # For application authors
//!
//! Applications use the `linerate` crate and the URI `afxdp:eth2`. What only this backend has is
//! here: [rules](Rule) that drop, [counts](XdpRx::rules) of what each rule caught, and the
//! [`Options`].
//!
//! ```no_run
//! use linerate_afxdp::{Options, Rule, open};
//! use linerate_common::FrameRx;
//!
//! let mut options = Options::default();
//! options.flows = vec!["239.1.1.1:5000".parse()?];
//! let (mut queues, _) = open("eth2", &options)?.into_parts();
//! // Ahead of all deliveries: this sender is dropped in the driver.
//! let flood = "udp:239.1.1.1:5000,192.0.2.66:4000".parse()?;
//! queues[0].add_rule(&Rule::drop(flood))?;
//! for _ in 0..1_000_000 {
//!     queues[0].poll(64, |frame| assert!(frame.bytes.len() >= 14))?;
//! }
//! for rule in queues[0].rules()? {
//!     println!("{:?} {:?}: {} frames", rule.action, rule.flow, rule.hits.frames);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rings and buffers are the queue's: one owner each, the receive and the transmit half on two
//! threads if you like. Rules may be changed from any half's thread.
//!
//! # For backend authors
//!
//! `ring.rs` has the rings and the reasons for their barriers, `socket.rs` the order in which a
//! socket is built and taken down, `bpf/steer.bpf.c` the program and `steer/` what feeds it. The
//! program is loaded by `bpf.rs`, which needs neither clang nor libbpf.

mod bpf;
mod clock;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod interface;
mod netlink;
mod options;
#[cfg(any(test, fuzzing, feature = "played"))]
#[doc(hidden)]
pub mod played;
mod port;
mod ring;
mod rx;
mod socket;
mod steer;
mod sync;
mod sys;
mod tx;
mod umem;
mod view;

pub use options::{BusyPoll, Direction, Mode, Options, Queues, Stamps, Steering};
pub use port::{Port, open};
pub use rx::XdpRx;
pub use steer::{Action, Rule, RuleHits, RuleStatus};
pub use sys::XdpStatistics;
pub use tx::XdpTx;
