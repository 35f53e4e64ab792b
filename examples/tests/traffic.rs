//! Runs the examples that send and wait, on every kernel backend over a veth pair.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use linerate::FrameRx;
use linerate_lab::{Lab, lab_or_skip};

/// No example takes longer here, or the test fails instead of hanging.
const LIMIT: Duration = Duration::from_secs(120);

/// An example that runs beside the test, in the calling thread's namespaces.
struct Example {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Example {
    fn start(name: &str, args: &[&str]) -> Self {
        // Cargo puts examples beside the directory of the test programs.
        let test = std::env::current_exe().unwrap();
        let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
        let mut child = Command::new(&path)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Its first line says that it is ready.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// What it printed, once it has ended well.
    fn finish(mut self) -> String {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < LIMIT, "the example did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(self.child.wait().unwrap().success());
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `frames` to a group from A's `v0` in groups of eight.
fn send(lab: &Lab, backend: &str, group: &str, frames: &str) {
    let port = format!("{backend}:v0");
    let sender = lab.in_a(|| Example::start("group_sender", &[&port, group, frames, "8", "2000"]));
    let said = sender.finish();
    assert!(said.contains(&format!("{frames} completed, 0 lost")), "{backend}: {said}");
}

#[test]
fn a_group_sender_wakes_an_asynchronous_program() {
    let lab = lab_or_skip!();
    for backend in ["afpacket", "afxdp", "udp"] {
        let port = format!("{backend}:v1");
        let mut waiter =
            lab.in_b(|| Example::start("tokio_wait", &[&port, "239.1.1.1:5000", "200"]));
        assert_eq!(waiter.line(), "waiting\n");
        send(&lab, backend, "239.1.1.1:5000", "200");
        let said = waiter.finish();
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("200 frames") && last.ends_with("lost 0"), "{backend}: {said}");
    }
}

#[test]
fn many_groups_are_counted_over_two_queues() {
    let lab = lab_or_skip!();
    let args = ["8", "239.1.1.1:5000+120", "afpacket:v1?queues=2"];
    let mut many = lab.in_b(|| Example::start("many_groups", &args));
    assert!(many.line().ends_with("2 queues\n"));
    send(&lab, "afpacket", "239.1.1.1:5000", "64");
    send(&lab, "udp", "239.1.1.120:5000", "32");
    let said = many.finish();
    let counted = said.lines().rev().find(|line| line.contains("groups")).unwrap();
    assert!(counted.starts_with("96 frames of 120 groups, 118 silent"), "{said}");
    assert!(counted.contains("239.1.1.1:5000 64  239.1.1.120:5000 32"), "{said}");
    assert!(said.lines().last().unwrap().ends_with("lost 0"), "{said}");
}

/// Ticks come to B on one cable, its orders go back to A on another.
#[test]
fn orders_made_ready_are_fired_by_ticks() {
    let lab = lab_or_skip!();
    let ticker = lab.in_a(|| {
        let socket = std::net::UdpSocket::bind("10.99.0.1:0").unwrap();
        socket.set_multicast_ttl_v4(1).unwrap();
        socket
    });
    lab.add_pair("w0", "w1").unwrap();
    lab.ip_b(&["addr", "add", "10.0.0.1/24", "dev", "w1"]).unwrap();
    let mac = ["lladdr", "02:00:00:00:00:02", "dev", "w1"];
    lab.ip_b(&[&["neigh", "add", "10.0.0.2"][..], &mac].concat()).unwrap();
    for backend in ["afpacket", "afxdp", "udp"] {
        let (feed, out) = (format!("{backend}:v1"), format!("{backend}:w1"));
        let mut market =
            lab.in_a(|| linerate::port("afpacket:w0").promiscuous(true).open().unwrap());
        let mut trader = lab.in_b(|| Example::start("preloaded_order", &[&feed, &out, "6"]));
        assert_eq!(trader.line(), "2 slots, waiting InMemory\n", "{backend}");
        for price in [999_u32, 1000, 1, 2, 5000, 3] {
            ticker.send_to(&price.to_be_bytes(), "239.1.1.1:5000").unwrap();
        }
        let said = trader.finish();
        let sides: Vec<_> =
            said.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect();
        assert_eq!(sides, ["buy", "sell", "buy", "buy", "sell", "buy"], "{backend}: {said}");
        let mut orders = Vec::new();
        let begun = Instant::now();
        while orders.len() < 6 {
            market.rx[0]
                .poll(64, |frame| {
                    if frame.bytes.len() == 82 && frame.bytes[36..38] == 4001_u16.to_be_bytes() {
                        orders.push(frame.bytes[42]);
                    }
                })
                .unwrap();
            assert!(begun.elapsed() < LIMIT / 4, "{backend}: {orders:?}");
        }
        assert_eq!(orders, b"BSBBSB", "{backend}");
    }
}

#[test]
fn orders_wait_in_simulated_cards() {
    let said = Example::start("preloaded_order", &[]).finish();
    let count = |part: &str| said.lines().filter(|line| line.contains(part)).count();
    assert_eq!(count("10 orders reached the market"), 3, "{said}");
    assert_eq!((count("waiting InCard"), count("waiting InMemory")), (2, 1), "{said}");
    let said = Example::start("cut_through_order", &[]).finish();
    assert!(said.contains("tick to trade") && said.contains("order 4 "), "{said}");
}

/// A page from a kernel's server, fetched past the client's kernel.
#[test]
fn a_page_is_fetched_by_tcp_in_user_space() {
    let lab = lab_or_skip!();
    let server = lab.in_b(|| std::net::TcpListener::bind("10.99.0.2:8080").unwrap());
    let body = "frames and segments\n".repeat(2_000);
    for backend in ["afpacket", "afxdp"] {
        let port = format!("{backend}:v0");
        let args = [&port, "10.99.0.77/24", "10.99.0.2:8080", "/page"];
        let client = lab.in_a(|| Example::start("smoltcp_stack", &args));
        let (mut stream, peer) = server.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "10.99.0.77");
        let mut request = String::new();
        BufReader::new(&mut stream).read_line(&mut request).unwrap();
        assert_eq!(request, "GET /page HTTP/1.0\r\n");
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // The client reads while we write: the page is longer than its window at first.
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut out = client;
        let mut page = String::new();
        out.out.read_to_string(&mut page).unwrap();
        assert!(out.child.wait().unwrap().success(), "{backend}");
        assert!(page.starts_with("HTTP/1.0 200 OK") && page.contains(&body), "{backend}");
    }
}
