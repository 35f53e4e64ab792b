//! Ports by name over the kernel's own backends, in network namespaces.

#![cfg(all(feature = "afpacket", feature = "udp"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use linerate::packet::UdpTemplate;
use linerate::prelude::*;
use linerate::{AnyRx, Backend, Candidate, Direction, FlowSpec, Verdict};
use linerate_lab::{Lab, lab_or_skip};

const GROUP: &str = "239.1.1.1:5000";

fn group() -> FlowSpec {
    GROUP.parse().unwrap()
}

/// Makes the calling thread, and no other, an ordinary user's.
fn drop_rights() {
    // SAFETY: plain integers; the raw call changes the calling thread only.
    let rc = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
    assert_eq!(rc, 0);
}

fn find(candidates: &[Candidate], backend: Backend) -> &Candidate {
    candidates.iter().find(|c| c.backend == backend).expect("every backend is named")
}

fn datagram(n: u32) -> Vec<u8> {
    let template = UdpTemplate::new("10.99.0.1:4000".parse().unwrap(), GROUP.parse().unwrap());
    let mut frame = [0; 128];
    let len = template.unwrap().write(&mut frame, &n.to_be_bytes().repeat(10)).unwrap();
    frame[..len].to_vec()
}

/// Sends `frames` out of A by AF_PACKET.
fn send(lab: &Lab, frames: &[Vec<u8>]) {
    lab.in_a(|| {
        let port = linerate::port("afpacket:v0").direction(Direction::Tx).open().unwrap();
        assert!(port.rx.is_empty());
        let mut tx = port.tx.unwrap();
        for frame in frames {
            assert!(tx.send(frame).unwrap());
        }
        tx.kick().unwrap();
    });
}

/// The payloads that come in, until there are `n` or nothing has come for long.
fn receive(queues: &mut [AnyRx], n: usize) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let patience = Instant::now() + Duration::from_secs(10);
    while payloads.len() < n && Instant::now() < patience {
        for rx in &mut *queues {
            rx.poll(64, |frame| {
                let ip = linerate::packet::Ethernet::parse(frame.bytes).unwrap().ip().unwrap();
                let udp = linerate::packet::Udp::parse(ip.upper().payload).unwrap();
                payloads.push(udp.payload().to_vec());
            })
            .unwrap();
        }
    }
    payloads
}

fn check_delivery(lab: &Lab, port: &mut linerate::Port) {
    let frames: Vec<_> = (0..50).map(datagram).collect();
    send(lab, &frames);
    let payloads = receive(&mut port.rx, frames.len());
    let expected: Vec<_> = (0_u32..50).map(|n| n.to_be_bytes().repeat(10)).collect();
    assert_eq!(payloads, expected, "{}", port.uri());
}

#[test]
fn an_ordinary_user_gets_udp_and_is_told_why_not_better() {
    let lab = lab_or_skip!();
    let mut port = lab.in_b(|| {
        drop_rights();
        linerate::port("v1").flow(group()).open().unwrap()
    });
    assert_eq!((port.backend(), port.uri(), port.name()), (Backend::Udp, "udp:v1", "v1"));
    for backend in [Backend::Afxdp, Backend::Afpacket] {
        let c = find(port.choice(), backend);
        assert_eq!(c.verdict, Verdict::Unfit, "{c:?}");
        assert!(c.reason.contains("needs CAP_NET_RAW"), "{c:?}");
    }
    assert_eq!(find(port.choice(), Backend::Verbs).verdict, Verdict::Unfit);
    assert_eq!(find(port.choice(), Backend::Udp).verdict, Verdict::Chosen);
    assert_eq!(port.rx[0].clock().domain, linerate::ClockDomain::Realtime);
    check_delivery(&lab, &mut port);
}

#[test]
fn an_ordinary_user_who_wants_everything_is_told_what_to_do() {
    let lab = lab_or_skip!();
    let error = lab.in_b(|| {
        drop_rights();
        linerate::open("v1").unwrap_err().to_string()
    });
    assert!(error.starts_with("v1: no backend works here: afxdp: needs CAP_NET_RAW"), "{error}");
    assert!(error.contains("setcap cap_net_raw"), "{error}");
    assert!(error.contains("udp: open: a socket receives only the flows"), "{error}");
    assert!(!error.contains("ExaNIC") && !error.contains('\n'), "{error}");
}

#[test]
fn root_who_wants_everything_gets_packets_and_the_kernel_keeps_its_own() {
    let lab = lab_or_skip!();
    let mut port = lab.in_b(|| linerate::port("v1").direction(Direction::Rx).open().unwrap());
    assert_eq!(port.backend(), Backend::Afpacket);
    let afxdp = find(port.choice(), Backend::Afxdp);
    assert_eq!(afxdp.verdict, Verdict::Unfit, "{afxdp:?}");
    assert!(afxdp.reason.contains("ssh too"), "{afxdp:?}");
    assert_eq!(find(port.choice(), Backend::Udp).verdict, Verdict::Spare);
    check_delivery(&lab, &mut port);
}

#[test]
fn each_backend_opens_by_name_and_joins_the_group() {
    let lab = lab_or_skip!();
    for uri in [
        "afpacket:v1",
        "afpacket:v1?ring=frames&ring_mb=4&queues=2&fanout=cpu&outgoing=off",
        "afxdp:v1",
        "afxdp:v1?queue=0&mode=generic&ring_slots=512&stamps=software",
        "udp:v1?rcvbuf=1000000&busy_poll=0",
    ] {
        let mut port = lab.in_b(|| {
            let port = linerate::port(uri).flow(group()).open().unwrap();
            // Of this thread: /proc/net is the namespace of the process's first one.
            let igmp = std::fs::read_to_string("/proc/thread-self/net/igmp").unwrap();
            assert!(igmp.contains("010101EF"), "{uri}: {igmp}");
            port
        });
        check_delivery(&lab, &mut port);
        assert_eq!(port.rx.iter_mut().map(|rx| rx.stats().frames).sum::<u64>(), 50);
        assert_eq!(port.rx.iter_mut().map(|rx| rx.stats().lost()).sum::<u64>(), 0);
    }
}

#[test]
fn root_who_asks_for_a_group_gets_af_xdp() {
    let lab = lab_or_skip!();
    let mut port = lab.in_b(|| linerate::port("v1").flow(group()).open().unwrap());
    assert_eq!(port.backend(), Backend::Afxdp, "{:?}", port.choice());
    assert!(port.rx[0].steer().is_some() && port.rx[0].buf_rx().is_some());
    assert!(port.pool().is_some());
    check_delivery(&lab, &mut port);
}

#[test]
fn a_driver_that_cannot_is_passed_over() {
    let lab = lab_or_skip!();
    // The interface's hook is taken: a second program is not pushed aside.
    let first = lab.in_b(|| linerate::port("afxdp:v1").flow(group()).open().unwrap());
    let mut port = lab.in_b(|| linerate::port("v1").flow(group()).open().unwrap());
    assert_eq!(port.backend(), Backend::Afpacket, "{:?}", port.choice());
    let afxdp = find(port.choice(), Backend::Afxdp);
    assert_eq!(afxdp.verdict, Verdict::Failed, "{afxdp:?}");
    assert!(!afxdp.reason.is_empty());
    drop(first);
    check_delivery(&lab, &mut port);
}

#[test]
fn join_can_be_left_to_others() {
    let lab = lab_or_skip!();
    lab.in_b(|| {
        let port = linerate::port("afpacket:v1").flow(group()).join(false).open().unwrap();
        assert!(port.memberships().is_empty());
        let igmp = std::fs::read_to_string("/proc/thread-self/net/igmp").unwrap();
        assert!(!igmp.contains("010101EF"), "{igmp}");
    });
}

#[test]
fn wrong_names_and_options_are_one_helpful_line() {
    let lab = lab_or_skip!();
    lab.in_b(|| {
        let error = |uri: &str| linerate::open(uri).unwrap_err().to_string();
        let e = error("v2");
        assert!(e.starts_with("v2: no such interface; did you mean \"v1\"?"), "{e}");
        let e = error("afpacket:v1?ring_mib=4");
        assert!(
            e.contains("afpacket has no option \"ring_mib\"; did you mean \"ring_mb\"?"),
            "{e}"
        );
        let e = error("afpacket:v1?ring_mb=0");
        assert!(e.contains("ring_mb=\"0\" is not understood; it takes 1 to 2048 MiB"), "{e}");
        let e = error("udp:v1");
        assert!(e.contains("name a group or address, as 239.1.1.1:5000"), "{e}");
        let e = error("udp:v2?ttl=300");
        assert!(e.contains("it takes 0 to 255"), "{e}");
        for e in [error("afpacket:v2"), error("verbs:"), error("afpacket:v1?x"), error("pcap:/")] {
            assert!(!e.contains('\n') && e.len() < 300, "{e}");
        }
    });
}

#[test]
fn the_list_of_ports_is_made_without_rights() {
    let lab = lab_or_skip!();
    let list = lab.in_b(|| {
        drop_rights();
        linerate::ports()
    });
    let v1 = list.iter().find(|p| p.interface.name == "v1").expect("v1 is there");
    assert_eq!(v1.interface.driver.as_deref(), Some("veth"));
    assert_eq!(v1.best(), Some(Backend::Udp));
    let exanic = find(&v1.backends, Backend::Exanic);
    assert_eq!(exanic.reason, "driver veth: no ExaNIC card");
    let root = lab.in_b(linerate::ports);
    let v1 = root.iter().find(|p| p.interface.name == "v1").expect("v1 is there");
    assert_eq!(find(&v1.backends, Backend::Afpacket).verdict, Verdict::Works);
    lab.ip_b(&["link", "set", "v1", "down"]).unwrap();
    let down = lab.in_b(linerate::ports);
    let v1 = down.iter().find(|p| p.interface.name == "v1").expect("v1 is there");
    assert_eq!(v1.best(), None);
    assert!(find(&v1.backends, Backend::Udp).reason.contains("ip link set v1 up"));
}
