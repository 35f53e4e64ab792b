//! What the tests have in common.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
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

/// What the tests send is delivered, and not what the kernels say to each other.
pub fn feed() -> Options {
    let mut options = options();
    let flows = ["239.1.1.1:5000", "239.9.9.9:1"];
    options.flows = flows.iter().map(|flow| flow.parse().unwrap()).collect();
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

/// A test of this program, run as another process in a namespace.
pub struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

/// Starts the ignored test `name` in namespace `ns`.
pub fn child(ns: &str, name: &str) -> Child {
    child_under(ns, &[], name)
}

/// The same by way of another command.
pub fn child_under(ns: &str, command: &[&str], name: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut process = Command::new("ip")
        .args(["netns", "exec", ns])
        .args(command)
        .arg(program)
        .args(["--ignored", "--exact", name, "--nocapture", "--test-threads=1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = process.stdout.take().unwrap();
    let (tell, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    Child { process, lines, said: Vec::new() }
}

impl Child {
    /// Has it printed this? Fails the test when it has ended without.
    pub fn has_said(&mut self, what: &str) -> bool {
        self.said.extend(self.lines.try_iter());
        // The harness prints the test's name on the same line.
        let said = self.said.iter().any(|line| line.ends_with(what));
        if !said && let Some(status) = self.process.try_wait().unwrap() {
            self.said.extend(self.lines.iter());
            let said = self.said.iter().any(|line| line.ends_with(what));
            assert!(said, "the other process ended with {status}, having said {:?}", self.said);
            return true;
        }
        said
    }

    pub fn wait_for(&mut self, what: &str) {
        until(|| self.has_said(what));
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
