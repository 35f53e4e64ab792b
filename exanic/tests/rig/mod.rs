//! What the tests over the simulated card share.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use linerate_common::{FrameRx, RxMeta};
use linerate_exanic::{ExanicRx, ExanicTx, Options, Port, open_with};
use linerate_sim::exanic::Card;

/// A manual clock's start in ticks: 2026 at the card's usual rate.
pub(crate) const START: u64 = 1_790_000_000 * 161_132_800;

pub(crate) fn options(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    change(&mut options);
    options
}

pub(crate) fn open(card: &Card, port: usize, options: &Options) -> Port {
    open_with(Card::api(), &card.port_name(port), options).unwrap()
}

pub(crate) fn open_rx(card: &Card, port: usize, options: &Options) -> ExanicRx {
    open(card, port, options).rx().unwrap()
}

pub(crate) fn open_tx(card: &Card, port: usize, options: &Options) -> ExanicTx {
    open(card, port, options).tx().unwrap()
}

/// A broadcast frame of `len` bytes, 14 or more, told apart by its number from 22 bytes on.
pub(crate) fn frame(len: usize, number: u64) -> Vec<u8> {
    let mut frame = vec![0xff; len];
    let mut noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in &mut frame[6..] {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        *byte = noise as u8;
    }
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    if len >= 22 {
        frame[14..22].copy_from_slice(&number.to_be_bytes());
    }
    frame
}

pub(crate) fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().unwrap())
}

/// Everything that is there.
pub(crate) fn drain(rx: &mut ExanicRx) -> Vec<(Vec<u8>, RxMeta)> {
    let mut all = Vec::new();
    while rx.poll(64, |f| all.push((f.bytes.to_vec(), f.meta))).unwrap() > 0 {}
    all
}

/// Tries until it works; panics when it has not for long.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::yield_now();
    }
}
