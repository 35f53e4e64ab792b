//! Two simulated cards at the ends of a wire.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use linerate_common::pool::{Huge, Pool};
use linerate_common::{FlowKind, FlowSpec, FrameRx, FrameTx, Steer};
use linerate_efvi::{EfviRx, EfviTx, Options, open_rx, open_tx};
use linerate_sim::Plug;
use linerate_sim::efvi::{Card, Kind, Settings, library};

/// What the tests' frames are: an ethertype for local experiments.
pub const FLOW: FlowSpec = FlowSpec::of(FlowKind::EtherType(0x88b5));

/// Cards that fill posted buffers, and cards that give packet references.
pub const KINDS: [Kind; 2] = [Kind::Ring, Kind::Shared];

pub struct Bench {
    /// Sends.
    pub a: Card,
    /// Receives.
    pub b: Card,
    pub pool: Pool,
}

impl Bench {
    pub fn new(kind: Kind) -> Self {
        Self::with(kind, Settings::default())
    }

    /// Nothing happens but by `step`.
    pub fn manual(kind: Kind) -> Self {
        let mut settings = Settings::default();
        settings.manual = true;
        Self::with(kind, settings)
    }

    pub fn with(kind: Kind, settings: Settings) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let (wire, far) = Plug::pair();
        let card = |side, plug| {
            let name = format!("simef{side}{n}-{}", std::process::id());
            Card::with(&name, kind, plug, settings.clone()).unwrap()
        };
        let pool = Pool::builder().frames(2048).huge(Huge::Never).lock(false).build().unwrap();
        Self { a: card('a', wire), b: card('b', far), pool }
    }

    pub fn options(&self) -> Options {
        let mut options = Options::default();
        options.library = Some(library());
        options.pool = Some(self.pool.clone());
        options
    }

    pub fn rx(&self, options: &Options) -> EfviRx {
        let mut rx = open_rx(self.b.interface(), options).unwrap();
        rx.add(&FLOW).unwrap();
        rx
    }

    pub fn tx(&self, options: &Options) -> EfviTx {
        open_tx(self.a.interface(), options).unwrap()
    }

    pub fn step(&self) {
        self.a.step();
        self.b.step();
        self.a.step();
    }

    /// Nothing was done that may not be done, and every buffer is back.
    pub fn is_clean(&self) {
        assert_eq!(self.a.violations(), [""; 0]);
        assert_eq!(self.b.violations(), [""; 0]);
        assert_eq!(self.b.references_out(), 0);
        assert_eq!(self.pool.outstanding(), 0);
    }

    /// The queues are closed too.
    pub fn is_empty(&self) {
        self.is_clean();
        assert_eq!((self.a.open_queues(), self.b.open_queues()), (0, 0));
        assert_eq!(self.pool.free_frames(), self.pool.frames());
    }
}

/// A frame with its number in it.
pub fn frame(seq: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&seq.to_le_bytes());
    for (i, b) in bytes[18..].iter_mut().enumerate() {
        *b = (seq as usize + i) as u8;
    }
    bytes
}

/// The number in a frame, which must be whole.
pub fn seq(bytes: &[u8]) -> u32 {
    let seq = u32::from_le_bytes(bytes[14..18].try_into().unwrap());
    assert_eq!(bytes, frame(seq, bytes.len()), "frame {seq}");
    seq
}

/// Sends frames `from..to` of 100 B.
pub fn send(tx: &mut impl FrameTx, from: u32, to: u32) {
    for n in from..to {
        until(|| tx.send(&frame(n, 100)).unwrap());
    }
    tx.kick().unwrap();
}

/// The numbers of the frames that wait.
pub fn drain(rx: &mut impl FrameRx) -> Vec<u32> {
    let mut got = Vec::new();
    while rx.poll(64, |f| got.push(seq(f.bytes))).unwrap() > 0 {}
    got
}

/// Waits for what must happen.
pub fn until(mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < limit, "it never happened");
        std::thread::yield_now();
    }
}
