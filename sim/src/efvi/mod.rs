//! A simulated ef_vi card: libciul's functions and VIs in the layout this build uses.
//!
//! ```
//! use linerate_sim::{Plug, efvi::{Card, Kind}};
//!
//! let (wire, _test) = Plug::pair();
//! let card = Card::new("simef_doc", Kind::Ring, wire).expect("the name is free");
//! // Give `linerate_sim::efvi::library()` to `linerate_efvi::Options::library`, and open
//! // `card.interface()`.
//! assert_eq!(card.interface(), "simef_doc");
//! ```
//!
//! Two kinds of card, as the real ones: [`Kind::Ring`] with posted buffers and descriptor rings
//! (EF10), and [`Kind::Shared`] with packet references and CTPIO only (X3, X4 low-latency).
//!
//! The card is a strict one. Whatever a program does that libciul's documentation forbids is
//! written down in [`Card::violations`]: tests end by asking for it. What goes wrong on the card's
//! side is ordered through [`Card`]'s fault methods.
//!
//! A thread plays the hardware: it fetches frames to send and writes received ones into the
//! program's memory, behind its back. For tests that need one order of events, and only that,
//! [`Settings::manual`] leaves the hardware standing still until [`Card::step`].

mod api;
mod card;
mod filter;
mod hardware;
mod memory;
mod ops;
mod vi;

pub use api::library;
pub use card::{Card, Discard, Kind, Settings};
