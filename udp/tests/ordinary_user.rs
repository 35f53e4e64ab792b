//! Everything without a single right, on `lo`: the path that a demonstration takes.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use linerate_common::{FrameRx, FrameTx};
use linerate_lab::lab_or_skip;
use linerate_udp::Options;

#[test]
fn a_feed_on_lo_needs_no_rights() {
    let lab = lab_or_skip!();
    lab.in_a(|| {
        become_nobody();
        assert!(std::fs::read("/proc/sys/net/ipv4/igmp_max_memberships").is_ok());
        // An ordinary user's namespace: lo has no MULTICAST flag and no route to groups.
        let options = Options::for_flows(flows(&["239.79.0.1:5000+30", "239.79.1.1:5001"]));
        let (mut rx, mut tx) = linerate_udp::open("lo", &options).unwrap().split();
        assert_eq!(joined("lo").len(), 31);
        assert!(tx.max_len() > 60_000);
        for n in 0..500u32 {
            let dst = match n % 31 {
                0 => "239.79.1.1:5001".to_owned(),
                k => format!("239.79.0.{k}:5000"),
            };
            send(&mut tx, &frame(&dst, &n.to_be_bytes()));
        }
        let mut got = receive(&mut rx, 500);
        got.sort_by_key(|g| g.payload.clone());
        for (g, n) in got.iter().zip(0u32..) {
            assert_eq!(g.payload, n.to_be_bytes());
            assert_eq!(g.src.ip().to_string(), "127.0.0.1");
        }
        assert_eq!((got.len(), rx.stats().lost(), tx.stats().lost()), (500, 0, 0));

        // The source is lo's own address, so source-specific groups work there too.
        let list = ["127.0.0.1,232.79.0.1:5000", "127.0.0.9,232.79.0.1:5001", "udp:127.0.0.1:5002"];
        let mut rx = common::rx("lo", &list);
        for dst in ["232.79.0.1:5001", "232.79.0.1:5000", "127.0.0.1:5002"] {
            send(&mut tx, &frame(dst, dst.as_bytes()));
        }
        let got = receive_until(&mut rx, b"127.0.0.1:5002");
        assert_eq!(payloads(&got), [&b"232.79.0.1:5000"[..], b"127.0.0.1:5002"]);
    });
}

#[test]
fn a_veth_needs_no_rights_either_and_says_what_it_could_not_have() {
    let lab = lab_or_skip!();
    let mut tx = lab.in_a(|| {
        become_nobody();
        tx("v0")
    });
    lab.in_b(|| {
        become_nobody();
        let list = ["239.77.0.1:5000", "[ff15::7:1]:5000", "udp:10.99.0.2:6000"];
        let mut options = Options::for_flows(flows(&list));
        options.receive_buffer_bytes = 1 << 30;
        let port = linerate_udp::open("v1", &options).unwrap();
        let notices = port.notices().join("\n");
        assert!(notices.contains("sysctl -w net.core.rmem_max=1073741824"), "{notices}");
        assert_eq!(port.notices().len(), 1, "it is said once: {notices}");
        let mut rx = port.into_rx();
        for dst in ["239.77.0.1:5000", "[ff15::7:1]:5000", "10.99.0.2:6000"] {
            send(&mut tx, &frame(dst, dst.as_bytes()));
        }
        assert_eq!(receive(&mut rx, 3).len(), 3);
        assert_eq!(rx.stats().lost(), 0);
    });
}
