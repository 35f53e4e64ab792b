//! Opening, finding and closing cards; their clocks.

mod rig;

use linerate_common::{ClockDomain, Clocked, ErrorKind, FrameRx, NO_TS, RxFlags};
use linerate_exanic::{Api, Options, RxBuffer, open_with, port_of_interface_with, ports_with};
use linerate_sim::exanic::Card;
use rig::{START, drain, frame, open, open_rx, options};

#[test]
fn ports_are_found_by_device_and_by_interface() {
    let card = Card::builder().interface(1, "sim-if-by-name").build();
    let all = ports_with(Card::api()).unwrap();
    assert!(all.contains(&(card.name().to_owned(), 0)) && all.contains(&(card.name().into(), 1)));
    let by_interface = open_with(Card::api(), "sim-if-by-name", &Options::default()).unwrap();
    assert_eq!((by_interface.device().name(), by_interface.number()), (card.name(), 1));
    assert_eq!(
        port_of_interface_with(Card::api(), "sim-if-by-name").unwrap(),
        (card.name().to_owned(), 1)
    );
    assert_eq!(by_interface.device().interface(1).unwrap(), "sim-if-by-name");
    let colon = format!("{}:1", card.name());
    assert_eq!(open_with(Card::api(), &colon, &Options::default()).unwrap().number(), 1);
    let status = by_interface.status().unwrap();
    assert_eq!((status.link, status.speed_mbps, status.mac), (true, 10_000, card.mac(1)));
    assert_eq!(by_interface.device().model(), Some("ExaNIC X10"));
}

#[test]
fn what_cannot_be_opened_says_why_and_what_to_do() {
    let card = Card::new();
    let fails = |name: &str| open_with(Card::api(), name, &Options::default()).unwrap_err();
    let e = fails("exanic77/0");
    assert_eq!(e.kind(), ErrorKind::DeviceGone);
    assert!(e.to_string().contains("exanic77") && e.to_string().contains("modprobe"), "{e}");
    assert_eq!(fails(&format!("{}/2", card.name())).kind(), ErrorKind::BadArgument);
    assert_eq!(fails(&format!("{}/x", card.name())).kind(), ErrorKind::BadArgument);
    assert_eq!(fails("no-such-interface").kind(), ErrorKind::Unsupported);
    assert_eq!(fails("a-name-that-is-too-long/0").kind(), ErrorKind::BadArgument);
    assert_eq!(fails("nul\0/0").kind(), ErrorKind::BadArgument);
    card.set_enabled(0, false);
    let port = open(&card, 0, &Options::default());
    for e in [port.rx().unwrap_err(), port.tx().unwrap_err()] {
        assert_eq!(e.kind(), ErrorKind::LinkDown);
        assert!(e.to_string().contains("ip link set"), "{e}");
    }
    let unknown = Card::builder().hardware_id(99).build();
    assert!(fails(&unknown.port_name(0)).to_string().contains("unknown hardware ID"));
    assert_eq!(unknown.handle_count(), 0, "a failed open leaves nothing behind");
}

#[test]
fn without_the_sdk_a_real_card_is_refused_with_the_reason() {
    // Built against an SDK, the answer is the library's.
    if Api::linked().is_err() {
        let e = linerate_exanic::open("exanic0/0", &Options::default()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("libexanic") && e.to_string().contains("sdk"), "{e}");
    }
}

#[test]
fn a_card_closes_with_the_last_of_its_queues_in_any_order() {
    let card = Card::new();
    for _ in 0..200 {
        let port = open(&card, 0, &options(|o| o.flows = vec!["ether:0x88b5".parse().unwrap()]));
        let (rx, tx) = port.split().unwrap();
        let cut = port.cut_through().unwrap();
        let orders = port.preloaded(2, 100).unwrap();
        drop(port);
        assert!(card.handle_count() >= 5);
        drop((tx, cut));
        drop(rx);
        drop(orders);
        assert_eq!((card.handle_count(), card.rules(0)), (0, 0));
        assert_eq!(card.tx_resources_in_use(), (0, 0));
    }
}

#[test]
fn many_threads_open_and_close_at_once() {
    let card = Card::new();
    std::thread::scope(|s| {
        for t in 0..4 {
            let card = &card;
            s.spawn(move || {
                for _ in 0..100 {
                    let port = open(card, t % 2, &options(|o| o.buffer = RxBuffer::Unused));
                    let mut rx = port.rx().unwrap();
                    let tx = port.tx();
                    assert_eq!(rx.poll(1, |_| ()).unwrap(), 0);
                    // What failed in another thread is not this one's error.
                    let e = open_with(Card::api(), "exanic88/0", &Options::default()).unwrap_err();
                    assert!(e.to_string().contains("device open failed"), "{e}");
                    drop((rx, tx));
                }
            });
        }
    });
    assert_eq!(card.handle_count(), 0);
}

#[test]
fn a_card_taken_away_leaves_its_open_queues_harmless() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &Options::default());
    card.inject(0, &frame(60, 1));
    drop(card);
    assert_eq!(drain(&mut rx).len(), 1);
    assert!(drain(&mut rx).is_empty());
}

#[test]
fn stamps_are_utc_at_any_rate() {
    for hz in [156_250_000, 161_132_800, 322_265_625, 4_000_000_000] {
        let seconds = 1_790_000_000_u64;
        let start = seconds * u64::from(hz);
        let card = Card::builder().tick_hz(hz).manual_clock(start).build();
        let mut rx = open_rx(&card, 0, &Options::default());
        for step in 0..50_u64 {
            let ticks = start + step * u64::from(hz) / 7;
            card.set_ticks(ticks);
            card.inject(0, &frame(60, step));
            let stamped_at = card.ticks();
            let [(_, meta)] = drain(&mut rx).try_into().unwrap();
            let exact = u128::from(stamped_at) * 1_000_000_000 / u128::from(hz);
            assert_eq!(u128::from(meta.ts_ns), exact, "{hz} Hz, step {step}");
            assert!(meta.flags.contains(RxFlags::TS_HW));
            assert!(!meta.flags.contains(RxFlags::TS_UNSYNCED));
        }
    }
}

#[test]
fn a_frame_that_waited_too_long_gets_no_time_rather_than_a_wrong_one() {
    let card = Card::builder().manual_clock(START).build();
    let mut rx = open_rx(&card, 0, &Options::default());
    card.inject(0, &frame(60, 1));
    // 40 s at 161 MHz: more than 32 bits of ticks.
    card.set_ticks(START + 40 * 161_132_800);
    assert_eq!(drain(&mut rx)[0].1.ts_ns, NO_TS);
    card.inject(0, &frame(60, 2));
    let now = u128::from(card.ticks()) * 1_000_000_000 / 161_132_800;
    assert_eq!(u128::from(drain(&mut rx)[0].1.ts_ns), now, "and time again afterwards");
}

#[test]
fn cards_that_keep_time_in_registers_only_give_stamps_too() {
    let card = Card::builder().without_info_page().build();
    let mut rx = open_rx(&card, 0, &Options::default());
    for i in 0..10 {
        card.inject(0, &frame(60, i));
        let [(_, meta)] = drain(&mut rx).try_into().unwrap();
        let apart = i128::from(meta.ts_ns) - i128::from(linerate_common::clock::now_ns());
        assert!(apart.abs() < 10_000_000_000, "{apart} ns");
    }
}

#[test]
fn a_clock_that_is_off_is_said_to_be() {
    let card = Card::new();
    assert!(open(&card, 0, &Options::default()).notices().is_empty());
    let rx = open_rx(&card, 0, &Options::default());
    let clock = rx.clock();
    assert_eq!((clock.domain, clock.synced, clock.resolution_ns), (ClockDomain::Card, None, 7));

    card.shift_ticks(37 * 161_132_800);
    let notices = open(&card, 0, &Options::default()).notices().join(" ");
    assert!(notices.contains("TAI"), "{notices}");
    let tai = options(|o| o.clock_lead_s = 37);
    assert!(open(&card, 0, &tai).notices().is_empty());
    let mut rx = open_rx(&card, 0, &tai);
    card.inject(0, &frame(60, 1));
    let apart =
        i128::from(drain(&mut rx)[0].1.ts_ns) - i128::from(linerate_common::clock::now_ns());
    assert!(apart.abs() < 10_000_000_000, "{apart} ns");

    card.shift_ticks(100_000 * 161_132_800);
    let notices = open(&card, 0, &Options::default()).notices().join(" ");
    assert!(notices.contains("exanic-clock-sync"), "{notices}");
    assert_eq!(open_rx(&card, 0, &Options::default()).clock().synced, Some(false));
}

#[test]
fn a_card_without_time_says_so() {
    let card = Card::builder().tick_hz(0).manual_clock(5).build();
    let port = open(&card, 0, &Options::default());
    assert!(port.notices().join(" ").contains("no usable clock"));
    let mut rx = port.rx().unwrap();
    card.inject(0, &frame(60, 1));
    let [(_, meta)] = drain(&mut rx).try_into().unwrap();
    assert_eq!((meta.ts_ns, meta.flags), (NO_TS, RxFlags::NONE));
    assert_eq!(rx.clock().domain, ClockDomain::None);

    let card = Card::new();
    card.set_time_ready(0, false);
    let mut rx = open_rx(&card, 0, &Options::default());
    assert_eq!(rx.clock().synced, Some(false));
    card.inject(0, &frame(60, 1));
    assert!(drain(&mut rx)[0].1.flags.contains(RxFlags::TS_UNSYNCED));
    assert!(rx.waitable().is_none(), "there is nothing to sleep on");
}
