//! The rules that reach the card select the frames that the flow means.

use linerate_common::packet::{IPPROTO_TCP, UdpTemplate};
use linerate_common::{FlowSpec, FrameRx, FrameTx, Steer};
use linerate_verbs::FlowRule;

use crate::frames::{frame, queues, until};

fn udp(src: &str, dst: &str, vlan_tci: Option<u16>) -> Vec<u8> {
    let mut template = UdpTemplate::new(src.parse().unwrap(), dst.parse().unwrap()).unwrap();
    template.vlan_tci = vlan_tci;
    let mut bytes = vec![0; 128];
    let len = template.write(&mut bytes, b"payload").unwrap();
    bytes.truncate(len);
    bytes
}

/// Frames of every shape that flows tell apart.
fn shapes() -> Vec<Vec<u8>> {
    let group = udp("10.0.0.7:4001", "239.1.1.1:5000", None);
    let mut tcp = udp("10.0.0.7:4001", "10.0.0.1:80", None);
    tcp[23] = IPPROTO_TCP;
    let mut igmp = group.clone();
    igmp[23] = 2;
    let mut later_fragment = group.clone();
    later_fragment[21] = 7;
    vec![
        group,
        tcp,
        igmp,
        later_fragment,
        udp("10.0.0.8:4001", "239.1.1.1:5000", None),
        udp("10.0.0.7:4002", "239.1.1.1:5001", None),
        udp("10.0.0.7:4001", "239.129.1.1:5000", None),
        udp("10.0.0.7:4001", "239.1.1.1:5000", Some(905)),
        udp("10.0.0.7:4001", "239.1.1.1:5000", Some(0x6389)),
        udp("10.0.0.7:4001", "10.0.0.1:80", Some(7)),
        udp("10.0.0.7:4001", "10.0.0.1:80", None),
        udp("[fe80::7]:4001", "[ff02::1]:5000", None),
        udp("[fe80::8]:4001", "[ff02::1]:5000", None),
        udp("[fe80::7]:4001", "[fe80::1]:80", None),
        frame(0, 60),
    ]
}

#[test]
fn card_and_reference_matcher_agree() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |o| o.flows.clear());
    let shapes = shapes();
    for text in [
        "all",
        "239.1.1.1:5000",
        "239.1.1.1",
        "10.0.0.7,239.1.1.1:5000",
        "10.0.0.7,239.1.1.1",
        "udp:239.1.1.1:5000,10.0.0.7:4001",
        "udp:10.0.0.1:80",
        "tcp:10.0.0.1:80",
        "tcp:10.0.0.1:80,10.0.0.7:4001",
        "vlan:905",
        "vlan:905,239.1.1.1:5000",
        "vlan:7,udp:10.0.0.1:80",
        "mac:01:00:5e:01:01:01",
        "ether:0x88b5",
        "ether:0x86dd",
        "[ff02::1]:5000",
        "fe80::7,ff02::1",
        "udp:[fe80::1]:80",
    ] {
        let flow: FlowSpec = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        let rule = rx.add(&flow).unwrap();
        let wanted: Vec<_> = shapes.iter().filter(|f| flow.matches(f)).cloned().collect();
        assert!(!wanted.is_empty(), "{text} matches nothing: a useless test");
        let unmatched = pair.b.unmatched() + (shapes.len() - wanted.len()) as u64;
        for shape in &shapes {
            assert!(tx.send(shape).unwrap());
        }
        tx.kick().unwrap();
        let mut got = Vec::new();
        until(text, || {
            rx.poll(64, |f| got.push(f.bytes.to_vec())).unwrap();
            tx.reap();
            got.len() >= wanted.len() && pair.b.unmatched() >= unmatched
        });
        assert_eq!(got, wanted, "{text}");
        rx.remove(rule).unwrap();
    }
}

#[test]
fn all_multicast_takes_what_no_rule_does_and_the_lower_priority_wins() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |o| o.flows.clear());
    rx.add_rule(&FlowRule::all_multicast()).unwrap();
    let second = rx.add_rule(&FlowRule::of("239.1.1.1".parse().unwrap()).priority(2)).unwrap();
    let first = rx.add_rule(&FlowRule::of("239.1.1.1:5000".parse().unwrap()).priority(1)).unwrap();
    for shape in shapes() {
        assert!(tx.send(&shape).unwrap());
    }
    tx.kick().unwrap();
    let mut marks = Vec::new();
    until("the multicast frames", || {
        rx.poll(64, |f| marks.push(f.meta.mark)).unwrap();
        pair.b.unmatched() == 1 && marks.len() == 14
    });
    assert_eq!(marks[0], first.0, "both match, this one is ahead");
    assert_eq!(marks[3], second.0, "a later fragment has no port");
    assert_eq!(marks[2], 0, "IGMP is no UDP, and a default rule carries no tag");
}
