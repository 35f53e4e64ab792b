//! Simulated network cards behind the vendors' C ABIs, for tests and for users without a card.
//!
//! Each card is a cargo feature of its own (`efvi`, `exanic`, `verbs`): the structs, tables and
//! constants of that vendor's library, a "hardware" thread that writes rings behind the reader's
//! back, and the faults a real card shows. The safe crates run on it unchanged.
//!
//! What a port sends goes into a [`Plug`], one end of a [cable](mod@cable): to another port, back
//! to itself, to a veth interface of the kernel, or to a test that holds the other end.
//!
//! A pass here is no evidence about hardware. It shows that the code above keeps the rules that
//! the vendors' libraries and their documentation set.

pub mod cable;
#[cfg(feature = "efvi")]
pub mod efvi;
#[cfg(feature = "exanic")]
pub mod exanic;
#[cfg(feature = "verbs")]
pub mod verbs;

pub use cable::{Losses, Plug, WireFrame, WireState};
