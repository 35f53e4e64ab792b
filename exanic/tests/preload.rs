//! Frames that lie in the card and are fired later.

mod rig;

use std::sync::atomic::Ordering::Relaxed;

use linerate_common::{ErrorKind, NO_TS};
use linerate_exanic::{Options, Preloaded};
use linerate_sim::Plug;
use linerate_sim::exanic::Card;
use rig::{frame, open, until};

fn bench(slots: usize, max_len: usize) -> (Card, Plug, Preloaded) {
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    let preloaded = open(&card, 0, &Options::default()).preloaded(slots, max_len).expect("slots");
    (card, far, preloaded)
}

fn settle(orders: &mut Preloaded) {
    let slots = orders.slots();
    until("completion", || {
        orders.reap();
        (0..slots).all(|s| !orders.is_in_flight(s)).then_some(())
    });
}

#[test]
fn any_slot_fires_any_time_and_again() {
    let (card, far, mut orders) = bench(5, 400);
    for slot in 0..5 {
        orders.load(slot, &frame(80 + slot * 80, slot as u64)).unwrap();
    }
    assert!(card.dummy_writes() >= 5, "loaded frames are pushed out to the card");
    // Long enough for a slot's rounds to wrap.
    for turn in 0..1500_usize {
        let slot = turn * 3 % 5;
        settle(&mut orders);
        assert!(orders.fire(slot).unwrap());
        let got = until("the frame", || far.recv());
        assert_eq!(got.bytes, frame(80 + slot * 80, slot as u64), "turn {turn}");
    }
    settle(&mut orders);
    assert_eq!((orders.stats().frames, orders.stats().completed), (1500, 1500));
    assert_eq!(card.command_errors(), (0, 0));
}

#[test]
fn several_in_flight_complete_in_the_order_of_firing() {
    let (card, far, mut orders) = bench(8, 200);
    for slot in 0..8 {
        orders.load(slot, &frame(100, slot as u64)).unwrap();
    }
    for round in 0..50 {
        card.faults().tx_stall.store(true, Relaxed);
        let order: Vec<_> = (0..8).map(|i| (i * 5 + round) % 8).collect();
        for slot in &order {
            // The queue of this sender's memory may be shorter than its slots are many.
            if !orders.fire(*slot).unwrap() {
                break;
            }
        }
        assert_eq!(orders.reap(), 0);
        card.faults().tx_stall.store(false, Relaxed);
        let mut done = Vec::new();
        until("completions", || {
            orders.reap_with(&mut |slot, _| done.push(slot));
            (done.len() == 8).then_some(())
        });
        assert_eq!(done, order);
        for slot in &order {
            assert_eq!(until("the frame", || far.recv()).bytes, frame(100, *slot as u64));
        }
    }
}

#[test]
fn a_slot_in_flight_is_not_touched() {
    let (card, far, mut orders) = bench(2, 200);
    orders.load(0, &frame(100, 1)).unwrap();
    card.faults().tx_stall.store(true, Relaxed);
    assert!(orders.fire(0).unwrap());
    let refused = |e: linerate_common::Error| e.kind == ErrorKind::BadArgument;
    assert!(orders.patch(0, 20, b"x").is_err_and(refused));
    assert!(orders.load(0, &frame(100, 2)).is_err_and(refused));
    assert!(orders.fire(0).is_err_and(refused));
    card.faults().tx_stall.store(false, Relaxed);
    assert_eq!(until("the frame", || far.recv()).bytes, frame(100, 1));
    settle(&mut orders);
    let mut patched = frame(100, 1);
    patched[96..].copy_from_slice(b"last");
    orders.patch(0, 96, b"last").unwrap();
    assert!(orders.fire(0).unwrap());
    assert_eq!(until("the frame", || far.recv()).bytes, patched);
}

#[test]
fn a_slot_fired_again_is_not_taken_for_its_last_flight() {
    let (card, far, mut orders) = bench(2, 200);
    orders.load(0, &frame(100, 1)).unwrap();
    for _ in 0..3 {
        card.faults().tx_stall.store(true, Relaxed);
        assert!(orders.fire(0).unwrap());
        // Longer than the card may take to count what it has sent.
        for _ in 0..3000 {
            assert_eq!(orders.reap(), 0);
        }
        card.faults().tx_stall.store(false, Relaxed);
        assert!(until("the frame", || far.recv()).bytes == frame(100, 1));
        settle(&mut orders);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let (_card, _far, mut orders) = bench(2, 200);
    let kind = |r: Result<(), linerate_common::Error>| r.unwrap_err().kind;
    assert_eq!(kind(orders.load(2, &frame(60, 0))), ErrorKind::BadArgument);
    assert_eq!(kind(orders.load(0, &frame(201, 0))), ErrorKind::BadLength);
    assert_eq!(kind(orders.load(0, &[])), ErrorKind::BadLength);
    assert_eq!(orders.fire(0).unwrap_err().kind, ErrorKind::BadArgument, "nothing loaded");
    orders.load(0, &frame(60, 0)).unwrap();
    assert_eq!(kind(orders.patch(0, 60, b"x")), ErrorKind::BadLength);
    assert_eq!(kind(orders.patch(0, usize::MAX, b"x")), ErrorKind::BadLength);
    orders.patch(0, 60, b"").unwrap();
}

#[test]
fn a_shot_fired_alone_has_its_time() {
    let (_card, far, mut orders) = bench(2, 200);
    for slot in 0..2 {
        orders.load(slot, &frame(100, slot as u64)).unwrap();
    }
    for slot in [0, 1, 0] {
        assert!(orders.fire(slot).unwrap());
        let mut stamps = Vec::new();
        until("completion", || {
            orders.reap_with(&mut |slot, stamp| stamps.push((slot, stamp.ts_ns)));
            (!stamps.is_empty()).then_some(())
        });
        assert_eq!(stamps[0].0, slot);
        assert_ne!(stamps[0].1, NO_TS);
        assert!(far.recv().is_some());
    }
}

#[test]
fn what_it_took_is_given_back() {
    let (card, _far, orders) = bench(80, 1514);
    assert!(card.tx_resources_in_use().0 >= 80 * 1524);
    drop(orders);
    assert_eq!(card.tx_resources_in_use(), (0, 0));
    assert_eq!(card.handle_count(), 0);
    let port = open(&card, 0, &Options::default());
    assert!(port.preloaded(0, 100).is_err() && port.preloaded(257, 100).is_err());
    assert!(port.preloaded(256, 9000).is_err(), "more than the card has");
}
