//! What a receive queue makes of what a card does, faults included, on both kinds of card.

#![allow(clippy::unwrap_used)]

mod bench;

use std::time::Duration;

use bench::{Bench, FLOW, frame, seq, until};
use linerate_common::pool::Huge;
use linerate_common::{
    BufRx, Clocked, ErrorKind, FlowKind, FlowSpec, FrameRx, FrameRxExt, FrameTx, NO_TS, RxFlags,
    Steer, forward, wait_readable,
};
use linerate_efvi::{EfviRx, Everything, StampState, open, open_rx, open_set};
use linerate_efvi_sys::ef_event;
use linerate_sim::efvi::{Card, Discard, Kind, Settings};

const KINDS: [Kind; 2] = [Kind::Ring, Kind::Shared];

/// Sends frames `from..to` of 100 B.
fn send(tx: &mut impl FrameTx, from: u32, to: u32) {
    for n in from..to {
        until(|| tx.send(&frame(n, 100)).unwrap());
    }
    tx.kick().unwrap();
}

/// The numbers of the frames that wait.
fn drain(rx: &mut impl FrameRx) -> Vec<u32> {
    let mut got = Vec::new();
    while rx.poll(64, |f| got.push(seq(f.bytes))).unwrap() > 0 {}
    got
}

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
fn flows_of_other_programs_on_a_shared_queue_are_dropped_by_name() {
    let bench = Bench::manual(Kind::Shared);
    let options = bench.options();
    let mut rx = open_rx(bench.b.interface(), &options).unwrap();
    rx.add(&"udp:10.0.0.7:5000".parse().unwrap()).unwrap();
    let EfviRx::Shared(mut rx) = rx else { panic!("a shared card") };
    let mut tx = bench.tx(&options);
    bench.b.other_traffic(true);
    send(&mut tx, 0, 2);
    bench.step();
    assert_eq!(drain(&mut rx), [0, 1], "they come unless they are dropped");
    rx.own_flows_only(true);
    send(&mut tx, 2, 4);
    bench.step();
    assert_eq!(drain(&mut rx), [0; 0]);
    assert_eq!(rx.stats().filtered, 2);
    rx.add(&FLOW).unwrap();
    send(&mut tx, 4, 5);
    bench.step();
    assert_eq!(drain(&mut rx), [4]);
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
fn filters_select_what_they_say_and_refuse_what_they_cannot() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let mut rx = open_rx(bench.b.interface(), &options).unwrap();
    let mut tx = bench.tx(&options);
    let udp = |src: &str, dst: &str| {
        let template =
            linerate_common::packet::UdpTemplate::new(src.parse().unwrap(), dst.parse().unwrap());
        let mut bytes = [0; 100];
        let n = template.unwrap().write(&mut bytes, b"payload").unwrap();
        bytes[..n.max(60)].to_vec()
    };
    let frames = [
        udp("10.0.0.1:9", "239.1.1.1:5000"),
        udp("10.0.0.1:9", "239.1.1.1:5001"),
        udp("10.0.0.2:9", "10.0.0.7:5000"),
        udp("10.0.0.2:10", "10.0.0.7:5000"),
        udp("[fd00::1]:9", "[ff15::7]:5000"),
        frame(0, 60),
    ];
    let cases: [(&str, &[usize]); 6] = [
        ("239.1.1.1:5000", &[0]),
        ("udp:10.0.0.7:5000", &[2, 3]),
        ("udp:10.0.0.7:5000,10.0.0.2:10", &[3]),
        ("[ff15::7]:5000", &[4]),
        ("mac:02:00:00:00:00:02", &[5]),
        ("all", &[0, 1, 2, 3, 4, 5]),
    ];
    for (text, want) in cases {
        let rule = rx.add(&text.parse().unwrap()).unwrap();
        for f in &frames {
            assert!(tx.send(f).unwrap());
        }
        tx.kick().unwrap();
        bench.step();
        tx.reap();
        let mut got = Vec::new();
        rx.poll(64, |f| got.push(frames.iter().position(|x| x == f.bytes).unwrap())).unwrap();
        assert_eq!(got, want, "{text}");
        rx.remove(rule).unwrap();
        assert!(rx.remove(rule).is_err());
    }
    for text in ["239.1.1.1", "10.0.0.9,239.1.1.1:5000", "vlan:7"] {
        let e = rx.add(&text.parse().unwrap()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{text}");
        assert!(e.to_string().contains("5-tuples") && !e.remedy_text().is_empty(), "{e}");
    }
    drop(rx);
    // The kinds that the driver cannot find again.
    let mut options = bench.options();
    options.everything = Everything::Take;
    let mut rx = open_rx(bench.b.interface(), &options).unwrap();
    let rule = rx.add(&FlowSpec::ALL).unwrap();
    assert_eq!(rx.remove(rule).unwrap_err().kind(), ErrorKind::Unsupported);
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn the_filters_of_a_cluster_are_not_ours() {
    let mut settings = Settings::default();
    settings.manual = true;
    settings.cluster = true;
    let bench = Bench::with(Kind::Ring, settings);
    let mut rx = open_rx(bench.b.interface(), &bench.options()).unwrap();
    let e = rx.add(&FLOW).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("cluster daemon"), "{e}");
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

#[test]
fn multicast_reaches_every_queue_that_wants_it() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let (mut one, mut two) = (
        open_rx(bench.b.interface(), &options).unwrap(),
        open_rx(bench.b.interface(), &options).unwrap(),
    );
    let group = FlowSpec::of(FlowKind::Mac([1, 0, 0x5e, 1, 1, 1]));
    one.add(&group).unwrap();
    two.add(&group).unwrap();
    let mut tx = bench.tx(&options);
    let mut bytes = frame(0, 60);
    bytes[..6].copy_from_slice(&[1, 0, 0x5e, 1, 1, 1]);
    assert!(tx.send(&bytes).unwrap());
    tx.kick().unwrap();
    bench.step();
    assert_eq!((one.poll(8, |_| ()), two.poll(8, |_| ())), (Ok(1), Ok(1)));
    drop((one, two, tx));
    bench.is_empty();
}

#[test]
fn a_set_spreads_conversations_over_its_queues() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let mut queues = open_set(bench.b.interface(), 3, &options).unwrap();
    queues[0].add(&"udp:10.0.0.7:5000".parse().unwrap()).unwrap();
    let mut tx = bench.tx(&options);
    for round in 0..2 {
        for port in 1000..1100_u16 {
            let src = std::net::SocketAddr::from(([10, 0, 0, 1], port));
            let dst = "10.0.0.7:5000".parse().unwrap();
            let mut bytes = [0; 64];
            let template = linerate_common::packet::UdpTemplate::new(src, dst).unwrap();
            template.write(&mut bytes, &[round]).unwrap();
            assert!(tx.send(&bytes).unwrap());
        }
    }
    tx.kick().unwrap();
    bench.step();
    let mut owner = std::collections::HashMap::new();
    let mut counts = [0; 3];
    for (i, rx) in queues.iter_mut().enumerate() {
        while rx
            .poll(64, |f| {
                counts[i] += 1;
                let port = u16::from_be_bytes([f.bytes[34], f.bytes[35]]);
                assert_eq!(*owner.entry(port).or_insert(i), i, "one conversation, one queue");
            })
            .unwrap()
            > 0
        {}
    }
    assert_eq!(counts.iter().sum::<u32>(), 200);
    assert!(counts.iter().all(|n| *n > 0), "{counts:?}");
    drop((queues, tx));
    bench.is_empty();
}

#[test]
fn what_the_card_refuses_comes_with_a_remedy() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    for (function, errno, word) in [
        ("ef_vi_alloc_from_pd", libc::EBUSY, "no virtual interface left"),
        ("ef_memreg_alloc", libc::ENOMEM, "ulimit -l"),
        ("ef_pd_alloc_by_name", libc::EPERM, "administratively"),
    ] {
        bench.b.refuse(function, errno);
        let e = open_rx(bench.b.interface(), &options).unwrap_err();
        assert_eq!((e.op(), e.errno()), (function, errno));
        let text = e.to_string();
        assert!(text.starts_with("efvi:simefb"), "{text}");
        assert!(text.contains(word) || word == "administratively" && text.contains("disabled"));
        bench.is_empty();
    }
    let mut rx = open_rx(bench.b.interface(), &options).unwrap();
    bench.b.refuse("ef_vi_filter_add", libc::EPERM);
    let e = rx.add(&FLOW).unwrap_err();
    assert!(e.to_string().contains("CAP_NET_ADMIN"), "{e}");
    assert!(open_rx("no-such-card", &options).unwrap_err().to_string().contains("physical"));
    let mut odd = options.clone();
    odd.rx_ring = 100;
    let e = open(bench.b.interface(), &odd).unwrap_err().to_string();
    assert!(e.contains("100 slots") && e.contains("512"), "{e}");
    let mut unlinked = options;
    unlinked.library = None;
    if linerate_efvi::SDK.library.is_empty() {
        let e = open("eth0", &unlinked).unwrap_err();
        assert!(e.to_string().contains("openonload-devel"), "{e}");
    }
}
