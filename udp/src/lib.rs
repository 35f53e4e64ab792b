//! UDP sockets as a linerate backend: no rights, no hardware, any interface.
//!
//! A queue receives what ordinary sockets receive: datagrams to multicast groups, joined by the
//! queue itself, and to addresses of this host. It shows them as frames, so that a program
//! written for a card runs unchanged on a laptop. It is also the path that runs under Onload,
//! VMA, XLIO or exasock when those are preloaded: `docs/udp.md` says how.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use linerate_common::{FlowSpec, FrameRx};
//! use linerate_udp::Options;
//!
//! let flows = FlowSpec::parse_list("239.1.1.1:5000+128")?;
//! let mut rx = linerate_udp::open("eth2", &Options::for_flows(flows))?.into_rx();
//! loop {
//!     rx.poll(64, |frame| println!("{} bytes", frame.bytes.len()))?;
//! }
//! # }
//! ```
//!
//! # For application authors
//!
//! **Which header fields are real.** A socket gets a payload and some facts about it. From these
//! each frame's headers are made up, and it is flagged [`SYNTHETIC`]:
//!
//! | field | value |
//! |---|---|
//! | destination MAC | the group's (that is what was on the wire), or the interface's own |
//! | source MAC | made up: `02:00` and the last four bytes of the source address |
//! | VLAN tag | none: a VLAN's own interface says which it is |
//! | addresses, ports | real |
//! | TTL / hop limit, TOS / traffic class | real with [`Options::ttl_tos`]; else 0 |
//! | IP lengths, UDP length | real, of the whole datagram also when it is cut |
//! | IPv4 id, flags, options; IPv6 flow label, extension headers | zeros, none |
//! | IPv4 header checksum | right for the header shown |
//! | UDP checksum | 0 ("none") over IPv4; right over IPv6, or 0 when the datagram is cut |
//! | payload | real; a datagram that came in fragments is one frame, longer than any MTU |
//!
//! The kernel has verified the sender's checksums, which the flag [`CSUM_OK`] says; what was
//! wrong is in `kernel_drop`.
//!
//! **Flows.** Multicast groups with a port, from any source or one; addresses of this host with
//! a port; the same from one peer. Groups are received on the one interface, and only those that
//! were asked for, whatever else this host joined. Anything else is refused: sockets cannot
//! select it. Flows come and go while the queue runs ([`Steer`]).
//!
//! **Order.** Datagrams of one socket stay in order. All groups of one port share a socket as far
//! as the kernel lets it join them (20 by default, `net.ipv4.igmp_max_memberships`). What waits in
//! several sockets is shown in the order of its timestamps, one window at a time. That is not a
//! promise: datagrams that arrive while the sockets are read one after another (about one in a
//! thousand of a feed on two ports), or that fill more than a window, may change places. Where
//! it matters, put both lines on one port, or go by `ts_ns`.
//!
//! **Time.** The kernel stamps each datagram ([`TS_SW`]), and the card does where its driver
//! hands the stamps out and they are on UTC or TAI ([`TS_HW`]). The first datagrams of a program
//! may come before the kernel has switched its stamping on; they get the time of reading. Without
//! stamps ([`Stamps::Off`]) a datagram comes cheaper.
//!
//! **Losses** are counted by the kernel per socket and exact: sent = delivered + `kernel_drop`.
//! The frame after a loss is flagged [`LOSS_BEFORE`]. (To an address, without stamps: a wrong
//! checksum amid datagrams that come one by one flags a later frame.)
//!
//! **The interface may go and come.** A queue whose interface was destroyed delivers nothing and
//! no error; when one of the same name appears, everything is opened and joined anew.
//!
//! **Sending** takes whole frames and sends their payload to the address in their headers: see
//! [`UdpTx`].
//!
//! # For backend authors
//!
//! The smallest complete backend: [`UdpRx`] shows how `acquire`, `poll`, `Steer` and `Waitable`
//! fit together over several file descriptors, and the conformance test how a rig is built for a
//! backend that rewrites headers.
//!
//! Cost: one receive call a turn with one socket, of as many datagrams as came in the turn before
//! and of more when that were all it asked for; with several, one `epoll_wait` and a `recvmmsg`
//! for each socket that has something. Payloads are not copied: headers are written in front of
//! them, into the room that each slot keeps.
//!
//! [`SYNTHETIC`]: linerate_common::RxFlags::SYNTHETIC
//! [`CSUM_OK`]: linerate_common::RxFlags::CSUM_OK
//! [`TS_SW`]: linerate_common::RxFlags::TS_SW
//! [`TS_HW`]: linerate_common::RxFlags::TS_HW
//! [`LOSS_BEFORE`]: linerate_common::RxFlags::LOSS_BEFORE
//! [`Steer`]: linerate_common::Steer

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
mod preload;
mod rx;
mod shown;
mod stamps;
mod strip;
mod sys;
mod tx;
mod way;

pub use port::{Gso, Options, Port, Stamps, open};
pub use preload::stack as preloaded_stack;
pub use rx::UdpRx;
pub use tx::UdpTx;
