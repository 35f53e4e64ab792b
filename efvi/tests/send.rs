//! What a send queue does on each path, and what it makes of a card's faults.

#![allow(clippy::unwrap_used)]

mod bench;

use bench::{Bench, drain, frame};
use linerate_common::{BufTx, Clocked, ErrorKind, FrameTx, NO_TS, RxFlags, TxStamps};
use linerate_efvi::{Path, Push, SendPath, open_tx};
use linerate_sim::efvi::{Kind, Settings};

#[test]
fn ctpio_sends_at_commit_and_tells_when_it_fell_back() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    assert_eq!(tx.path(), Path::Ctpio);
    for (n, loses) in (0..).zip([false, true, true, false, true]) {
        bench.a.ctpio_loses(loses);
        assert!(tx.send(&frame(n, 100)).unwrap());
    }
    // No kick.
    bench.step();
    assert_eq!(drain(&mut rx), [0, 1, 2, 3, 4]);
    let mut sent = Vec::new();
    assert_eq!(tx.reap_sent(|s| sent.push((s.seq, s.path))), 5);
    let (won, lost) = (Path::Ctpio, Path::Fallback);
    assert_eq!(sent, [(0, won), (1, lost), (2, lost), (3, won), (4, lost)]);
    assert_eq!((tx.paths().ctpio, tx.paths().fallback, tx.paths().dma), (2, 3, 0));
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn dma_sends_a_group_at_kick() {
    let bench = Bench::manual(Kind::Ring);
    let mut options = bench.options();
    options.path = SendPath::Dma;
    options.push = Push::Below(4);
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    for n in 0..10 {
        assert!(tx.send(&frame(n, 100)).unwrap());
    }
    bench.step();
    assert_eq!(drain(&mut rx), [0; 0]);
    tx.kick().unwrap();
    bench.step();
    assert_eq!(drain(&mut rx), (0..10).collect::<Vec<_>>());
    assert_eq!((tx.reap(), tx.paths().dma), (10, 10));
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn pio_takes_what_fits_and_leaves_the_rest_to_dma_in_order() {
    let bench = Bench::manual(Kind::Ring);
    let mut options = bench.options();
    options.path = SendPath::Pio;
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    // Eight slots of 256 B, and frames that need more.
    let lens = [100, 256, 257, 60, 1514, 100, 100, 100, 100, 100, 100, 100];
    for (n, len) in (0..).zip(lens) {
        assert!(tx.send(&frame(n, len)).unwrap());
    }
    tx.kick().unwrap();
    bench.step();
    assert_eq!(drain(&mut rx), (0..12).collect::<Vec<_>>());
    assert_eq!(tx.reap(), 12);
    assert_eq!((tx.paths().pio, tx.paths().dma), (8, 4));
    // Slots are free again, and not before.
    assert!(tx.send(&frame(12, 100)).unwrap());
    bench.step();
    tx.reap();
    assert_eq!((drain(&mut rx), tx.paths().pio), (vec![12], 9));
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn late_completions_make_back_pressure_and_no_loss() {
    for kind in [Kind::Ring, Kind::Shared] {
        let bench = Bench::manual(kind);
        let mut options = bench.options();
        options.tx_ring = 64;
        let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
        bench.a.hold_completions(true);
        let mut sent = 0;
        while tx.send(&frame(sent, 1000)).unwrap() {
            sent += 1;
        }
        // The ring's 63 slots, or the FIFO's 32 KiB.
        assert_eq!(sent, if kind == Kind::Ring { 63 } else { 32 });
        assert_eq!(tx.room(), 0);
        bench.step();
        assert_eq!(drain(&mut rx).len(), sent as usize);
        assert_eq!((tx.reap(), tx.room()), (0, 0));
        bench.a.hold_completions(false);
        bench.step();
        assert_eq!(tx.reap(), sent as usize);
        assert!(tx.room() > 0);
        assert_eq!(tx.stats().completed, sent.into());
        drop((rx, tx));
        bench.is_empty();
    }
}

#[test]
fn a_send_error_fails_what_was_under_way_and_the_queue_goes_on() {
    let bench = Bench::manual(Kind::Shared);
    let options = bench.options();
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    bench.a.tx_error();
    for n in 0..5 {
        assert!(tx.send(&frame(n, 100)).unwrap());
    }
    bench.step();
    assert_eq!(tx.reap(), 5);
    assert_eq!((tx.stats().failed, tx.stats().completed), (5, 0));
    assert!(tx.kick().is_ok());
    for n in 5..200 {
        assert!(tx.send(&frame(n, 100)).unwrap());
        bench.step();
        tx.reap();
    }
    assert_eq!(drain(&mut rx), (5..200).collect::<Vec<_>>());
    assert_eq!((tx.stats().failed, tx.stats().completed), (5, 195));
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn a_lost_send_queue_says_so_and_can_be_rebuilt() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    assert!(tx.send(&frame(0, 100)).unwrap());
    bench.a.reset();
    assert_eq!(tx.reap(), 0);
    assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::QueueLost);
    assert!(tx.reserve(60).is_none() && tx.room() == 0);
    let buf = bench.pool.alloc(60).unwrap();
    let buf = tx.push(buf).unwrap_err();
    bench.pool.free(buf).unwrap();
    let mut tx = tx.rebuild().unwrap();
    assert!(tx.send(&frame(1, 100)).unwrap());
    bench.step();
    assert_eq!(drain(&mut rx), [1]);
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn send_stamps_come_in_order_with_their_clock() {
    for kind in [Kind::Ring, Kind::Shared] {
        let mut settings = Settings::default();
        settings.manual = true;
        settings.clock_synced = false;
        let bench = Bench::with(kind, settings);
        let mut options = bench.options();
        options.tx_timestamps = true;
        let mut tx = bench.tx(&options);
        let before = linerate_common::clock::now_ns();
        for n in 0..20 {
            assert!(tx.send(&frame(n, 100)).unwrap());
        }
        bench.step();
        let mut stamps = Vec::new();
        assert_eq!(tx.reap_with(&mut |s| stamps.push(s)), 20);
        for (n, s) in (0..).zip(&stamps) {
            assert_eq!(s.seq, n);
            assert!(s.ts_ns >= before && s.ts_ns != NO_TS);
            assert!(s.flags.contains(RxFlags::TS_HW | RxFlags::TS_UNSYNCED));
        }
        assert_eq!((stamps.len(), tx.clock().synced), (20, Some(false)));
        drop(tx);
        bench.is_empty();
    }
}

#[test]
fn warming_sends_nothing_and_breaks_nothing() {
    for (kind, path) in
        [(Kind::Ring, SendPath::Dma), (Kind::Ring, SendPath::Ctpio), (Kind::Shared, SendPath::Auto)]
    {
        let bench = Bench::manual(kind);
        let mut options = bench.options();
        options.path = path;
        let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
        // What was committed before goes out first.
        assert!(tx.send(&frame(0, 100)).unwrap());
        if let Some(mut warming) = tx.warm().unwrap() {
            for n in 100..200 {
                assert!(warming.send(&frame(n, 100)));
            }
            assert!(!warming.send(&[0; 4000]) && !warming.send(&[]));
        }
        assert!(tx.send(&frame(1, 100)).unwrap());
        tx.kick().unwrap();
        bench.step();
        assert_eq!(drain(&mut rx), [0, 1]);
        assert_eq!((tx.reap(), tx.stats().frames, tx.stats().queue_full), (2, 2, 0));
        drop((rx, tx));
        bench.is_empty();
    }
}

#[test]
fn a_preloaded_frame_leaves_when_fired() {
    let bench = Bench::manual(Kind::Ring);
    let mut options = bench.options();
    options.alternatives = 3;
    options.alternatives_bytes = 1024;
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    assert_eq!((tx.alternatives(), tx.path()), (3, Path::Dma));
    for (alt, n) in [(0, 10), (1, 20), (1, 21), (2, 30)] {
        assert_eq!(tx.preload(alt, &frame(n, 100)), Ok(true));
    }
    // 100 B take 160 of the card's 1024; an ordinary frame passes by them all.
    assert!(tx.send(&frame(1, 100)).unwrap());
    tx.kick().unwrap();
    bench.step();
    assert_eq!(tx.reap(), 5, "buffers are the host's again");
    assert_eq!(drain(&mut rx), [1]);
    tx.fire(1).unwrap();
    assert_eq!(tx.preload(1, &frame(22, 100)), Ok(false), "still on its way");
    assert!(tx.discard(1).is_err(), "too late");
    bench.step();
    assert_eq!(drain(&mut rx), [20, 21]);
    tx.reap();
    // The slot can be loaded again, and others were not touched.
    assert_eq!(tx.preload(1, &frame(23, 100)), Ok(true));
    bench.step();
    assert_eq!(drain(&mut rx), [0; 0], "it is held again");
    assert_eq!(tx.discard(0), Ok(true));
    tx.fire(2).unwrap();
    tx.fire(1).unwrap();
    bench.step();
    let mut got = drain(&mut rx);
    got.sort_unstable();
    assert_eq!(got, [23, 30]);
    tx.reap();
    assert_eq!(tx.preload(0, &frame(11, 100)), Ok(true), "a discarded one is empty");
    tx.fire(0).unwrap();
    bench.step();
    assert_eq!(drain(&mut rx), [11]);
    tx.reap();
    // What the card has not fetched cannot be thrown away: it would be held after all.
    assert_eq!(tx.preload(0, &frame(12, 100)), Ok(true));
    assert_eq!(tx.discard(0), Ok(false));
    bench.step();
    tx.reap();
    assert_eq!(tx.discard(0), Ok(true));
    assert_eq!(tx.preload(0, &frame(13, 100)), Ok(true));
    tx.fire(0).unwrap();
    bench.step();
    assert_eq!(drain(&mut rx), [13]);
    tx.reap();
    // No room for more than the card's buffers hold.
    let loaded = (0..20).take_while(|_| tx.preload(0, &frame(40, 100)) == Ok(true)).count();
    assert_eq!(loaded, 6);
    assert_eq!(tx.preload(7, &frame(0, 100)).unwrap_err().kind, ErrorKind::BadArgument);
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn what_the_card_lacks_is_an_error_by_name() {
    let mut settings = Settings::default();
    settings.manual = true;
    (settings.ctpio, settings.pio, settings.alternatives) = (false, false, false);
    settings.timestamps = false;
    let bench = Bench::with(Kind::Ring, settings);
    let name = bench.a.interface();
    let check = |change: &dyn Fn(&mut linerate_efvi::Options)| {
        let mut options = bench.options();
        change(&mut options);
        let e = open_tx(name, &options).unwrap_err();
        bench.is_empty();
        e.kind()
    };
    assert_eq!(check(&|o| o.path = SendPath::Ctpio), ErrorKind::Unsupported);
    assert_eq!(check(&|o| o.path = SendPath::Pio), ErrorKind::Unsupported);
    assert_eq!(check(&|o| o.alternatives = 1), ErrorKind::Unsupported);
    assert_eq!(check(&|o| o.tx_timestamps = true), ErrorKind::Unsupported);
    let mut tx = bench.tx(&bench.options());
    assert_eq!(tx.path(), Path::Dma);
    assert_eq!(tx.preload(0, &[0; 60]).unwrap_err().kind, ErrorKind::Unsupported);
    assert_eq!(tx.fire(0).unwrap_err().kind, ErrorKind::Unsupported);
}

#[test]
fn closing_with_frames_under_way_gives_every_buffer_back() {
    for path in [SendPath::Dma, SendPath::Ctpio, SendPath::Pio] {
        let bench = Bench::new(Kind::Ring);
        let mut options = bench.options();
        options.path = path;
        let (rx, mut tx) = (bench.rx(&options), bench.tx(&options));
        for n in 0..300 {
            tx.send(&frame(n, 200)).unwrap();
        }
        tx.kick().unwrap();
        let _reserved = tx.reserve(60).is_some();
        drop(tx);
        drop(rx);
        bench.is_empty();
    }
}
