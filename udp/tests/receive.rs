//! The receive queue against the real kernel.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::*;
use linerate_common::clock::now_ns;
use linerate_common::packet::multicast_mac;
use linerate_common::{
    ClockInfo, Clocked, ErrorKind, FrameRx, FrameRxExt, FrameTx, RxFlags, Steer, Waitable,
    wait_readable,
};
use linerate_lab::lab_or_skip;
use linerate_udp::{Options, Stamps, UdpRx};

#[test]
fn a_hundred_and_twenty_eight_groups_arrive_in_one_queue() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000+128"]));
    // 20 groups a socket by default.
    assert_eq!(rx.sockets(), 7);
    lab.in_b(|| assert_eq!(joined("v1").len(), 128));
    let mut tx = lab.in_a(|| tx("v0"));
    for n in 1..=128u8 {
        assert!(tx.send(&frame(&format!("239.77.0.{n}:5000"), &[n; 30])).unwrap());
    }
    tx.kick().unwrap();

    let mut got = receive(&mut rx, 128);
    got.sort_by_key(|g| g.payload[0]);
    assert_eq!(got.len(), 128, "each once");
    for (g, n) in got.iter().zip(1..) {
        let group = Ipv4Addr::new(239, 77, 0, n);
        assert_eq!(g.dst, SocketAddr::new(group.into(), 5000));
        assert_eq!(g.src.ip(), Ipv4Addr::new(10, 99, 0, 1));
        assert_eq!(g.payload, [n; 30]);
        assert_eq!(g.bytes[..6], multicast_mac(group.into()).unwrap());
        assert_eq!(g.meta.wire_len as usize, g.bytes.len());
        assert!(g.meta.flags.contains(RxFlags::SYNTHETIC | RxFlags::CSUM_OK));
        assert_eq!(g.bytes[22], 0, "nobody asked for the time to live");
    }
    let stats = rx.stats();
    assert_eq!((stats.frames, stats.lost()), (128, 0));
    assert_eq!(stats.bytes, got.iter().map(|g| g.bytes.len() as u64).sum());
    drop(rx);
    lab.in_b(|| wait_for("the groups to be left", || joined("v1").is_empty()));
}

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
fn one_socket_a_group_works_as_well() {
    let lab = lab_or_skip!();
    let mut options = Options::for_flows(flows(&["239.77.0.1:5000+30"]));
    options.socket_per_group = true;
    let mut rx = lab.in_b(|| linerate_udp::open("v1", &options).unwrap().into_rx());
    assert_eq!(rx.sockets(), 30);
    let mut tx = lab.in_a(|| tx("v0"));
    for n in 1..=30u8 {
        assert!(tx.send(&frame(&format!("239.77.0.{n}:5000"), &[n])).unwrap());
    }
    tx.kick().unwrap();
    let mut seen: Vec<_> = receive(&mut rx, 30).iter().map(|g| g.payload[0]).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=30));
}

#[test]
fn a_source_specific_group_filters_the_other_source() {
    let lab = lab_or_skip!();
    lab.ip_a(&["addr", "add", "10.99.0.3/24", "dev", "v0"]).unwrap();
    let (mut only, mut any) = lab.in_b(|| {
        // The second queue makes the host receive the group from everybody.
        (rx("v1", &["10.99.0.3,232.7.0.1:5000"]), rx("v1", &["232.7.0.1:5000"]))
    });
    lab.in_a(|| {
        let (wrong, right) = (sender("10.99.0.1"), sender("10.99.0.3"));
        for n in 0..50u8 {
            wrong.send_to(&[n, 1], "232.7.0.1:5000").unwrap();
            right.send_to(&[n, 2], "232.7.0.1:5000").unwrap();
        }
    });
    assert_eq!(receive_until(&mut any, &[49, 2]).len(), 100);
    let got = receive_until(&mut only, &[49, 2]);
    assert_eq!(got.len(), 50);
    assert!(got.iter().all(|g| g.payload[1] == 2 && g.src.ip() == Ipv4Addr::new(10, 99, 0, 3)));
    assert_eq!(only.stats().filtered, 0, "the kernel filters, not this process");
}

#[test]
fn other_groups_of_the_host_and_unicast_stay_out() {
    let lab = lab_or_skip!();
    let (mut wanted, _other) =
        lab.in_b(|| (rx("v1", &["239.77.0.1:5000"]), rx("v1", &["239.77.0.2:5000"])));
    lab.in_a(|| {
        let socket = sender("10.99.0.1");
        socket.send_to(b"other group", "239.77.0.2:5000").unwrap();
        socket.send_to(b"unicast", "10.99.0.2:5000").unwrap();
        socket.send_to(b"wanted", "239.77.0.1:5000").unwrap();
    });
    assert_eq!(payloads(&receive_until(&mut wanted, b"wanted")), [b"wanted"]);
    // The unicast datagram went to one of the two sockets of that port, and is accounted for.
    let mut other = _other;
    wait_for("the unicast datagram", || {
        other.poll(64, |_| {}).unwrap();
        wanted.stats().filtered + other.stats().filtered == 1
    });
}

#[test]
fn sent_is_delivered_plus_dropped_when_the_reader_sleeps() {
    let lab = lab_or_skip!();
    let mut options = Options::for_flows(flows(&["239.77.0.1:5000+2", "239.77.0.9:5001"]));
    options.receive_buffer_bytes = 20_000;
    let mut rx = lab.in_b(|| linerate_udp::open("v1", &options).unwrap().into_rx());
    let mut tx = lab.in_a(|| tx("v0"));
    const SENT: u64 = 3000;
    let groups = ["239.77.0.1:5000", "239.77.0.2:5000", "239.77.0.9:5001"];
    for n in 0..SENT {
        send(&mut tx, &frame(groups[n as usize % 3], &n.to_be_bytes()));
    }
    // veth delivers within the send call, mostly: wait until all are somewhere.
    let mut flags = RxFlags::NONE;
    wait_for("everything to be accounted for", || {
        while rx.poll(64, |_| {}).unwrap() > 0 {}
        let stats = rx.stats();
        stats.frames + stats.kernel_drop == SENT
    });
    let stats = rx.stats();
    assert!(stats.kernel_drop > 0 && stats.frames > 0, "{stats:?}");
    assert_eq!(stats.lost(), stats.kernel_drop, "no other name for it");

    // The next frame of each socket says that there was a loss before it, once.
    for group in [groups[0], groups[2]] {
        for (n, lossy) in [(0u64, true), (1, false)] {
            send(&mut tx, &frame(group, &n.to_be_bytes()));
            receive(&mut rx, 1).iter().for_each(|g| flags = g.meta.flags);
            assert_eq!(flags.contains(RxFlags::LOSS_BEFORE), lossy, "{group} {n}");
        }
    }
    assert_eq!(rx.stats().kernel_drop, stats.kernel_drop);
}

#[test]
fn without_stamps_and_groups_losses_are_still_counted_and_flagged() {
    let lab = lab_or_skip!();
    let mut options = Options::for_flows(flows(&["udp:10.99.0.2:6000"]));
    (options.receive_buffer_bytes, options.stamps) = (20_000, Stamps::Off);
    let mut rx = lab.in_b(|| linerate_udp::open("v1", &options).unwrap().into_rx());
    assert_eq!(rx.clock(), ClockInfo::NONE);
    let mut tx = lab.in_a(|| tx("v0"));
    let mut one = |rx: &mut UdpRx, n: u64| {
        send(&mut tx, &frame("10.99.0.2:6000", &n.to_be_bytes()));
        receive(rx, 1).remove(0)
    };
    // The second comes by the shorter call, which knows nothing but the datagram.
    for n in 0..3 {
        let got = one(&mut rx, n);
        assert_eq!(got.dst, "10.99.0.2:6000".parse().unwrap());
        assert_eq!(
            (got.src.ip(), got.payload),
            (Ipv4Addr::new(10, 99, 0, 1).into(), n.to_be_bytes().into())
        );
        assert_eq!(got.meta.timestamp(), None);
        assert_eq!(got.meta.flags, RxFlags::SYNTHETIC | RxFlags::CSUM_OK);
    }
    const SENT: u64 = 1000;
    let mut more = lab.in_a(|| common::tx("v0"));
    let mut dropped = 0;
    // However few the reader takes at a time.
    for (round, max) in (1..).zip([64, 1]) {
        (0..SENT).for_each(|n| send(&mut more, &frame("10.99.0.2:6000", &n.to_be_bytes())));
        wait_for("everything to be accounted for", || {
            while rx.poll(max, |_| {}).unwrap() > 0 {}
            let stats = rx.stats();
            stats.frames + stats.kernel_drop == round * (SENT + 3)
        });
        assert!(rx.stats().kernel_drop > dropped);
        dropped = rx.stats().kernel_drop;
        for lossy in [true, false, false] {
            let got = one(&mut rx, 9);
            assert_eq!(got.meta.flags.contains(RxFlags::LOSS_BEFORE), lossy, "{max}");
        }
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
fn tuples_select_by_address_and_by_peer() {
    let lab = lab_or_skip!();
    let list = ["udp:10.99.0.2:6000", "udp:10.99.0.2:6001,10.99.0.1:7001"];
    let mut rx = lab.in_b(|| rx("v1", &list));
    lab.in_a(|| {
        let peer = UdpSocket::bind("10.99.0.1:7001").unwrap();
        let other = UdpSocket::bind("10.99.0.1:7002").unwrap();
        other.send_to(b"3-tuple", "10.99.0.2:6000").unwrap();
        other.send_to(b"not the peer", "10.99.0.2:6001").unwrap();
        peer.send_to(b"5-tuple", "10.99.0.2:6001").unwrap();
    });
    let mut got = receive(&mut rx, 2);
    got.sort_by_key(|g| g.dst.port());
    assert_eq!(payloads(&got), [&b"3-tuple"[..], b"5-tuple"]);
    assert_eq!(got[1].src.to_string(), "10.99.0.1:7001");
    rx.poll(64, |f| panic!("another frame: {f:?}")).unwrap();
    assert_eq!(rx.stats().lost(), 0);
}

#[test]
fn an_icmp_error_on_a_connected_socket_is_counted_and_loses_nothing() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["udp:10.99.0.2:6001,10.99.0.1:7001"]));
    lab.in_a(|| {
        // Port unreachable, quoting a datagram from 10.99.0.2:6001 to 10.99.0.1:7001.
        let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
        icmp.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 99, 0, 2, 10, 99, 0, 1]);
        icmp.extend([6001u16, 7001, 8, 0].iter().flat_map(|w| w.to_be_bytes()));
        let sum = linerate_common::packet::internet_checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        // SAFETY: plain socket calls with memory that outlives them.
        unsafe {
            let raw = libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
            assert!(raw >= 0);
            let mut to: libc::sockaddr_in = std::mem::zeroed();
            to.sin_family = libc::AF_INET as _;
            to.sin_addr.s_addr = u32::from_ne_bytes([10, 99, 0, 2]);
            let (at, len) = ((&raw const to).cast(), size_of_val(&to) as _);
            let n = libc::sendto(raw, icmp.as_ptr().cast(), icmp.len(), 0, at, len);
            assert_eq!(n, icmp.len() as isize);
            libc::close(raw);
        }
        let peer = UdpSocket::bind("10.99.0.1:7001").unwrap();
        peer.send_to(b"still here", "10.99.0.2:6001").unwrap();
    });
    assert_eq!(payloads(&receive(&mut rx, 1)), [b"still here"]);
    assert_eq!(rx.icmp_errors(), 1);
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
fn flows_come_and_go_while_the_queue_runs() {
    let lab = lab_or_skip!();
    let mut tx = lab.in_a(|| tx("v0"));
    let mut ping = |n: u8| {
        send(&mut tx, &frame("239.77.0.1:5000", &[n, 1]));
        send(&mut tx, &frame("239.77.0.2:5000", &[n, 2]));
    };
    lab.in_b(|| {
        let mut rx = rx("v1", &["239.77.0.1:5000"]);
        ping(0);
        let second = rx.add(&flows(&["239.77.0.2:5000"])[0]).unwrap();
        let again = rx.add(&flows(&["239.77.0.2:5000"])[0]).unwrap();
        assert_eq!((joined("v1").len(), rx.sockets()), (2, 1));
        ping(1);
        let got = receive(&mut rx, 3);
        assert_eq!(payloads(&got), [[0, 1], [1, 1], [1, 2]]);

        rx.remove(second).unwrap();
        ping(2);
        assert_eq!(payloads(&receive(&mut rx, 2)), [[2, 1], [2, 2]], "still wanted once");
        rx.remove(again).unwrap();
        assert_eq!(rx.remove(again).unwrap_err().kind(), ErrorKind::BadArgument);
        assert_eq!(joined("v1").len(), 1);
        ping(3);
        assert_eq!(payloads(&receive(&mut rx, 1)), [[3, 1]]);

        // A flow that cannot be had changes nothing.
        let e = rx.add(&flows(&["udp:10.1.2.3:80"])[0]).unwrap_err();
        assert!(e.to_string().contains("use an address of this host"), "{e}");
        let e = rx.add(&flows(&["all"])[0]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        ping(4);
        assert_eq!(payloads(&receive(&mut rx, 1)), [[4, 1]]);
        assert_eq!(rx.sockets(), 1);
    });
}

#[test]
fn what_waits_in_a_socket_that_closes_is_in_the_ledger() {
    let lab = lab_or_skip!();
    let mut tx = lab.in_a(|| tx("v0"));
    let mut rx = lab.in_b(|| rx("v1", &[]));
    let rule = lab.in_b(|| rx.add(&flows(&["239.77.0.1:5000"])[0])).unwrap();
    for n in 0..40u8 {
        send(&mut tx, &frame("239.77.0.1:5000", &[n]));
    }
    assert!(wait_readable(rx.fd(), Some(Duration::from_secs(30))).unwrap());
    let mut shown = 0;
    wait_for("the first", || {
        shown += rx.poll(1, |_| {}).unwrap();
        shown == 1
    });
    rx.remove(rule).unwrap();
    assert_eq!(rx.sockets(), 0);
    let stats = rx.stats();
    assert_eq!((stats.frames, stats.filtered), (1, 39));
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

#[test]
fn a_panicking_handler_costs_its_burst_and_nothing_more() {
    let lab = lab_or_skip!();
    let mut tx = lab.in_a(|| tx("v0"));
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000"]));
    for n in 0..10u8 {
        assert!(tx.send(&frame("239.77.0.1:5000", &[n])).unwrap());
    }
    tx.kick().unwrap();
    assert!(wait_readable(rx.fd(), Some(Duration::from_secs(30))).unwrap());
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = rx.poll(64, |_| panic!("on purpose"));
    }));
    assert!(panic.is_err());
    send(&mut tx, &frame("239.77.0.1:5000", b"after"));
    let got = receive_until(&mut rx, b"after");
    assert!(got.iter().all(|g| g.payload != [0]), "nothing is shown twice");
    // One in the burst with the panic at least; with what was shown since, all are counted.
    assert_eq!(rx.stats().frames, 11);
}

#[test]
fn what_cannot_be_opened_says_why_and_what_helps() {
    let lab = lab_or_skip!();
    lab.add_pair("bare0", "bare1").unwrap();
    lab.in_b(|| {
        let open = |interface: &str, list: &[&str]| {
            let options = Options::for_flows(flows(list));
            linerate_udp::open(interface, &options).map(|_| ()).unwrap_err()
        };
        let e = open("nosuch", &[]);
        assert_eq!(e.kind(), ErrorKind::DeviceGone);
        assert!(e.to_string().contains("ip link"), "{e}");

        let e = open("bare1", &["239.77.0.1:5000"]).to_string();
        assert!(e.starts_with("udp:bare1: ") && e.contains("ip address add"), "{e}");

        let _taken = UdpSocket::bind("10.99.0.2:6000").unwrap();
        let e = open("v1", &["udp:10.99.0.2:6000"]).to_string();
        assert!(e.contains("ss -ulpn sport = 6000"), "{e}");

        std::fs::write("/proc/sys/net/ipv4/igmp_max_memberships", "0").unwrap();
        let e = open("v1", &["239.77.0.1:5000"]).to_string();
        assert!(e.contains("sysctl -w net.ipv4.igmp_max_memberships"), "{e}");
    });
}
