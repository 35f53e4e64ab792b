//! What a receive queue makes of a card's faults: each frame dropped has its name, each buffer
//! comes back.

#![allow(clippy::unwrap_used)]

mod bench;

use bench::{Bench, KINDS, drain, frame, send, seq};
use linerate_common::pool::Huge;
use linerate_common::{ErrorKind, FrameRx, FrameTx, RxFlags};
use linerate_efvi::EfviRx;
use linerate_efvi_sys::ef_event;
use linerate_sim::efvi::{Discard, Kind, Settings};

#[test]
fn each_discard_is_counted_by_its_name_and_its_buffer_comes_back() {
    for kind in KINDS {
        for merge in [false, kind == Kind::Ring] {
            let bench = Bench::manual(kind);
            let mut options = bench.options();
            options.merge_events = merge;
            let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
            for (n, reason) in Discard::ALL.into_iter().enumerate() {
                bench.b.discard(2 * n, reason);
            }
            send(&mut tx, 0, 16);
            bench.step();
            assert_eq!(drain(&mut rx), (0..16).filter(|n| n % 2 == 1).collect::<Vec<_>>());
            let d = rx.discards();
            assert_eq!(
                (d.total(), d.crc, d.truncated, d.checksum, d.inner_checksum),
                (8, 1, 1, 1, 1)
            );
            if kind == Kind::Ring {
                let rest = [d.multicast_mismatch, d.rights, d.event_error, d.other];
                assert_eq!(rest, [1; 4]);
            } else {
                assert_eq!(d.other, 4, "X3 names fewer reasons");
            }
            let stats = rx.stats();
            assert_eq!((stats.frames, stats.crc, stats.truncated, stats.malformed), (8, 1, 1, 6));
            drop((rx, tx));
            bench.is_empty();
        }
    }
}

#[test]
fn bad_frames_are_delivered_with_a_flag_when_asked_for() {
    for kind in KINDS {
        let bench = Bench::manual(kind);
        let mut options = bench.options();
        options.deliver_bad = true;
        let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
        bench.b.discard(0, Discard::Crc);
        bench.b.discard(1, Discard::Checksum);
        send(&mut tx, 0, 3);
        bench.step();
        let mut flags = Vec::new();
        rx.poll(64, |f| flags.push((seq(f.bytes), f.meta.flags))).unwrap();
        assert!(flags[0].1.contains(RxFlags::BAD) && flags[1].1.contains(RxFlags::CSUM_BAD));
        assert!(!flags[2].1.contains(RxFlags::BAD) && flags.len() == 3);
        assert_eq!((rx.stats().frames, rx.stats().flagged, rx.stats().lost()), (3, 1, 0));
        drop((rx, tx));
        bench.is_empty();
    }
}

#[test]
fn what_no_buffer_was_there_for_is_the_cards_count() {
    let bench = Bench::manual(Kind::Ring);
    let mut options = bench.options();
    options.rx_ring = 64;
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    send(&mut tx, 0, 100);
    bench.step();
    assert_eq!(drain(&mut rx), (0..56).collect::<Vec<_>>(), "63 slots, of which 56 in full eights");
    assert_eq!(rx.stats().no_buffer, 44);
    // The ring is full again.
    send(&mut tx, 200, 240);
    bench.step();
    assert_eq!(drain(&mut rx), (200..240).collect::<Vec<_>>());
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn an_overflow_and_a_reset_are_errors_until_the_queue_is_rebuilt() {
    for kind in KINDS {
        for reset in [false, true] {
            let bench = Bench::manual(kind);
            let options = bench.options();
            let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
            send(&mut tx, 0, 3);
            bench.step();
            if reset {
                bench.b.reset()
            } else {
                bench.b.overflow()
            }
            // What came before is still delivered.
            let mut got = Vec::new();
            let n = rx.poll(64, |f| got.push(seq(f.bytes)));
            assert_eq!((n, got), (Ok(3), vec![0, 1, 2]));
            let e = rx.poll(64, |_| ()).unwrap_err();
            assert_eq!(e.kind, ErrorKind::QueueLost);
            assert_eq!(e.op.ends_with("RESET"), reset);
            assert_eq!(rx.acquire(64).unwrap_err(), e, "again");
            let mut rx = rx.rebuild().unwrap();
            send(&mut tx, 3, 6);
            bench.step();
            assert_eq!(drain(&mut rx), [3, 4, 5], "with its flow");
            drop((rx, tx));
            bench.is_empty();
        }
    }
}

#[test]
fn a_frame_cut_off_for_want_of_descriptors_is_not_delivered() {
    let mut settings = Settings::default();
    settings.manual = true;
    settings.max_frame = 3600;
    let bench = Bench::with(Kind::Ring, settings);
    let mut options = bench.options();
    options.rx_ring = 64;
    let mut rx = bench.rx(&options);
    let big = linerate_common::pool::Pool::builder().frames(256).frame_bytes(4096);
    options.pool = Some(big.huge(Huge::Never).lock(false).build().unwrap());
    let mut tx = bench.tx(&options);
    for n in 0..55 {
        assert!(tx.send(&frame(n, 100)).unwrap());
    }
    assert!(tx.send(&frame(99, 3500)).unwrap());
    tx.kick().unwrap();
    bench.step();
    assert_eq!(drain(&mut rx), (0..55).collect::<Vec<_>>());
    assert_eq!(rx.stats().no_buffer, 1);
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn events_of_other_kinds_are_passed_over() {
    for kind in KINDS {
        let bench = Bench::manual(kind);
        let options = bench.options();
        let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
        bench.b.event(ef_event::new(linerate_efvi_sys::EF_EVENT_TYPE_SW, 0));
        send(&mut tx, 0, 1);
        bench.step();
        bench.b.event(ef_event::new(0x777, 0));
        send(&mut tx, 1, 2);
        bench.step();
        assert_eq!(drain(&mut rx), [0, 1]);
        let unknown = match &rx {
            EfviRx::Ring(rx) => rx.unknown_events(),
            EfviRx::Shared(rx) => rx.unknown_events(),
        };
        assert_eq!(unknown, 1, "the software event is a known one");
        drop((rx, tx));
        bench.is_empty();
    }
}

#[test]
fn an_event_about_a_buffer_that_is_not_lent_is_refused() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    let rx_event = |id: u32, len| {
        ef_event::new(linerate_efvi_sys::EF_EVENT_TYPE_RX, 0)
            .with(32, 32, id)
            .with(64, 16, len)
            .with(80, 16, linerate_efvi_sys::EF_EVENT_FLAG_SOP)
    };
    bench.b.event(rx_event(u32::MAX, 100));
    bench.b.event(rx_event(2047, 100));
    assert_eq!(rx.poll(64, |_| ()), Ok(0));
    assert_eq!(rx.stats().malformed, 2);
    send(&mut tx, 0, 4);
    bench.step();
    assert_eq!(drain(&mut rx).len(), 4);
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn a_length_that_cannot_be_is_counted_and_the_buffer_comes_back() {
    for kind in KINDS {
        let bench = Bench::manual(kind);
        let options = bench.options();
        let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
        // Longer than a buffer, and shorter than the metadata in front of a frame.
        for (n, wrong) in (0..).zip([5000, if kind == Kind::Ring { 3 } else { 2049 }]) {
            bench.b.wrong_length(wrong);
            send(&mut tx, 2 * n, 2 * n + 2);
            bench.step();
            assert_eq!(drain(&mut rx), [2 * n + 1]);
        }
        assert_eq!((rx.stats().malformed, rx.stats().frames), (2, 2));
        if let EfviRx::Ring(rx) = &rx {
            assert_eq!(rx.lent(), rx.posted());
        }
        drop((rx, tx));
        bench.is_empty();
    }
}
