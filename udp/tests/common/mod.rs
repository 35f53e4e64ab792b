//! What the tests share: frames to send, queues to drain, patience.

// Each test program uses its own part of this.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use linerate_common::packet::{Ethernet, IpView, Udp, UdpTemplate};
use linerate_common::{FlowSpec, FrameRx, FrameTx, RxMeta};
use linerate_udp::{Options, UdpRx, UdpTx};

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) payload: Vec<u8>,
    pub(crate) meta: RxMeta,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn flows(list: &[&str]) -> Vec<FlowSpec> {
    list.iter().flat_map(|text| FlowSpec::parse_list(text).unwrap()).collect()
}

pub(crate) fn rx(interface: &str, list: &[&str]) -> UdpRx {
    let options = Options::for_flows(flows(list));
    linerate_udp::open(interface, &options).unwrap().into_rx()
}

pub(crate) fn tx(interface: &str) -> UdpTx {
    linerate_udp::open(interface, &Options::default()).unwrap().into_tx()
}

/// A UDP frame as an application would build it.
pub(crate) fn frame(dst: &str, payload: &[u8]) -> Vec<u8> {
    let dst: SocketAddr = dst.parse().unwrap();
    let src = if dst.is_ipv4() { "10.99.0.1:4000" } else { "[fd99::1]:4000" };
    let template = UdpTemplate::new(src.parse().unwrap(), dst).unwrap();
    let mut frame = vec![0; template.header_len() + payload.len()];
    template.write(&mut frame, payload).unwrap();
    frame
}

/// Sends one frame at once.
pub(crate) fn send(tx: &mut UdpTx, frame: &[u8]) {
    assert!(tx.send(frame).unwrap(), "no room");
    tx.kick().unwrap();
}

/// Takes a frame apart, checking what must be consistent in every one.
pub(crate) fn parse(bytes: &[u8], meta: RxMeta) -> Got {
    let ethernet = Ethernet::parse(bytes).unwrap();
    let ip = ethernet.ip().expect("an IP packet");
    if let IpView::V4(v4) = &ip {
        assert!(v4.checksum_ok(), "IP checksum");
    }
    let upper = ip.upper();
    assert_eq!(upper.proto, 17);
    let udp = Udp::parse(upper.payload).unwrap();
    Got {
        src: SocketAddr::new(ip.src(), udp.src_port()),
        dst: SocketAddr::new(ip.dst(), udp.dst_port()),
        payload: udp.payload().to_vec(),
        meta,
        bytes: bytes.to_vec(),
    }
}

/// Receives until `count` frames have come, and fails if they do not.
pub(crate) fn receive(rx: &mut UdpRx, count: usize) -> Vec<Got> {
    let mut got = Vec::new();
    wait_for("frames", || {
        rx.poll(64, |f| got.push(parse(f.bytes, f.meta))).unwrap();
        got.len() >= count
    });
    got
}

/// Receives until the frame with this payload has come, which was sent last.
pub(crate) fn receive_until(rx: &mut UdpRx, last: &[u8]) -> Vec<Got> {
    let mut got: Vec<Got> = Vec::new();
    wait_for("the last frame", || {
        rx.poll(64, |f| got.push(parse(f.bytes, f.meta))).unwrap();
        got.last().is_some_and(|g| g.payload == last)
    });
    got
}

pub(crate) fn payloads(got: &[Got]) -> Vec<&[u8]> {
    got.iter().map(|g| &*g.payload).collect()
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A plain socket that sends multicast from one address of the host.
pub(crate) fn sender(source: &str) -> UdpSocket {
    let source: std::net::Ipv4Addr = source.parse().unwrap();
    let socket = UdpSocket::bind((source, 0)).unwrap();
    let from = libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) };
    // SAFETY: the option takes an in_addr, which outlives the call.
    let rc = unsafe {
        let (at, len) = ((&raw const from).cast(), size_of_val(&from) as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, at, len)
    };
    assert_eq!(rc, 0);
    socket
}

/// Makes the calling thread, and no other, an ordinary user without any rights.
pub(crate) fn become_nobody() {
    const NOBODY: libc::c_long = 65534;
    // The libc functions would change all threads of the process.
    // SAFETY: these calls have no memory arguments but one of length 0.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_setgroups, 0, 0), 0);
        assert_eq!(libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY), 0);
        assert_eq!(libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY), 0);
        // Binding below 1024 is a right that must be gone now.
        assert_eq!(libc::syscall(libc::SYS_getuid), NOBODY);
    }
}

/// The IPv4 groups that the calling thread's namespace has joined on an interface.
pub(crate) fn joined(dev: &str) -> Vec<std::net::Ipv4Addr> {
    let table = std::fs::read_to_string("/proc/thread-self/net/igmp").unwrap();
    let mut on_dev = false;
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let mut words = line.split_whitespace();
        if !line.starts_with(char::is_whitespace) {
            on_dev = words.nth(1) == Some(dev);
        } else if on_dev {
            let group = u32::from_str_radix(words.next().unwrap(), 16).unwrap();
            found.push(std::net::Ipv4Addr::from(group.to_ne_bytes()));
        }
    }
    found.retain(|g| g.octets()[0] != 224);
    found
}
