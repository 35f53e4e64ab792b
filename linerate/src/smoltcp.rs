//! A port as a device of [smoltcp](https://docs.rs/smoltcp): TCP/IP in user space over any
//! backend that carries Ethernet frames. With the feature `smoltcp`.
//!
//! ```no_run
//! use linerate::smoltcp::Device;
//! use smoltcp::iface::{Config, Interface, SocketSet};
//! use smoltcp::time::Instant;
//! use smoltcp::wire::EthernetAddress;
//!
//! // ARP and one TCP port come here; the kernel keeps the rest of the interface.
//! let mut port = linerate::port("afxdp:eth2")
//!     .flow("ether:0x0806".parse()?)
//!     .flow("tcp:10.0.0.7:49200".parse()?)
//!     .open()?;
//! let tx = port.tx.take().ok_or("it cannot send")?;
//! let mut device = Device::new(port.rx.remove(0), tx);
//! let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 7]).into());
//! let mut stack = Interface::new(config, &mut device, Instant::now());
//! let mut sockets = SocketSet::new(vec![]);
//! stack.poll(Instant::now(), &mut device, &mut sockets);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Received frames are shown to the stack where they lie; frames to send are written in place and
//! kicked one by one, as the stack makes them.

use linerate_common::{Error, FrameRx, FrameTx};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// Frames taken from the queue at once.
const BURST: usize = 64;
/// Shortest frame an Ethernet carries, without check sequence: shorter ones are filled with 0.
const MIN_FRAME: usize = 60;
/// Longest ordinary frame, without check sequence.
const MAX_FRAME: usize = 1514;

/// One receive and one transmit queue as a smoltcp device.
#[derive(Debug)]
pub struct Device<R, T> {
    rx: R,
    tx: T,
    /// The next frame of the open window.
    at: usize,
    verify: bool,
    dropped: u64,
    error: Option<Error>,
}

impl<R: FrameRx, T: FrameTx> Device<R, T> {
    /// A device over these queues.
    #[must_use]
    pub fn new(rx: R, tx: T) -> Self {
        Self { rx, tx, at: 0, verify: true, dropped: 0, error: None }
    }

    /// Takes received TCP and UDP checksums on trust. Needed when the other end is a kernel on
    /// this machine (a veth pair): it leaves them to a card that is not there.
    #[must_use]
    pub fn without_verification(mut self) -> Self {
        self.verify = false;
        self
    }

    /// Frames of the stack that the transmit queue had no room for. The stack sends them again
    /// where its protocol does.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What went wrong in a queue since the last call: smoltcp itself knows no errors here.
    ///
    /// # Errors
    ///
    /// As [`FrameRx::acquire`] and [`FrameTx::kick`].
    pub fn check(&mut self) -> Result<(), Error> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// The receive queue, to sleep on: see [`FrameRx::waitable`].
    pub fn rx(&mut self) -> &mut R {
        &mut self.rx
    }

    /// Looks for frames without showing them yet, and says how many are at hand: for the last look
    /// between arming the queue and sleeping on it.
    ///
    /// # Errors
    ///
    /// As [`FrameRx::acquire`].
    pub fn look(&mut self) -> Result<usize, Error> {
        if self.waiting() == 0 {
            self.at = 0;
            self.rx.acquire(BURST)?;
        }
        Ok(self.waiting())
    }

    /// Frames that are at hand but not yet shown to the stack.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.rx.len().saturating_sub(self.at)
    }

    /// The queues.
    #[must_use]
    pub fn into_queues(self) -> (R, T) {
        (self.rx, self.tx)
    }

    fn has_room(&mut self) -> bool {
        self.tx.room() > 0 || self.tx.reap() > 0
    }
}

impl<R: FrameRx, T: FrameTx> phy::Device for Device<R, T> {
    type RxToken<'a>
        = RxToken<'a, R>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a, T>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken<'_, R>, TxToken<'_, T>)> {
        if let Err(e) = self.look() {
            self.error = Some(e);
        }
        if self.waiting() == 0 {
            return None;
        }
        let i = self.at;
        self.at += 1;
        let Self { rx, tx, dropped, error, .. } = self;
        Some((RxToken { rx, i }, TxToken { tx, dropped, error }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_, T>> {
        if !self.has_room() {
            return None;
        }
        let Self { tx, dropped, error, .. } = self;
        Some(TxToken { tx, dropped, error })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.tx.max_len().min(MAX_FRAME);
        if !self.verify {
            let mut checksum = ChecksumCapabilities::default();
            checksum.tcp = Checksum::Tx;
            checksum.udp = Checksum::Tx;
            capabilities.checksum = checksum;
        }
        capabilities
    }
}

/// A received frame.
#[derive(Debug)]
pub struct RxToken<'a, R> {
    rx: &'a R,
    i: usize,
}

impl<R: FrameRx> phy::RxToken for RxToken<'_, R> {
    fn consume<A, F: FnOnce(&[u8]) -> A>(self, f: F) -> A {
        f(self.rx.frame(self.i).bytes)
    }
}

/// A frame to be sent.
#[derive(Debug)]
pub struct TxToken<'a, T> {
    tx: &'a mut T,
    dropped: &'a mut u64,
    error: &'a mut Option<Error>,
}

impl<T: FrameTx> phy::TxToken for TxToken<'_, T> {
    fn consume<A, F: FnOnce(&mut [u8]) -> A>(self, len: usize, f: F) -> A {
        let whole = len.max(MIN_FRAME);
        let Some(slot) = self.tx.reserve(whole) else {
            // The stack wants to write all the same. It takes a lost frame for one lost on the way.
            *self.dropped += 1;
            return f(&mut vec![0; len]);
        };
        let (frame, padding) = slot.split_at_mut(len);
        padding.fill(0);
        let result = f(frame);
        self.tx.commit(whole);
        if let Err(e) = self.tx.kick() {
            *self.error = Some(e);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate_common::loopback::{self, Options};
    use smoltcp::phy::{Device as _, RxToken as _, TxToken as _};

    #[test]
    fn frames_cross_in_both_directions_padded_and_in_order() {
        let (tx, rx) = loopback::pair(&Options::default()).unwrap();
        let mut device = Device::new(rx, tx);
        let now = Instant::from_millis(0);
        assert!(device.receive(now).is_none());
        for n in 0..100_u8 {
            device.transmit(now).unwrap().consume(42, |frame| frame.fill(n));
        }
        for n in 0..100_u8 {
            let (rx, _) = device.receive(now).unwrap();
            rx.consume(|frame| {
                assert_eq!((frame.len(), frame[0], frame[41], frame[59]), (60, n, n, 0));
            });
        }
        assert!(device.receive(now).is_none());
        assert_eq!((device.dropped(), device.waiting()), (0, 0));
        assert!(device.check().is_ok());
    }

    #[test]
    fn a_full_queue_is_back_pressure() {
        let (tx, rx) = loopback::pair(&Options::default()).unwrap();
        let mut device = Device::new(rx, tx);
        let now = Instant::from_millis(0);
        let mut sent = 0;
        while let Some(token) = device.transmit(now) {
            token.consume(60, |frame| frame.fill(1));
            sent += 1;
            assert!(sent < 1_000_000, "it never fills");
        }
        let mut came = 0;
        while let Some((rx, _)) = device.receive(now) {
            rx.consume(|frame| assert_eq!(frame[0], 1));
            came += 1;
        }
        assert_eq!(came + device.dropped(), sent);
    }
}
