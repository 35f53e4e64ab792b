//! The send queue against the real kernel.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::UdpSocket;
use std::process::Command;

use common::*;
use linerate_common::packet::UdpTemplate;
use linerate_common::{ErrorKind, FrameTx};
use linerate_lab::{Lab, lab_or_skip, skip};
use linerate_udp::{Gso, Options, UdpRx, UdpTx};

fn tx_with(lab: &Lab, change: impl FnOnce(&mut Options)) -> UdpTx {
    let mut options = Options::default();
    change(&mut options);
    lab.in_a(|| linerate_udp::open("v0", &options).unwrap().into_tx())
}

/// Packets that v0 has put on the cable.
fn packets_sent(lab: &Lab) -> u64 {
    let read = || std::fs::read_to_string("/sys/class/net/v0/statistics/tx_packets").unwrap();
    lab.in_a(read).trim().parse().unwrap()
}

#[test]
fn tags_and_trailers_come_off_and_what_is_no_datagram_is_refused() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000", "[ff15::7:1]:5000"]));
    let mut tx = lab.in_a(|| tx("v0"));
    let mut tagged = {
        let (src, dst) = ("10.9.9.9:1".parse().unwrap(), "239.77.0.1:5000".parse().unwrap());
        let mut template = UdpTemplate::new(src, dst).unwrap();
        template.vlan_tci = Some(905);
        let mut frame = vec![0; 46 + 6];
        template.write(&mut frame, b"tagged").unwrap();
        frame
    };
    tagged.extend([0xfc; 22]);
    let plain = frame("239.77.0.1:5000", b"plain");
    let empty = frame("[ff15::7:1]:5000", b"");
    let mut arp = plain.clone();
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut fragment = plain.clone();
    fragment[20] = 0x20;
    let mut long = plain.clone();
    long[39] += 1;
    for f in [&arp, &tagged, &fragment, &plain, &long, &empty] {
        assert!(tx.send(f).unwrap());
    }
    tx.kick().unwrap();
    let mut got = receive(&mut rx, 3);
    got.sort_by_key(|g| g.dst.is_ipv6());
    assert_eq!(payloads(&got), [&b"tagged"[..], b"plain", b""]);
    let stats = tx.stats();
    assert_eq!((stats.frames, stats.completed, stats.refused, stats.lost()), (3, 3, 3, 3));
    assert_eq!(stats.bytes, (tagged.len() + plain.len() + empty.len()) as u64);
    assert_eq!(tx.reap(), 6);
    assert_eq!(tx.reap(), 0);
}

#[test]
fn runs_travel_in_one_piece_and_arrive_as_they_were_sent() {
    let lab = lab_or_skip!();
    let mut options = Options::for_flows(flows(&["239.77.0.1:5000+2", "[ff15::7:1]:5000"]));
    options.receive_buffer_bytes = 16 << 20;
    let mut rx = lab.in_b(|| linerate_udp::open("v1", &options).unwrap().into_rx());
    let mut tx = tx_with(&lab, |o| o.gso = Gso::On);
    assert!(tx.uses_gso());
    let before = packets_sent(&lab);
    let mut sent = 0u32;
    let mut expected = Vec::new();
    for round in 0..5u32 {
        // Runs of many lengths, with shorter ends, zero lengths and changes of address.
        for (dst, len, count) in [
            ("239.77.0.1:5000", 100, 70),
            ("239.77.0.1:5000", 60, 1),
            ("239.77.0.1:5000", 60, 3),
            ("239.77.0.2:5000", 60, 3),
            ("239.77.0.2:5000", 1472, 50),
            ("239.77.0.2:5000", 1473, 2),
            ("[ff15::7:1]:5000", 1452, 20),
            ("[ff15::7:1]:5000", 4, 9),
        ] {
            for _ in 0..count {
                let mut payload = vec![round as u8; len];
                payload[..4].copy_from_slice(&sent.to_be_bytes());
                let frame = frame(dst, &payload);
                if !tx.send(&frame).unwrap() {
                    tx.kick().unwrap();
                    assert!(tx.send(&frame).unwrap());
                }
                expected.push(payload);
                sent += 1;
            }
        }
        tx.kick().unwrap();
    }
    // Sockets keep no order between each other: both families.
    let mut got = receive(&mut rx, sent as usize);
    got.sort_by_key(|g| u32::from_be_bytes(g.payload[..4].try_into().unwrap()));
    assert!(got.iter().map(|g| &g.payload).eq(expected.iter()), "the same datagrams");
    assert!(tx.uses_gso(), "it worked");
    assert_eq!((tx.stats().frames, tx.stats().lost()), (u64::from(sent), 0));
    // Fragments of the ones that were too long included.
    let packets = packets_sent(&lab) - before;
    assert!(packets < u64::from(sent) / 2, "{packets} packets for {sent} datagrams");
}

#[test]
fn by_default_a_virtual_interface_gets_each_frame_by_itself() {
    let lab = lab_or_skip!();
    let mut tx = tx_with(&lab, |_| {});
    assert!(!tx.uses_gso());
    let before = packets_sent(&lab);
    for _ in 0..50 {
        assert!(tx.send(&frame("239.77.0.1:5000", &[1; 50])).unwrap());
    }
    tx.kick().unwrap();
    // In one piece they would be one. The kernel may have sent something of its own besides.
    let sent = packets_sent(&lab) - before;
    assert!((50..60).contains(&sent), "{sent}");
}

#[test]
fn offload_that_does_not_work_is_switched_off_and_nothing_is_lost() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000"]));
    // The kernel refuses to segment into more than the path carries, and fragments instead.
    lab.ip_a(&["route", "add", "239.77.0.0/16", "dev", "v0", "mtu", "800"]).unwrap();
    let mut tx = tx_with(&lab, |o| o.gso = Gso::On);
    for n in 0..100u8 {
        assert!(tx.send(&frame("239.77.0.1:5000", &[n; 1000])).unwrap());
    }
    tx.kick().unwrap();
    let got = receive(&mut rx, 100);
    assert!(got.iter().map(|g| g.payload[0]).eq(0..100));
    assert_eq!((tx.stats().frames, tx.stats().lost()), (100, 0));
    assert!(!tx.uses_gso(), "it must have failed, or this test shows nothing");
}

#[test]
fn an_unreachable_port_costs_nobody_else_a_datagram() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["udp:10.99.0.2:6000"]));
    let mut tx = lab.in_a(|| tx("v0"));
    for n in 0..50u8 {
        // Nobody listens on 6999: each of these comes back as an ICMP error.
        send(&mut tx, &frame("10.99.0.2:6999", b"nobody"));
        send(&mut tx, &frame("10.99.0.2:6000", &[n]));
    }
    let got = receive(&mut rx, 50);
    assert!(got.iter().map(|g| g.payload[0]).eq(0..50));
    let stats = tx.stats();
    assert_eq!((stats.frames, stats.lost()), (100, 0), "UDP promises no more than sending");
}

#[test]
fn a_steady_flow_keeps_its_source_and_so_does_what_comes_between() {
    let lab = lab_or_skip!();
    // The second network's address is the one to send from there, whoever was sent to before.
    lab.ip_a(&["addr", "add", "10.98.77.1/24", "dev", "v0"]).unwrap();
    lab.ip_b(&["addr", "add", "10.98.77.2/24", "dev", "v1"]).unwrap();
    let mut options = Options::for_flows(flows(&[
        "udp:10.99.0.2:6000",
        "udp:10.98.77.2:6001",
        "239.77.0.1:5000",
    ]));
    options.receive_buffer_bytes = 16 << 20;
    let mut rx = lab.in_b(|| linerate_udp::open("v1", &options).unwrap().into_rx());
    let mut tx = lab.in_a(|| tx("v0"));
    let ports = ["10.99.0.2:6000", "10.98.77.2:6001", "239.77.0.1:5000"];
    let sources = ["10.99.0.1", "10.98.77.1", "10.99.0.1"].map(|ip| ip.parse().unwrap());
    let mut port = None;
    // Long enough to be connected, by groups and one by one, and then a stranger in between.
    for (to, count) in [(0, 300), (2, 1), (0, 200), (1, 200), (2, 200), (0, 1), (1, 1), (1, 150)] {
        for n in 0..count {
            assert!(tx.send(&frame(ports[to], &[to as u8])).unwrap());
            if n % 3 == 0 || n + 1 == count {
                tx.kick().unwrap();
            }
        }
        for got in receive(&mut rx, count) {
            assert_eq!((got.src.ip(), got.dst), (sources[to], ports[to].parse().unwrap()));
            assert_eq!(*port.get_or_insert(got.src.port()), got.src.port());
        }
    }
    let stats = tx.stats();
    assert_eq!((stats.frames, stats.lost()), (1053, 0));
}

#[test]
fn a_steady_flow_survives_a_change_of_the_address() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["udp:10.99.0.2:6000"]));
    let mut tx = lab.in_a(|| tx("v0"));
    let mut some = |rx: &mut UdpRx| {
        (0..100).for_each(|_| send(&mut tx, &frame("10.99.0.2:6000", b"x")));
        receive(rx, 100).pop().unwrap().src.ip().to_string()
    };
    assert_eq!(some(&mut rx), "10.99.0.1");
    lab.ip_a(&["addr", "add", "10.99.0.7/24", "dev", "v0"]).unwrap();
    lab.ip_a(&["addr", "del", "10.99.0.1/24", "dev", "v0"]).unwrap();
    lab.ip_a(&["addr", "replace", "10.99.0.7/24", "dev", "v0"]).unwrap();
    assert_eq!(some(&mut rx), "10.99.0.7");
    assert_eq!(tx.stats().lost(), 0);
}

#[test]
fn what_has_no_route_is_named_and_the_rest_goes() {
    let lab = lab_or_skip!();
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000"]));
    let mut tx = lab.in_a(|| tx("v0"));
    // An interface without a route to IPv6 networks outside.
    for f in [frame("[2001:db8::1]:5000", b"lost"), frame("239.77.0.1:5000", b"sent")] {
        assert!(tx.send(&f).unwrap());
    }
    let e = tx.kick().unwrap_err();
    assert_eq!((e.op, e.errno), ("sendmmsg", libc::ENETUNREACH));
    assert_eq!(payloads(&receive(&mut rx, 1)), [b"sent"]);
    let stats = tx.stats();
    assert_eq!((stats.frames, stats.failed, stats.lost()), (1, 1, 1));
}

#[test]
fn a_full_device_queue_is_named_and_a_full_socket_is_back_pressure() {
    let lab = lab_or_skip!();
    // 8 kbit/s: the cable takes next to nothing. The short queue in front of it overflows.
    let tc = |args: &[&str]| {
        let line = [&["netns", "exec", lab.a(), "tc", "qdisc"], args].concat();
        Command::new("ip").args(line).output().is_ok_and(|o| o.status.success())
    };
    let limit = |bytes| {
        ["replace", "dev", "v0", "root", "tbf", "rate", "8kbit", "burst", "2000", "limit", bytes]
    };
    if !tc(&limit("4000")) {
        return skip("a_full_device_queue", "this kernel has no tbf queueing discipline");
    }
    let mut tx = tx_with(&lab, |_| {});
    for _ in 0..100 {
        assert!(tx.send(&frame("239.77.0.1:5000", &[0; 500])).unwrap());
    }
    tx.kick().unwrap();
    let stats = tx.stats();
    assert!(stats.queue_full > 0 && stats.frames > 0, "{stats:?}");
    assert_eq!(stats.frames + stats.queue_full, 100, "{stats:?}");

    // A long queue instead: now the socket's own buffer fills first, and nothing is lost.
    assert!(tc(&limit("10000000")));
    let mut tx = tx_with(&lab, |o| (o.send_buffer_bytes, o.send_slots) = (5000, 100));
    for _ in 0..100 {
        assert!(tx.send(&frame("239.77.0.1:5000", &[0; 500])).unwrap());
    }
    tx.kick().unwrap();
    let stats = tx.stats();
    assert!(stats.frames < 100 && stats.lost() == 0, "{stats:?}");
    assert_eq!(tx.room() as u64, stats.frames, "the rest still waits");
}

#[test]
fn sending_goes_on_when_the_interface_returns() {
    let lab = lab_or_skip!();
    let mut tx = lab.in_a(|| tx("v0"));
    lab.ip_a(&["link", "del", "v0"]).unwrap();
    lab.in_a(|| {
        assert!(tx.send(&frame("239.77.0.1:5000", b"lost")).unwrap());
        let e = tx.kick().unwrap_err();
        assert_eq!(e.kind, ErrorKind::DeviceGone);
    });
    assert_eq!(tx.stats().failed, 1);
    lab.add_pair("v0", "v1").unwrap();
    lab.ip_a(&["addr", "add", "10.99.0.1/24", "dev", "v0"]).unwrap();
    lab.ip_b(&["addr", "add", "10.99.0.2/24", "dev", "v1"]).unwrap();
    let mut rx = lab.in_b(|| rx("v1", &["239.77.0.1:5000"]));
    lab.in_a(|| send(&mut tx, &frame("239.77.0.1:5000", b"again")));
    assert_eq!(payloads(&receive(&mut rx, 1)), [b"again"]);
}

#[test]
fn a_link_that_is_down_is_said() {
    let lab = lab_or_skip!();
    let mut tx = lab.in_a(|| tx("v0"));
    lab.ip_a(&["link", "set", "v0", "down"]).unwrap();
    assert!(tx.send(&frame("239.77.0.1:5000", b"lost")).unwrap());
    let e = tx.kick().unwrap_err();
    assert_eq!(e.kind, ErrorKind::LinkDown, "{e}");
    assert_eq!((tx.stats().failed, tx.stats().lost()), (1, 1));
    lab.ip_a(&["link", "set", "v0", "up"]).unwrap();
    send(&mut tx, &frame("239.77.0.1:5000", b"sent"));
    assert_eq!(tx.stats().frames, 1);
}

#[test]
fn options_of_the_sender_reach_the_wire() {
    let lab = lab_or_skip!();
    let mut options = Options::for_flows(flows(&["239.77.0.1:5000"]));
    options.ttl_tos = true;
    let mut rx = lab.in_b(|| linerate_udp::open("v1", &options).unwrap().into_rx());
    // A second listener on the sender's own host.
    let mut near = lab.in_a(|| common::rx("v0", &["239.77.0.1:5000"]));
    let mut tx = tx_with(&lab, |o| (o.multicast_ttl, o.source_port) = (7, 4321));
    assert_eq!(tx.max_len(), 1518);
    send(&mut tx, &frame("239.77.0.1:5000", b"one"));
    let got = receive(&mut rx, 1);
    assert_eq!((got[0].src.port(), got[0].bytes[22]), (4321, 7));
    assert_eq!(payloads(&receive(&mut near, 1)), [b"one"]);

    let mut tx = tx_with(&lab, |o| o.multicast_loop = false);
    send(&mut tx, &frame("239.77.0.1:5000", b"two"));
    assert_eq!(payloads(&receive(&mut rx, 1)), [b"two"]);
    let mut tx = tx_with(&lab, |_| {});
    send(&mut tx, &frame("239.77.0.1:5000", b"three"));
    assert_eq!(payloads(&receive_until(&mut near, b"three")), [b"three"]);
}

#[test]
fn a_plain_socket_gets_the_longest_datagram() {
    let lab = lab_or_skip!();
    let rx = lab.in_b(|| UdpSocket::bind("10.99.0.2:6000").unwrap());
    let mut tx = tx_with(&lab, |o| o.max_frame_bytes = 65_535 + 14);
    send(&mut tx, &frame("10.99.0.2:6000", &[5; 65_507]));
    let mut buf = vec![0; 65_536];
    assert_eq!(rx.recv(&mut buf).unwrap(), 65_507);
    assert_eq!(buf[..65_507], [5; 65_507]);
}
