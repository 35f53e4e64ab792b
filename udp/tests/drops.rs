//! The ledger: what was sent is delivered or has a name, and the frame after a loss says so.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use common::*;
use linerate_common::{
    ClockInfo, Clocked, FrameRx, FrameTx, RxFlags, Steer, Waitable, wait_readable,
};
use linerate_lab::lab_or_skip;
use linerate_udp::{Options, Stamps, UdpRx};

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
