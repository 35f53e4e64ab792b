//! Which datagrams reach which queue: groups, sources, addresses and peers, and flows that come and
//! go.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use common::*;
use linerate_common::packet::multicast_mac;
use linerate_common::{ErrorKind, FrameRx, FrameTx, RxFlags, Steer};
use linerate_lab::lab_or_skip;
use linerate_udp::Options;

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
