//! Two queues on one wire, and numbered frames between them.

use std::time::{Duration, Instant};

use crate::pair::Pair;
use linerate_common::{FlowSpec, FrameRx, FrameTx};
use linerate_verbs::{NoBuffer, Options, VerbsRx, VerbsTx};

/// Sender on `a`, receiver on `b`.
pub(crate) fn queues(pair: &Pair, change: impl Fn(&mut Options)) -> (VerbsTx, VerbsRx) {
    let mut options = Options::default();
    options.rx_slots = 64;
    options.tx_slots = 64;
    options.inline_bytes = 0;
    let (_, tx) = pair.open(&pair.a, &options).split();
    options.flows = vec![FlowSpec::ALL];
    options.no_buffer = Some(NoBuffer::from_fn(pair.b.out_of_buffer_counter()));
    change(&mut options);
    let (rx, _) = pair.open(&pair.b, &options).split();
    (tx, rx)
}

/// A frame whose payload begins with its number.
pub(crate) fn frame(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0x5a; len];
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&n.to_be_bytes());
    bytes
}

pub(crate) fn send(tx: &mut VerbsTx, n: u32) {
    assert!(tx.send(&frame(n, 100)).unwrap());
    tx.kick().unwrap();
}

/// Polls until `want` frames came; gives their numbers. Errors of the queue are the caller's.
pub(crate) fn receive(rx: &mut VerbsRx, want: usize) -> Vec<u32> {
    let mut got = Vec::new();
    let until = Instant::now() + Duration::from_secs(20);
    while got.len() < want {
        assert!(Instant::now() < until, "only {got:?} arrived");
        rx.poll(64, |f| got.push(u32::from_be_bytes(f.bytes[14..18].try_into().unwrap()))).unwrap();
    }
    got
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "{what} did not happen");
    }
}
