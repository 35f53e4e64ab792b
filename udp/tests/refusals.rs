//! What cannot be opened says why, and what helps.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::UdpSocket;

use common::*;
use linerate_common::ErrorKind;
use linerate_lab::lab_or_skip;
use linerate_udp::Options;

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
