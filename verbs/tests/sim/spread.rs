//! Several receive queues behind one port.

use std::collections::HashMap;

use linerate_common::packet::UdpTemplate;
use linerate_common::{ErrorKind, FlowSpec, FrameRx, FrameTx};
use linerate_ibverbs_sys as sys;
use linerate_sim::verbs::RecvFault;
use linerate_verbs::{Options, Spread, VerbsRx, VerbsTx, open_on};

use crate::frames::until;
use crate::pair::Pair;

const FLOWS: u16 = 64;

fn open(pair: &Pair, queues: u32) -> (VerbsTx, Vec<VerbsRx>) {
    let (_, tx) = pair.open(&pair.a, &Options::default()).split();
    let mut options = Options::default();
    (options.rx_slots, options.tx_slots) = (256, 16);
    options.queues = queues;
    options.flows = vec![FlowSpec::ALL];
    let (rx, _) = pair.open(&pair.b, &options).into_queues();
    assert_eq!(rx.len(), queues as usize);
    (tx, rx)
}

fn send(tx: &mut VerbsTx, flow: u16, number: u32) {
    let src = format!("10.0.0.1:{}", 4000 + flow).parse().unwrap();
    let template = UdpTemplate::new(src, "10.0.0.2:5000".parse().unwrap()).unwrap();
    let mut bytes = [0; 64];
    let len = template.write(&mut bytes, &number.to_be_bytes()).unwrap();
    until("room", || tx.send(&bytes[..len]).unwrap());
    tx.kick().unwrap();
}

/// Flow and number of each frame, per queue.
fn receive(rx: &mut [VerbsRx], want: usize) -> Vec<Vec<(u16, u32)>> {
    let mut got = vec![Vec::new(); rx.len()];
    until("all frames", || {
        for (queue, got) in rx.iter_mut().zip(&mut got) {
            queue
                .poll(64, |f| {
                    let port = u16::from_be_bytes(f.bytes[34..36].try_into().unwrap());
                    let number = u32::from_be_bytes(f.bytes[42..46].try_into().unwrap());
                    got.push((port - 4000, number));
                })
                .unwrap();
        }
        got.iter().map(Vec::len).sum::<usize>() == want
    });
    got
}

#[test]
fn each_flow_stays_on_its_queue_and_every_queue_has_some() {
    for queues in [2, 3] {
        let pair = pair_or_skip!();
        let (mut tx, mut rx) = open(&pair, queues);
        for number in 0..4 {
            (0..FLOWS).for_each(|flow| send(&mut tx, flow, number));
        }
        let got = receive(&mut rx, 4 * usize::from(FLOWS));
        let mut home = HashMap::new();
        for (queue, frames) in got.iter().enumerate() {
            assert!(frames.len() >= 4 * 8, "queue {queue} of {queues}: {} frames", frames.len());
            for (flow, number) in frames {
                let (at, next) = home.entry(*flow).or_insert((queue, 0));
                assert_eq!((*at, *next), (queue, *number), "flow {flow}");
                *next += 1;
            }
        }
        assert_eq!(home.len(), usize::from(FLOWS));
        drop(rx);
        drop(tx);
        assert_eq!((pair.a.live_objects(), pair.b.live_objects()), (0, 0));
    }
}

#[test]
fn a_queue_that_fails_comes_back_and_leaves_the_others_alone() {
    let pair = pair_or_skip!();
    pair.b.faults().raise_fatal_events();
    let (mut tx, mut rx) = open(&pair, 2);
    pair.b.faults().on_recv(0, RecvFault::Status(sys::IBV_WC_GENERAL_ERR));
    send(&mut tx, 0, 0);
    until("the error", || {
        rx.iter_mut().for_each(|queue| {
            queue.acquire(64).unwrap();
        });
        rx.iter_mut().map(|queue| queue.stats().malformed).sum::<u64>() == 1
    });
    rx.iter_mut().for_each(|queue| {
        queue.acquire(64).unwrap();
    });
    (0..FLOWS).for_each(|flow| send(&mut tx, flow, 1));
    receive(&mut rx, usize::from(FLOWS));
}

#[test]
fn the_rest_goes_on_when_one_queue_is_closed() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = open(&pair, 2);
    (0..FLOWS).for_each(|flow| send(&mut tx, flow, 0));
    let before = receive(&mut rx, usize::from(FLOWS));
    rx.remove(0);
    (0..FLOWS).for_each(|flow| send(&mut tx, flow, 1));
    let after = receive(&mut rx, before[1].len());
    assert_eq!(
        after[0].iter().map(|(flow, _)| flow).collect::<Vec<_>>(),
        before[1].iter().map(|(flow, _)| flow).collect::<Vec<_>>()
    );
}

#[test]
fn what_the_card_cannot_spread_is_said() {
    let pair = pair_or_skip!();
    let mut options = Options::default();
    options.queues = 1000;
    options.spread = Spread::Tcp6;
    // SAFETY: a simulated device is valid for as long as the process lives.
    let context = unsafe { linerate_verbs::Context::from_device(pair.library, pair.b.raw()) };
    let error = open_on(&context.unwrap(), 1, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("at most 128"), "{error}");
}
