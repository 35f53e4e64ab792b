//! A cable in memory: what one end sends, the other receives, through every capability trait.
//!
//! # For application authors
//!
//! For tests without a card, and for handing frames to another thread: the halves share nothing
//! but two rings, so each may live on a thread of its own.
//!
//! ```
//! use linerate_common::loopback::{self, Options};
//! use linerate_common::{FrameRx, FrameTx};
//!
//! let (mut tx, mut rx) = loopback::pair(&Options::default())?;
//! tx.send(b"sixty bytes on a real wire")?;
//! tx.kick()?;
//! let n = rx.poll(64, |frame| assert_eq!(frame.bytes, b"sixty bytes on a real wire"))?;
//! assert_eq!(n, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # For backend authors
//!
//! This is the model of a backend: `port` holds the options and opens the queues, `rx` and `tx`
//! hold one queue each. It works as a card does. The receiver *posts* empty buffers of its pool;
//! `kick` plays the card and the wire: it copies each committed frame into the next posted
//! buffer and tells the receiver. Buffers that are with the card belong to it: they go back to
//! their pool only when both ends are gone.

mod port;
mod ring;
mod rx;
mod tx;

pub use port::{Options, pair};
pub use rx::LoopRx;
pub use tx::LoopTx;
