//! What the suite must know about a backend.

use std::time::Duration;

use crate::clock::ClockInfo;
use crate::error::SetupError;
use crate::flow::FlowSpec;
use crate::pool::Pool;
use crate::rx::{BufRx, FrameRx};
use crate::steer::Steer;
use crate::tx::{BufTx, FrameTx, TxStamps};

/// What lies between the two ends of a pair.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Shortest frame that can be sent, in bytes.
    pub min_len: usize,
    /// Longest frame that arrives (an MTU on the way), where that is less than the sender's
    /// `max_len()`.
    pub max_len: Option<usize>,
    /// Frames may arrive with bytes added at the end.
    pub pads: bool,
    /// Headers may arrive changed (MAC addresses, TTL, made up ones): only payloads count.
    pub rewrites_headers: bool,
    /// Nothing arrives that the suite did not send. On a real kernel: no.
    pub quiet: bool,
    /// Frames that can wait unread without a loss; at least 2. Rules send no more at a time.
    pub in_flight: usize,
    /// Both ends together name every frame that did not arrive.
    pub names_losses: bool,
    /// How long to wait for what must happen. Nothing is asserted to be faster than this.
    pub patience: Duration,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            min_len: 60,
            max_len: None,
            pads: false,
            rewrites_headers: false,
            quiet: false,
            in_flight: 128,
            names_losses: true,
            patience: Duration::from_secs(5),
        }
    }
}

/// A backend on the test bench.
///
/// Everything after [`wire`](Self::wire) has a default that fits frames of an experimental
/// ethertype and queues without capabilities.
pub trait Rig {
    /// The sending end.
    type Tx: FrameTx + Send;
    /// The receiving end.
    type Rx: FrameRx + Send;

    /// Opens a fresh pair: what `Tx` sends, `Rx` receives. Called once per rule, after the pair
    /// before was dropped.
    ///
    /// # Errors
    ///
    /// It cannot be opened: every rule fails, with this reason.
    fn pair(&mut self) -> Result<(Self::Tx, Self::Rx), SetupError>;

    /// What lies between the two.
    fn wire(&self) -> Wire {
        Wire::default()
    }

    /// Called over and over while the suite waits for frames: lets a simulated card work.
    fn pump(&mut self) {}

    /// Bytes in front of the payload.
    fn header_len(&self) -> usize {
        14
    }

    /// Writes the headers of `frame`, whose payload is complete, so that it reaches the receiver.
    fn write_headers(&self, frame: &mut [u8]) {
        // Locally administered addresses; 0x88b5 is for local experiments (IEEE 802).
        const HEADERS: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
        if let Some(start) = frame.get_mut(..14) {
            start.copy_from_slice(&HEADERS);
        }
    }

    /// The payload of a frame that arrived; `None` when it cannot be one of the suite's.
    fn payload<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        frame.get(self.header_len()..)
    }

    /// The receiver as [`BufRx`], if it is one.
    fn buf_rx<'q>(&self, _rx: &'q mut Self::Rx) -> Option<&'q mut dyn BufRx> {
        None
    }

    /// The sender as [`BufTx`], if it is one.
    fn buf_tx<'q>(&self, _tx: &'q mut Self::Tx) -> Option<&'q mut dyn BufTx> {
        None
    }

    /// The sender as [`TxStamps`], if it is one.
    fn tx_stamps<'q>(&self, _tx: &'q mut Self::Tx) -> Option<&'q mut dyn TxStamps> {
        None
    }

    /// The receiver as [`Steer`], if it is one.
    fn steer<'q>(&self, _rx: &'q mut Self::Rx) -> Option<&'q mut dyn Steer> {
        None
    }

    /// A flow that the rig's frames belong to and that the receiver can steer.
    fn flow(&self) -> FlowSpec {
        FlowSpec::ALL
    }

    /// The receiver's clock, if it is [`Clocked`](crate::Clocked).
    fn rx_clock(&self, _rx: &Self::Rx) -> Option<ClockInfo> {
        None
    }

    /// The pool that the receiver's [`Buf`](crate::Buf)s belong to.
    fn rx_pool(&self, _rx: &Self::Rx) -> Option<Pool> {
        None
    }

    /// A pool whose buffers the sender takes.
    fn tx_pool(&self, _tx: &Self::Tx) -> Option<Pool> {
        None
    }
}
