//! What the receive queue shows of what the real kernel has: order, stamps, bytes, and when to
//! wake up.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::*;
use linerate_common::clock::now_ns;
use linerate_common::{ClockInfo, Clocked, FrameRx, FrameRxExt, RxFlags, Waitable, wait_readable};
use linerate_lab::lab_or_skip;
use linerate_udp::Options;

#[test]
fn what_waits_in_several_sockets_comes_in_the_order_of_time() {
    let lab = lab_or_skip!();
    let list = ["239.77.0.1:5000", "239.77.0.1:5001", "239.77.0.1:5002"];
    // The second queue tells when everything has come.
    let (mut rx, mut probe) = lab.in_b(|| (rx("v1", &list), rx("v1", &list)));
    let mut tx = lab.in_a(|| tx("v0"));
    // Until the kernel has switched its stamping on, datagrams bear the time of reading.
    wait_for("stamps by the kernel", || {
        send(&mut tx, &frame("239.77.0.1:5000", b"warm"));
        wait_readable(probe.fd(), Some(Duration::from_secs(30))).unwrap();
        let reading = now_ns();
        let warm = [receive(&mut probe, 1), receive(&mut rx, 1)];
        warm.iter().flatten().all(|g| g.meta.ts_ns < reading)
    });
    for by_window in [false, true] {
        for n in 0..60u8 {
            // Runs of several lengths, so that no fixed turn-taking could give this order.
            let port = 5000 + u16::from(n) % 7 % 3;
            send(&mut tx, &frame(&format!("239.77.0.1:{port}"), &[n]));
        }
        receive(&mut probe, 60);
        let mut got: Vec<u8> = Vec::new();
        wait_for("all frames", || {
            let mut take = |bytes: &[u8]| got.extend(bytes.last());
            if by_window {
                let n = rx.acquire(64).unwrap();
                (0..n).for_each(|i| take(rx.frame(i).bytes));
            } else {
                rx.poll(64, |f| take(f.bytes)).unwrap();
            }
            got.len() >= 60
        });
        assert!(got.iter().copied().eq(0..60), "{got:?}");
    }
}

#[test]
fn a_lone_datagram_is_shown_first_and_those_behind_it_in_order() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000"]));
    let mut tx = lab.in_a(|| tx("v0"));
    for round in 0..3 {
        (0..200u8).for_each(|n| send(&mut tx, &frame("239.77.0.1:5000", &[n])));
        let mut got = Vec::new();
        wait_for("all of them", || {
            // Half of them in windows, none of them twice.
            if round != 1 {
                rx.poll(64, |f| got.push(f.bytes[42])).unwrap();
            } else {
                let burst = rx.burst(64).unwrap();
                got.extend(burst.iter().map(|f| f.bytes[42]));
            }
            got.len() >= 200
        });
        assert!(got.iter().copied().eq(0..200), "{got:?}");
        assert_eq!(rx.poll(0, |_| {}).unwrap(), 0, "none asked for");
    }
}

#[test]
fn stamps_are_the_kernels_and_within_the_time_of_sending() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000"]));
    let mut tx = lab.in_a(|| tx("v0"));
    assert_eq!(rx.clock(), ClockInfo::KERNEL);
    let before = now_ns();
    for n in 0..100u8 {
        send(&mut tx, &frame("239.77.0.1:5000", &[n]));
    }
    let got = receive(&mut rx, 100);
    let after = now_ns();
    let mut last = before;
    for g in got {
        assert!(g.meta.flags.contains(RxFlags::TS_SW) && !g.meta.flags.contains(RxFlags::TS_HW));
        assert!(g.meta.ts_ns >= last && g.meta.ts_ns <= after, "{last} {:?} {after}", g.meta);
        last = g.meta.ts_ns;
    }
}

#[test]
fn ipv6_groups_and_addresses_arrive_with_right_checksums() {
    use linerate_common::packet::{Ethernet, transport_checksum};
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| {
        rx("v1", &["[ff15::7:1]:5000+40", "fd99::1,[ff35::7:1]:5000", "udp:[fd99::2]:6000"])
    });
    let mut tx = lab.in_a(|| tx("v0"));
    for dst in ["[ff15::7:1]:5000", "[ff15::7:28]:5000", "[ff35::7:1]:5000", "[fd99::2]:6000"] {
        send(&mut tx, &frame(dst, dst.as_bytes()));
    }
    let got = receive(&mut rx, 4);
    for g in &got {
        assert_eq!(g.dst.to_string().as_bytes(), g.payload);
        assert_eq!(g.src.ip().to_string(), "fd99::1");
        let ip = Ethernet::parse(&g.bytes).unwrap().ip().unwrap();
        assert_eq!(transport_checksum(ip.src(), ip.dst(), 17, ip.upper().payload), 0);
    }
    let mac = lab.in_b(|| std::fs::read_to_string("/sys/class/net/v1/address").unwrap());
    let unicast = got.iter().find(|g| g.dst.port() == 6000).unwrap();
    let text: Vec<_> = unicast.bytes[..6].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text.join(":"), mac.trim());
}

#[test]
fn a_long_datagram_is_whole_by_default_and_honestly_cut_on_request() {
    let lab = lab_or_skip!();
    let mut options = Options::for_flows(flows(&["239.77.0.1:5000", "[ff15::7:1]:5000"]));
    let mut whole = lab.in_b(|| linerate_udp::open("v1", &options).unwrap().into_rx());
    options.datagram_bytes = 100;
    let mut short = lab.in_b(|| linerate_udp::open("v1", &options).unwrap().into_rx());
    lab.in_a(|| {
        // 14 fragments on the wire.
        sender("10.99.0.1").send_to(&[7; 20_000], "239.77.0.1:5000").unwrap();
    });
    let mut tx = lab.in_a(|| tx("v0"));
    send(&mut tx, &frame("[ff15::7:1]:5000", &[8; 500]));

    let mut got = receive(&mut whole, 2);
    got.sort_by_key(|g| g.payload.len());
    assert_eq!(got[1].payload, [7; 20_000]);
    assert_eq!(whole.stats().flagged, 0);

    for _ in 0..2 {
        let (mut bytes, mut meta) = (Vec::new(), None);
        wait_for("a cut frame", || {
            let shown = |f: linerate_common::RxFrame<'_>| {
                (bytes, meta) = (f.bytes.to_vec(), Some(f.meta));
            };
            short.poll(1, shown).unwrap() == 1
        });
        let meta = meta.unwrap();
        let v4 = bytes[12] == 8;
        let (headers, sent) = if v4 { (42, 20_000) } else { (62, 500) };
        assert_eq!((bytes.len(), meta.wire_len as usize), (headers + 100, headers + sent));
        assert!(meta.flags.contains(RxFlags::TRUNCATED));
        assert!(!meta.flags.contains(RxFlags::CSUM_OK));
        let udp_len = u16::from_be_bytes(bytes[headers - 4..headers - 2].try_into().unwrap());
        assert_eq!(usize::from(udp_len), sent + 8);
    }
    assert_eq!(short.stats().flagged, 2);
}

#[test]
fn sleeping_misses_no_socket_and_does_not_spin() {
    let lab = lab_or_skip!();
    let mut tx = lab.in_a(|| tx("v0"));
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000", "239.77.0.1:5001", "239.77.0.1:5002"]));
    let patience = Some(Duration::from_secs(30));
    for n in 0..30u8 {
        send(&mut tx, &frame(&format!("239.77.0.1:500{}", n % 3), &[n]));
        assert!(wait_readable(rx.fd(), patience).unwrap());
        assert_eq!(payloads(&receive(&mut rx, 1)), [[n]]);
    }
    rx.arm().unwrap();
    // News of an interface wake up once, and arming takes them back.
    lab.ip_b(&["link", "set", "lo", "down"]).unwrap();
    assert!(wait_readable(rx.fd(), patience).unwrap());
    rx.arm().unwrap();
    assert!(!wait_readable(rx.fd(), Some(Duration::ZERO)).unwrap());
    assert_eq!((rx.reopened(), rx.is_interface_lost()), (0, false));
}

#[test]
fn the_queue_goes_on_when_its_interface_returns() {
    let lab = lab_or_skip!();
    let list = ["239.77.0.1:5000+30", "udp:10.99.0.2:6000"];
    lab.in_b(|| {
        let mut rx = rx("v1", &list);
        lab.ip_b(&["link", "del", "v1"]).unwrap();
        wait_for("the loss to be seen", || {
            rx.arm().unwrap();
            rx.is_interface_lost()
        });
        assert_eq!(rx.acquire(64), Ok(0));
        lab.add_pair("v0", "v1").unwrap();
        lab.ip_a(&["addr", "add", "10.99.0.1/24", "dev", "v0"]).unwrap();
        lab.ip_b(&["addr", "add", "10.99.0.2/24", "dev", "v1"]).unwrap();
        // A loop that never sleeps notices as well, after some thousand empty turns.
        wait_for("the sockets", || {
            for _ in 0..5000 {
                rx.poll(64, |_| {}).unwrap();
            }
            rx.reopened() == 1
        });
        assert_eq!(joined("v1").len(), 30);
        let mut tx = lab.in_a(|| tx("v0"));
        send(&mut tx, &frame("239.77.0.30:5000", b"back"));
        send(&mut tx, &frame("10.99.0.2:6000", b"back"));
        assert_eq!(receive(&mut rx, 2).len(), 2);
    });
}
