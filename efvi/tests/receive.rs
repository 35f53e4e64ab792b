//! What a receive queue makes of good frames, on both kinds of card.

#![allow(clippy::unwrap_used)]

mod bench;

use std::time::Duration;

use bench::{Bench, FLOW, KINDS, drain, frame, send, seq, until};
use linerate_common::pool::Huge;
use linerate_common::{
    BufRx, Clocked, FrameRx, FrameRxExt, FrameTx, NO_TS, RxFlags, Steer, forward, wait_readable,
};
use linerate_efvi::{EfviRx, StampState, open, open_rx};
use linerate_sim::efvi::{Card, Discard, Kind, Settings};

#[test]
fn long_frames_are_cut_to_their_first_buffer_and_say_so() {
    let mut settings = Settings::default();
    settings.manual = true;
    settings.max_frame = 3600;
    for merge in [false, true] {
        let bench = Bench::with(Kind::Ring, settings.clone());
        let mut options = bench.options();
        options.merge_events = merge;
        let mut rx = bench.rx(&options);
        options.pool = Some(
            linerate_common::pool::Pool::builder()
                .frames(256)
                .frame_bytes(4096)
                .huge(Huge::Never)
                .lock(false)
                .build()
                .unwrap(),
        );
        let mut tx = bench.tx(&options);
        let lens = [100, 3500, 100, 3500, 3500, 100];
        for (n, len) in (0..).zip(lens) {
            assert!(tx.send(&frame(n, len)).unwrap());
        }
        tx.kick().unwrap();
        bench.step();
        let mut got = Vec::new();
        rx.poll(64, |f| {
            let n = got.len();
            assert_eq!(f.bytes, &frame(n as u32, lens[n])[..f.bytes.len()], "frame {n}");
            assert_eq!(f.bytes.len() < lens[n], f.meta.flags.contains(RxFlags::TRUNCATED));
            assert_ne!(f.meta.ts_ns, NO_TS);
            got.push(f.meta.wire_len as usize);
        })
        .unwrap();
        assert_eq!(got, lens);
        assert_eq!((rx.stats().frames, rx.stats().flagged), (6, 3));
        // A long frame that is bad is one bad frame.
        bench.b.discard(1, Discard::Crc);
        for (n, len) in (0..).zip([100, 3500, 100]) {
            assert!(tx.send(&frame(n, len)).unwrap());
        }
        tx.kick().unwrap();
        bench.step();
        let mut lens = Vec::new();
        rx.poll(64, |f| lens.push(f.meta.wire_len)).unwrap();
        assert_eq!((lens, rx.discards().crc, rx.stats().crc), (vec![100, 100], 1, 1));
        drop((rx, tx));
        bench.is_empty();
    }
}

#[test]
fn stamps_are_read_in_time_and_say_how_good_they_are() {
    for kind in KINDS {
        for synced in [true, false] {
            let mut settings = Settings::default();
            settings.manual = true;
            settings.clock_synced = synced;
            let bench = Bench::with(kind, settings);
            let options = bench.options();
            let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
            let before = linerate_common::clock::now_ns();
            send(&mut tx, 0, 40);
            bench.step();
            // Small windows: the rest of what a poll gave is stamped later, before the next poll.
            let mut got = 0;
            loop {
                let burst = rx.burst(7).unwrap();
                if burst.is_empty() {
                    break;
                }
                for f in burst.iter() {
                    assert!(f.meta.ts_ns >= before && f.meta.flags.contains(RxFlags::TS_HW));
                    assert_eq!(f.meta.flags.contains(RxFlags::TS_UNSYNCED), !synced);
                    got += 1;
                }
            }
            assert_eq!((got, rx.clock().synced), (40, Some(synced)));
            for (errno, state) in [
                (libc::ENOMSG, StampState::NotYetInSync),
                (libc::ENODATA, StampState::NoneInFrame),
                (libc::EL2NSYNC, StampState::LostSync),
            ] {
                bench.b.no_stamps(Some(errno));
                send(&mut tx, 0, 1);
                bench.step();
                let mut ts = 0;
                rx.poll(64, |f| ts = f.meta.ts_ns).unwrap();
                assert_eq!((ts, rx.stamps()), (NO_TS, state));
            }
            drop((rx, tx));
            bench.is_empty();
        }
    }
}

#[test]
fn both_waits_wake_up() {
    for kind in KINDS {
        let bench = Bench::new(kind);
        let options = bench.options();
        let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
        for n in 0..50 {
            let by_fd = n % 2 == 0;
            if by_fd {
                rx.waitable().unwrap().arm().unwrap();
            }
            send(&mut tx, n, n + 1);
            if by_fd {
                let fd = rx.waitable().unwrap();
                assert!(wait_readable(fd.fd(), Some(Duration::from_secs(30))).unwrap());
            } else {
                assert!(rx.wait(Some(Duration::from_secs(30))).unwrap());
            }
            assert_eq!(drain(&mut rx), [n]);
            tx.reap();
        }
        drop((rx, tx));
        bench.is_empty();
    }
}

#[test]
fn looking_ahead_delays_frames_but_never_for_good() {
    let bench = Bench::manual(Kind::Ring);
    let mut options = bench.options();
    options.look_ahead = 16;
    let (mut rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    send(&mut tx, 0, 3);
    bench.step();
    let turns = (1..).find(|_| rx.poll(64, |_| ()).unwrap() == 3).unwrap();
    assert_eq!(turns, 101, "100 looks in vain, then a read");
    send(&mut tx, 0, 20);
    bench.step();
    assert_eq!(rx.poll(64, |_| ()), Ok(20), "at once");
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn the_first_bytes_of_a_frame_can_be_read_while_it_arrives() {
    let bench = Bench::manual(Kind::Shared);
    let options = bench.options();
    let (rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    let EfviRx::Shared(mut rx) = rx else { panic!("a shared card") };
    assert!(rx.future().is_none());
    bench.b.slow_tails(true);
    // Two frames, and one look at the card's state in the middle of each.
    for (n, fault) in [(0, None), (1, Some(Discard::Crc))] {
        if let Some(fault) = fault {
            bench.b.discard(0, fault);
        }
        send(&mut tx, n, n + 1);
        bench.a.step();
        bench.b.arrive();
        let future = rx.future().expect("a frame is arriving");
        let mut first = [0; 62];
        assert_eq!((future.copy_to(0, &mut first), future.len()), (62, 62));
        assert_eq!(first[..], frame(n, 100)[..62]);
        assert_eq!((future.byte(14), future.byte(62)), (Some(n as u8), None));
        assert_eq!(future.finish(|_| panic!("it is not complete")), Ok(0));
        bench.step();
        let future = rx.future().expect("it is complete now");
        let mut got = Vec::new();
        let shown = future.finish(|f| got.push(seq(f.bytes))).unwrap();
        let good = usize::from(fault.is_none());
        assert_eq!((shown, got.len()), (good, good));
    }
    assert_eq!(rx.stats().crc, 1);
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn taken_frames_go_from_card_to_card_without_a_copy() {
    let bench = Bench::new(Kind::Ring);
    let options = bench.options();
    let (rx, mut tx) = (bench.rx(&options), bench.tx(&options));
    let EfviRx::Ring(mut rx) = rx else { panic!("a ring card") };
    let mut back = linerate_efvi::open_tx(bench.b.interface(), &options).unwrap();
    let mut home = open_rx(bench.a.interface(), &options).unwrap();
    home.add(&FLOW).unwrap();
    let (mut sent, mut got) = (0, Vec::new());
    until(|| {
        while sent < 3000 && sent < got.len() as u32 + 200 && tx.send(&frame(sent, 100)).unwrap() {
            sent += 1;
        }
        tx.kick().unwrap();
        tx.reap();
        forward(&mut rx, &mut back, 64, |_| true).unwrap();
        home.poll(64, |f| got.push(seq(f.bytes))).unwrap();
        got.len() == 3000
    });
    assert_eq!(got, (0..3000).collect::<Vec<_>>());
    // One kept for longer.
    send(&mut tx, 7, 8);
    until(|| rx.acquire(1).unwrap() == 1);
    let kept = rx.take(0).unwrap();
    rx.release();
    assert_eq!(bench.pool.outstanding(), 1);
    assert_eq!(seq(bench.pool.bytes(&kept).unwrap()), 7);
    bench.pool.free(kept).unwrap();
    drop((rx, tx, back, home));
    bench.is_empty();
}

#[test]
fn a_card_can_hang_on_a_kernel_interface() {
    let lab = linerate_lab::lab_or_skip!();
    let plug = |dev: &'static str, a: bool| {
        let open = move || linerate_sim::Plug::veth(dev);
        if a { lab.in_a(open).unwrap() } else { lab.in_b(open).unwrap() }
    };
    let far = plug("v1", false);
    let name = format!("simefveth-{}", std::process::id());
    let card = Card::new(&name, Kind::Ring, plug("v0", true)).unwrap();
    let mut options = linerate_efvi::Options::default();
    options.library = Some(linerate_sim::efvi::library());
    options.huge = Huge::Never;
    let (mut rx, mut tx) = open(card.interface(), &options).unwrap().split();
    rx.add(&FLOW).unwrap();
    assert!(far.send(&frame(3, 200), linerate_sim::WireState::Good));
    let mut got = Vec::new();
    until(|| {
        rx.poll(8, |f| got.push(seq(f.bytes))).unwrap();
        !got.is_empty()
    });
    assert_eq!(got, [3]);
    assert!(tx.send(&frame(4, 200)).unwrap());
    tx.kick().unwrap();
    until(|| far.recv().is_some_and(|f| f.bytes == frame(4, 200)));
    assert_eq!(card.violations(), [""; 0]);
}
