//! What the tests have in common.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

use linerate_afxdp::{Options, Port, XdpRx, XdpTx, open};
use linerate_common::packet::UdpTemplate;
use linerate_common::pool::Huge;
use linerate_common::{FlowSpec, FrameRx, FrameTx};
use linerate_lab::Lab;

/// Options for tests: small rings, ordinary pages.
pub fn options() -> Options {
    let mut options = Options::default();
    options.ring_slots = 512;
    options.huge = Huge::Never;
    options
}

/// Every frame is delivered.
pub fn all() -> Options {
    let mut options = options();
    options.flows = vec![FlowSpec::ALL];
    options
}

pub fn halves(port: Port) -> (XdpRx, XdpTx) {
    port.split().expect("one queue, both directions")
}

/// Both ends of the cable with the same options: `v0` in A and `v1` in B.
pub fn open_pair(lab: &Lab, options: &Options) -> ((XdpRx, XdpTx), (XdpRx, XdpTx)) {
    let a = lab.in_a(|| open("v0", options).unwrap());
    let b = lab.in_b(|| open("v1", options).unwrap());
    (halves(a), halves(b))
}

/// A UDP frame from 10.99.0.1 with `len` payload bytes that depend on `seed`.
pub fn udp_frame(dst: &str, seed: usize, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len).map(|i| (i * 31 + seed * 7) as u8).collect();
    let template =
        UdpTemplate::new("10.99.0.1:4000".parse().unwrap(), dst.parse().unwrap()).unwrap();
    let mut frame = vec![0; 2048];
    let len = template.write(&mut frame, &payload).unwrap();
    frame.truncate(len);
    frame
}

/// Patience of the tests: long, because the machine may be loaded. Nothing waits it out when it
/// works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `n` frames have come.
pub fn collect(rx: &mut impl FrameRx, n: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let start = Instant::now();
    while frames.len() < n {
        let got = rx.poll(64, |frame| frames.push(frame.bytes.to_vec())).unwrap();
        if got == 0 {
            assert!(
                start.elapsed() < PATIENCE,
                "{} of {n} frames came: {:?}",
                frames.len(),
                rx.stats()
            );
            std::thread::yield_now();
        }
    }
    frames
}

/// Repeats until it is done.
pub fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it never happened");
        std::thread::yield_now();
    }
}

/// Sends all of them with one kick, once there is room.
pub fn send_all(tx: &mut XdpTx, frames: &[Vec<u8>]) {
    for frame in frames {
        until(|| tx.send(frame).unwrap());
    }
    tx.kick().unwrap();
}

/// Sends an ICMP echo request and waits for the reply, all through the kernel's stack.
pub fn ping(host: &str) {
    let host: Ipv4Addr = host.parse().unwrap();
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor, ours alone. A raw socket receives and sends like a UDP one.
    let socket = unsafe { UdpSocket::from_raw_fd(fd) };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = [8, 0, 0, 0, 0x11, 0x22, 0, 1];
    let checksum = linerate_common::packet::internet_checksum(&request);
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    socket.send_to(&request, (host, 0)).unwrap();
    let mut reply = [0; 128];
    until(|| {
        let (len, from) = socket.recv_from(&mut reply).unwrap();
        from.ip() == host && reply[20..len].starts_with(&[0, 0]) && reply[24..26] == [0x11, 0x22]
    });
}
