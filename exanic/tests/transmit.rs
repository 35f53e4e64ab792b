//! Sending: room, order, contents, completions, timestamps.

mod rig;

use std::sync::atomic::Ordering::Relaxed;

use linerate_common::{ErrorKind, FrameTx, NO_TS, RxFlags, TxStamps};
use linerate_exanic::Options;
use linerate_sim::exanic::Card;
use linerate_sim::{Plug, WireState};
use rig::{drain, frame, open, open_rx, open_tx, options, until};

#[test]
fn every_way_of_writing_a_frame_sends_the_same() {
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    let mut tx = open_tx(&card, 0, &Options::default());
    for len in [60, 61, 100, 118, 119, 1514, 9600] {
        let sent = frame(len, 1);
        assert!(tx.send(&sent).unwrap());
        let slot = tx.reserve(len + 10).unwrap();
        slot[..len].copy_from_slice(&sent);
        tx.commit(len);
        until("room", || tx.reserve_on_card(len).map(|_| ()));
        let mut in_place = tx.reserve_on_card(len).unwrap();
        in_place.put(len - 1, &sent[len - 1..]);
        in_place.put(0, &sent[..len - 1]);
        in_place.send();
        for way in 0..3 {
            let got = until("the frame", || far.recv());
            assert_eq!(got.bytes, sent, "{len} bytes, way {way}");
        }
        until("completion", || {
            tx.reap();
            (tx.in_flight() == 0).then_some(())
        });
    }
    assert_eq!(card.command_errors(), (0, 0));
    assert_eq!((tx.stats().frames, tx.stats().completed), (21, 21));
}

#[test]
fn short_frames_are_padded_by_the_card() {
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    let mut tx = open_tx(&card, 0, &Options::default());
    assert!(tx.send(&[7; 20]).unwrap());
    let got = until("the frame", || far.recv()).bytes;
    assert_eq!(got, [[7; 20].as_slice(), &[0; 40]].concat());
}

#[test]
fn a_stalled_card_refuses_frames_and_loses_none() {
    // Transmit memory of every size, frames of sizes that fill either the queue or the memory.
    for bytes in [4096, 8192, 32_768, 126_976] {
        let (wire, far) = Plug::pair();
        let card = Card::builder().plug(0, wire).build();
        let mut tx = open_tx(&card, 0, &options(|o| o.tx_buffer_bytes = Some(bytes)));
        let mut number = 0;
        let mut expected = 0;
        for round in 0..6_u64 {
            card.faults().tx_stall.store(true, Relaxed);
            let mut sent = 0;
            loop {
                let len = 60 + (number * 131 % 1400) as usize;
                if !tx.send(&frame(len, number)).unwrap() {
                    break;
                }
                (number, sent) = (number + 1, sent + 1);
                assert!(sent <= bytes / 512, "more commands than the card's queue is sure to hold");
            }
            assert!(sent >= 2, "{sent} frames in {bytes} bytes, round {round}");
            assert!(tx.reserve(1514.min(tx.max_len())).is_none());
            assert_eq!(tx.reap(), 0);
            assert_eq!(tx.in_flight(), sent);
            card.faults().tx_stall.store(false, Relaxed);
            while expected < number {
                let got = until("the frame", || far.recv());
                assert_eq!(got.bytes, frame(60 + (expected * 131 % 1400) as usize, expected));
                expected += 1;
            }
            until("completions", || {
                tx.reap();
                (tx.in_flight() == 0).then_some(())
            });
        }
        assert_eq!(card.command_errors(), (0, 0));
        assert_eq!(tx.stats().completed, number);
    }
}

#[test]
fn room_is_what_can_be_sent() {
    let card = Card::new();
    let mut tx = open_tx(&card, 0, &Options::default());
    card.faults().tx_stall.store(true, Relaxed);
    for skip in 0..40 {
        // From every position of the memory.
        for _ in 0..skip {
            let _ = tx.send(&frame(200, 0)).unwrap();
        }
        while tx.room() > 0 {
            assert!(tx.send(&frame(1514, 1)).unwrap(), "room() promised more");
        }
        card.faults().tx_stall.store(false, Relaxed);
        until("completions", || {
            tx.reap();
            (tx.in_flight() == 0).then_some(())
        });
        card.faults().tx_stall.store(true, Relaxed);
    }
}

#[test]
fn the_longest_frame_is_enforced_even_when_the_memory_is_empty() {
    let card = Card::new();
    for (bytes, mtu) in [(4096, 1526), (8192, 3574), (32_768, 15_862)] {
        let mut tx = open_tx(&card, 0, &options(|o| o.tx_buffer_bytes = Some(bytes)));
        assert_eq!(tx.max_len(), mtu);
        assert_eq!(tx.send(&vec![0; mtu + 1]).unwrap_err().kind, ErrorKind::BadLength);
        assert!(tx.reserve(mtu + 1).is_none() && tx.reserve_on_card(mtu + 1).is_none());
        assert!(tx.send(&vec![0; mtu]).unwrap());
    }
}

#[test]
fn warming_sends_nothing_and_spoils_nothing() {
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    let mut tx = open_tx(&card, 0, &Options::default());
    for i in 0..200 {
        tx.warm(&frame(300, 1000 + i));
        assert!(until("room", || tx.send(&frame(100, i)).unwrap().then_some(true)));
        assert_eq!(until("the frame", || far.recv()).bytes, frame(100, i));
    }
    assert!(far.recv().is_none());
    assert_eq!(card.dummy_writes(), 200);
}

#[test]
fn a_reservation_that_is_dropped_costs_nothing() {
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    let mut tx = open_tx(&card, 0, &Options::default());
    for _ in 0..1000 {
        assert_eq!(tx.reserve_on_card(1000).map(|f| f.len()), Some(1000));
        tx.reserve(1000).unwrap();
    }
    assert!(tx.send(&frame(60, 1)).unwrap());
    assert_eq!(until("the frame", || far.recv()).bytes, frame(60, 1));
}

#[test]
fn a_frame_sent_alone_gets_its_time_and_others_none() {
    let card = Card::cabled();
    let stamped = options(|o| o.tx_stamps = true);
    let mut tx = open_tx(&card, 0, &stamped);
    let mut other = open_tx(&card, 0, &Options::default());
    let mut rx = open_rx(&card, 1, &Options::default());
    let mut stamps = Vec::new();
    let mut reap = |tx: &mut linerate_exanic::ExanicTx, n: usize| {
        until("stamps", || {
            tx.reap_with(&mut |s| stamps.push(s));
            (stamps.len() >= n).then_some(())
        });
        std::mem::take(&mut stamps)
    };
    for seq in 0..5 {
        assert!(tx.send(&frame(60, seq)).unwrap());
        let [stamp] = reap(&mut tx, 1).try_into().unwrap();
        assert_eq!((stamp.seq, stamp.flags), (seq, RxFlags::TS_HW));
        let received = until("the frame", || drain(&mut rx).pop()).1.ts_ns;
        // Sent before it was received, by the same clock, give or take its ticks.
        let apart = i128::from(received) - i128::from(stamp.ts_ns);
        assert!((-10..5_000_000_000).contains(&apart), "{apart} ns");
    }
    // Three at once: which of them the register shows is not known.
    card.faults().tx_stall.store(true, Relaxed);
    for seq in 5..8 {
        assert!(tx.send(&frame(60, seq)).unwrap());
    }
    card.faults().tx_stall.store(false, Relaxed);
    let got = reap(&mut tx, 3);
    assert!(got[1..].iter().all(|s| s.ts_ns == NO_TS), "{got:?}");
    assert!(got[0].ts_ns == NO_TS || got[0].flags == RxFlags::TS_HW);
    // Another sender of the same port in between.
    card.faults().tx_stall.store(true, Relaxed);
    assert!(tx.send(&frame(60, 8)).unwrap() && other.send(&frame(60, 9)).unwrap());
    card.faults().tx_stall.store(false, Relaxed);
    until("both frames", || (card.counters(0).tx_count == 10).then_some(()));
    assert_eq!(reap(&mut tx, 1)[0].ts_ns, NO_TS);
    // And alone again.
    assert!(tx.send(&frame(60, 10)).unwrap());
    assert_ne!(reap(&mut tx, 1)[0].ts_ns, NO_TS);
}

#[test]
fn transmit_memory_that_is_taken_is_an_error_with_a_remedy_and_less_will_do() {
    let card = Card::new();
    let port = open(&card, 0, &options(|o| o.tx_buffer_bytes = Some(32_768)));
    let mut all: Vec<_> = (0..4).map(|_| port.tx().unwrap()).collect();
    assert_eq!(card.tx_resources_in_use(), (131_072, 4));
    let e = port.tx().unwrap_err().to_string();
    assert!(e.contains("tx_buffer_bytes") && e.contains(&card.port_name(0)), "{e}");
    all.pop();
    let mut small: Vec<_> =
        (0..7).map(|_| open_tx(&card, 0, &options(|o| o.tx_buffer_bytes = Some(4096)))).collect();
    // 4 KiB are left: automatic takes what there is.
    assert_eq!(open_tx(&card, 0, &Options::default()).max_len(), 1526);
    drop((all, small.pop(), small));
    assert_eq!(card.tx_resources_in_use(), (0, 0));
    let e = open(&card, 0, &options(|o| o.tx_buffer_bytes = Some(1000))).tx().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::BadArgument);
}

#[test]
fn feedback_that_nobody_asked_for_completes_nothing() {
    let card = Card::new();
    let mut tx = open_tx(&card, 0, &Options::default());
    card.faults().tx_stall.store(true, Relaxed);
    for i in 0..5 {
        assert!(tx.send(&frame(100, i)).unwrap());
    }
    for id in [6, 7, 1000, 0xffff, 0x8000] {
        card.feed_back(0, id);
        assert_eq!((tx.reap(), tx.in_flight()), (0, 5), "id {id}");
    }
    card.feed_back(0, 3);
    assert_eq!((tx.reap(), tx.in_flight()), (3, 2));
    // Backwards is nothing either.
    card.feed_back(0, 2);
    assert_eq!(tx.reap(), 0);
}

#[test]
fn a_dropped_queue_lets_its_frames_out_first() {
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    let mut tx = open_tx(&card, 0, &Options::default());
    for i in 0..30 {
        assert!(tx.send(&frame(500, i)).unwrap());
    }
    drop(tx);
    // The next owner of the same memory.
    let mut tx = open_tx(&card, 0, &Options::default());
    for i in 30..60 {
        assert!(tx.send(&frame(500, i)).unwrap());
    }
    for i in 0..60 {
        assert_eq!(until("the frame", || far.recv()).bytes, frame(500, i));
    }
}

#[test]
fn memory_of_frames_that_do_not_leave_is_nobody_elses() {
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    let mut tx = open_tx(&card, 0, &options(|o| o.tx_buffer_bytes = Some(4096)));
    card.faults().tx_stall.store(true, Relaxed);
    for i in 0..3 {
        assert!(tx.send(&frame(500, i)).unwrap());
    }
    drop(tx);
    assert_eq!(card.tx_resources_in_use(), (4096, 1));
    // The next sender gets other memory, and what waited goes out as it was written.
    let mut next = open_tx(&card, 0, &options(|o| o.tx_buffer_bytes = Some(4096)));
    for i in 3..6 {
        assert!(next.send(&frame(500, i)).unwrap());
    }
    card.faults().tx_stall.store(false, Relaxed);
    for i in 0..6 {
        assert_eq!(until("the frame", || far.recv()).bytes, frame(500, i));
    }
}

#[test]
fn frames_reach_the_wire_in_order_while_the_wire_is_slow() {
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    let mut tx = open_tx(&card, 0, &Options::default());
    let reader = std::thread::spawn(move || {
        for i in 0..20_000 {
            let got = until("the frame", || far.recv());
            assert_eq!(got.state, WireState::Good);
            assert_eq!(got.bytes, frame(60 + (i * 7 % 900) as usize, i));
        }
    });
    for i in 0..20_000 {
        let sent = frame(60 + (i * 7 % 900) as usize, i);
        until("room", || tx.send(&sent).unwrap().then_some(()));
    }
    reader.join().unwrap();
    assert_eq!(card.command_errors(), (0, 0));
}
