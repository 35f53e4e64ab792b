//! Traits, buffers, loops and clocks shared by every linerate backend.
//!
//! Applications depend on the `linerate` crate, which re-exports all of this. Backend authors
//! depend on this crate alone: implement [`FrameRx`] and [`FrameTx`], add the capabilities the
//! card has ([`BufRx`], [`BufTx`], [`TxStamps`], [`Steer`], [`Clocked`], [`Waitable`]), and run
//! the conformance suite.
//!
//! Data flows one way: card → ring → window → handler.

pub mod adapter;
mod buf;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod flow;
mod frame;
pub mod loopback;
pub mod loops;
pub mod membership;
#[doc(hidden)]
pub mod own_threads;
pub mod packet;
pub mod pool;
mod rx;
mod stats;
mod steer;
mod sync;
mod tx;
mod wait;

pub use buf::Buf;
pub use clock::{ClockDomain, ClockInfo, Clocked};
pub use error::{Error, ErrorKind, SetupError, last_errno};
pub use flow::{FlowKind, FlowSpec, ParseFlowError, Proto};
pub use frame::{MAX_BURST, NO_TS, RxFlags, RxFrame, RxMeta};
pub use membership::{Membership, MembershipState, MembershipStatus};
pub use rx::{BufRx, Burst, FrameRx, FrameRxExt};
pub use stats::{RxStats, TxStats};
pub use steer::{RuleId, Steer};
pub use tx::{BufTx, FrameTx, TxStamp, TxStamps, forward};
pub use wait::{Waitable, wait_readable};
