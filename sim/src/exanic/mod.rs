//! A two-port ExaNIC behind libexanic's function table.
//!
//! ```
//! use linerate_sim::exanic::Card;
//!
//! // Port 0 cabled to port 1. `linerate_exanic::open_with(Card::api(), ...)` finds it by name.
//! let card = Card::cabled();
//! println!("open {}/0 and {}/1", card.name(), card.name());
//! card.inject(1, &[0xff; 60]); // as if it came in on port 1
//! ```
//!
//! # What is real
//!
//! The structs that libexanic's users touch, receive rings of 16,384 chunks written payload first
//! and metadata after by a thread of the card's own, transmit memory that the thread reads when a
//! command arrives, feedback slots, registers, port counters, filter rules, flow hashing, and the
//! resource rules of the kernel driver, its traps included: one reference per process and filter
//! buffer, which any reader's release takes from all of them.
//!
//! # What is guesswork
//!
//! What an aborted frame and a hardware overflow look like in the ring, the hash function, how
//! rules treat VLAN tags and fragments, what happens when the command queue overflows. Timings say
//! nothing about a card.
//!
//! # Faults
//!
//! [`Card::faults`] has the ones that come by themselves (bad frames, drops, slow chunks, pauses
//! between payload and metadata, a stalled sender); [`Card::arriving`] writes one frame step by
//! step, so that a test can stop the card in mid-frame or in mid-chunk; [`Card::flood`] laps
//! readers, as often as you like; [`Card::set_link`] pulls the cable.

mod api;
mod card;
mod clock;
mod fault;
mod memory;
mod receive;
mod registry;
mod steer;
mod transmit;

pub use card::{Card, CardBuilder};
pub use fault::{Faults, FrameState};
pub use receive::Arriving;

/// Ports of a simulated card.
pub const PORTS: usize = 2;
/// Filter buffers per port.
pub const FILTER_BUFFERS: usize = 32;
/// IP rules per port.
pub const IP_RULES: usize = 128;
/// MAC rules per port.
pub const MAC_RULES: usize = 64;
/// Transmit memory per port in bytes.
pub const TX_BYTES_PER_PORT: usize = 128 * 1024;
/// Longest frame that the card takes, without check sequence.
pub const MAX_FRAME_BYTES: usize = 16 * 1024;
