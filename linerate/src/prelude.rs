//! The traits, for `use linerate::prelude::*`: methods of queues need them in scope.

pub use linerate_common::{
    BufRx, BufTx, Clocked, FrameRx, FrameRxExt, FrameTx, Steer, TxStamps, Waitable,
};
