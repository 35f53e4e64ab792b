//! Rules, filter buffers, hashing, and who owns them.

mod rig;

use std::net::Ipv4Addr;

use linerate_common::packet::UdpTemplate;
use linerate_common::{ErrorKind, FlowSpec, RuleId, Steer};
use linerate_exanic::{HashOver, Options, RxBuffer};
use linerate_sim::exanic::Card;
use rig::{drain, frame, open, open_rx, options};

fn udp(src: [u8; 4], dst: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    let from = (Ipv4Addr::from(src), ports.0).into();
    let to = (Ipv4Addr::from(dst), ports.1).into();
    let mut buf = vec![0; 100];
    let len = UdpTemplate::new(from, to)
        .expect("IPv4")
        .write(&mut buf, b"some payload here")
        .expect("room");
    buf.truncate(len.max(60));
    buf[0] |= 1; // multicast, so that it is for this port
    buf
}

fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &vlan.to_be_bytes(), &frame[12..]].concat()
}

fn flows(text: &[&str]) -> Options {
    options(|o| o.flows = text.iter().map(|t| t.parse().expect("a flow")).collect())
}

#[test]
fn each_flow_comes_to_its_reader_and_the_rest_stays() {
    let card = Card::new();
    let lists: [&[&str]; 3] = [
        &["239.1.1.1:5000", "10.0.0.7,239.1.1.2"],
        &["vlan:905", "ether:0x88cc"],
        &["tcp:10.0.0.1:80"],
    ];
    let mut readers: Vec<_> = lists.iter().map(|l| open_rx(&card, 0, &flows(l))).collect();
    let mut rest = open_rx(&card, 0, &Options::default());
    let mut lldp = frame(80, 1);
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    let frames = [
        udp([1, 1, 1, 1], [239, 1, 1, 1], (9, 5000)),
        udp([1, 1, 1, 1], [239, 1, 1, 1], (9, 5001)),
        udp([10, 0, 0, 7], [239, 1, 1, 2], (9, 1)),
        udp([10, 0, 0, 8], [239, 1, 1, 2], (9, 1)),
        tagged(&udp([1, 1, 1, 1], [239, 9, 9, 9], (9, 5000)), 905),
        tagged(&udp([1, 1, 1, 1], [239, 9, 9, 9], (9, 5000)), 906),
        lldp,
        frame(60, 2),
    ];
    frames.iter().for_each(|f| card.inject(0, f));
    for (list, reader) in lists.iter().zip(&mut readers) {
        let flows: Vec<FlowSpec> = list.iter().map(|t| t.parse().unwrap()).collect();
        let expected: Vec<_> =
            frames.iter().filter(|f| flows.iter().any(|flow| flow.matches(f))).collect();
        let got = drain(reader);
        assert_eq!(got.iter().map(|g| &g.0).collect::<Vec<_>>(), expected, "{list:?}");
        assert!(got.iter().all(|g| g.1.mark != 0));
    }
    let left = drain(&mut rest);
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|f| f.1.mark == 0));
}

#[test]
fn the_mark_is_the_rule() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &options(|o| o.buffer = RxBuffer::Unused));
    let ip = rx.add(&"239.1.1.1:5000".parse().unwrap()).unwrap();
    let other = rx.add(&"239.1.1.2:5000".parse().unwrap()).unwrap();
    let mac = rx.add(&"ether:0x88b5".parse().unwrap()).unwrap();
    assert!(ip != other && ip != mac && other != mac);
    card.inject(0, &udp([1, 1, 1, 1], [239, 1, 1, 2], (9, 5000)));
    card.inject(0, &frame(60, 1));
    let marks: Vec<_> = drain(&mut rx).iter().map(|f| RuleId(f.1.mark)).collect();
    assert_eq!(marks, [other, mac]);
}

#[test]
fn rules_come_and_go_while_the_queue_runs() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &options(|o| o.buffer = RxBuffer::Unused));
    let mut rest = open_rx(&card, 0, &Options::default());
    let flow = "239.1.1.1:5000".parse().unwrap();
    let wanted = udp([1, 1, 1, 1], [239, 1, 1, 1], (9, 5000));
    for _ in 0..300 {
        let rule = rx.add(&flow).unwrap();
        card.inject(0, &wanted);
        assert_eq!((drain(&mut rx).len(), drain(&mut rest).len()), (1, 0));
        rx.remove(rule).unwrap();
        assert!(rx.remove(rule).is_err(), "twice");
        card.inject(0, &wanted);
        assert_eq!((drain(&mut rx).len(), drain(&mut rest).len()), (0, 1));
    }
    // Somebody else's rule is not this reader's to remove.
    let mut other = open_rx(&card, 0, &options(|o| o.buffer = RxBuffer::Unused));
    let foreign = other.add(&flow).unwrap();
    assert!(rx.remove(foreign).is_err());
    assert_eq!(card.rules(0), 1);
    drop(other);
    assert_eq!(card.rules(0), 0);
}

#[test]
fn rules_run_out_with_an_error() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &options(|o| o.buffer = RxBuffer::Unused));
    for port in 1..=128 {
        rx.add(&FlowSpec::group([239, 1, 1, 1].into(), port)).unwrap();
    }
    let e = rx.add(&FlowSpec::group([239, 1, 1, 1].into(), 129)).unwrap_err();
    assert!(e.remedy_text().contains("128 IP"), "{e}");
}

#[test]
fn a_filter_buffer_has_one_reader_in_a_process() {
    let card = Card::new();
    let first = open_rx(&card, 0, &options(|o| o.buffer = RxBuffer::Filter(3)));
    let port = open(&card, 0, &options(|o| o.buffer = RxBuffer::Filter(3)));
    // The driver would free the ring under the first when the second goes.
    assert_eq!(port.rx().unwrap_err().kind(), ErrorKind::BadArgument);
    assert!(card.is_allocated(0, 3));
    drop(first);
    assert!(!card.is_allocated(0, 3));
    let _again = port.rx().unwrap();
    let _other_port = open_rx(&card, 1, &options(|o| o.buffer = RxBuffer::Filter(3)));
    assert!(open(&card, 0, &options(|o| o.buffer = RxBuffer::Filter(0))).rx().is_err());
    assert!(open(&card, 0, &options(|o| o.buffer = RxBuffer::Filter(33))).rx().is_err());
    // The default ring has any number.
    let _many: Vec<_> = (0..5).map(|_| open_rx(&card, 0, &Options::default())).collect();
}

#[test]
fn buffers_run_out_with_an_error() {
    let card = Card::new();
    let port = open(&card, 0, &options(|o| o.buffer = RxBuffer::Unused));
    let all: Vec<_> = (0..32).map(|_| port.rx().unwrap()).collect();
    let e = port.rx().unwrap_err();
    assert!(e.remedy_text().contains("compact_memory"), "{e}");
    drop(all);
    assert!((1..=32).all(|n| !card.is_allocated(0, n)));
}

#[test]
fn hashing_spreads_flows_and_keeps_each_together() {
    let card = Card::new();
    let port = open(&card, 0, &Options::default());
    let mut readers = port.hashed(4, HashOver::default()).unwrap();
    let mut rest = open_rx(&card, 0, &Options::default());
    assert_eq!(readers.iter().map(|r| r.buffer()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for turn in 0..3 {
        for flow in 0..64_u8 {
            card.inject(0, &udp([10, 0, 0, flow], [239, 1, 1, 1], (u16::from(flow) * 7, 5000)));
        }
        card.inject(0, &frame(60, turn));
    }
    let mut total = 0;
    for reader in &mut readers {
        let got = drain(reader);
        assert!(!got.is_empty() && got.len().is_multiple_of(3), "all turns of a flow in one place");
        let flows: std::collections::BTreeSet<_> = got.iter().map(|f| f.0[29]).collect();
        assert_eq!(flows.len() * 3, got.len());
        assert!(got.iter().all(|f| f.1.mark == 0), "no rule selected it");
        total += got.len();
    }
    assert_eq!((total, drain(&mut rest).len()), (192, 3));
}

#[test]
fn hashing_ends_with_the_last_reader_and_not_before() {
    let card = Card::new();
    let port = open(&card, 0, &Options::default());
    let mut readers = port.hashed(2, HashOver::Addresses).unwrap();
    let flow = udp([10, 0, 0, 1], [239, 1, 1, 1], (1, 2));
    card.inject(0, &flow);
    let mine = readers.iter_mut().position(|r| !drain(r).is_empty()).unwrap();
    // Released alone, the other reader would take hashing away from this one.
    drop(readers.remove(1 - mine));
    assert!(card.is_hashing(0) && card.is_allocated(0, 1) && card.is_allocated(0, 2));
    card.inject(0, &flow);
    assert_eq!(drain(&mut readers[0]).len(), 1);
    // Steering and hashing exclude each other, in both directions.
    let unused = open(&card, 0, &options(|o| o.buffer = RxBuffer::Unused));
    assert!(unused.rx().is_err() && port.hashed(2, HashOver::Ports).is_err());
    assert!(readers[0].add(&"239.1.1.1:1".parse().unwrap()).is_err());
    drop(readers);
    assert!(!card.is_hashing(0) && !card.is_allocated(0, 1) && !card.is_allocated(0, 2));
    let steered = unused.rx().unwrap();
    assert!(port.hashed(2, HashOver::Ports).is_err());
    drop(steered);
    assert!(port.hashed(3, HashOver::Ports).is_err(), "no power of two");
    let _on_again = port.hashed(2, HashOver::Ports).unwrap();
}

#[test]
fn what_the_card_cannot_select_is_refused_not_faked() {
    let card = Card::new();
    for flow in ["vlan:905,239.1.1.1:5000", "[ff05::1]:5000"] {
        let e = open(&card, 0, &flows(&[flow])).rx().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{flow}");
        assert!(e.to_string().contains("steers IPv4"), "{e}");
    }
    assert!((1..=32).all(|n| !card.is_allocated(0, n)), "nothing is left behind");
    let mut rest = open_rx(&card, 0, &Options::default());
    let e = rest.add(&"239.1.1.1:5000".parse().unwrap()).unwrap_err();
    assert!(e.remedy_text().contains("RxBuffer::Unused"), "{e}");
    // All frames need no rule.
    assert_eq!(open_rx(&card, 0, &flows(&["all"])).buffer(), 0);
}
