//! `--metrics` of a command that runs: what a scrape sees is what happened.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Running, Scratch, json, mixed_frames, write_pcap};
use linerate_lab::lab_or_skip;

const LIMIT: Duration = Duration::from_secs(60);
/// Of a namespace's own loopback interface: nobody else is there.
const METRICS: &str = "127.0.0.1:9898";

/// `None`: nobody listens, yet or any more.
fn page() -> Option<String> {
    let mut server = TcpStream::connect(METRICS).ok()?;
    server.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut text = String::new();
    server.read_to_string(&mut text).ok()?;
    Some(text)
}

fn wait_for(row: &str) {
    let begun = Instant::now();
    loop {
        let page = page();
        if page.iter().flat_map(|page| page.lines()).any(|line| line == row) {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{row} is not in\n{page:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Scrapes until each of these counters has been seen at two values above 0, the later one
/// higher. They are named with their labels, up to the closing brace.
fn wait_until_they_move(counters: &[String]) {
    let begun = Instant::now();
    let value = |page: &str, counter: &String| -> u64 {
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("{counter}}} ")));
        row.map_or(0, |value| value.parse().unwrap())
    };
    let mut first = vec![0; counters.len()];
    let mut moved = vec![false; counters.len()];
    while moved.contains(&false) {
        let page = page().unwrap_or_default();
        for (i, counter) in counters.iter().enumerate() {
            let now = value(&page, counter);
            moved[i] |= first[i] > 0 && now > first[i];
            first[i] = if first[i] == 0 { now } else { first[i] };
        }
        assert!(begun.elapsed() < LIMIT, "{counters:?}: {first:?}, moved {moved:?}\n{page}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn frames(direction: &str, port: &str) -> String {
    let (backend, interface) = port.split_once(':').unwrap();
    format!(
        "linerate_{direction}_frames_total{{interface=\"{interface}\",backend=\"{backend}\",\
         queue=\"0\""
    )
}

#[test]
fn a_sink_serves_what_it_got_by_queue_and_group() {
    let lab = lab_or_skip!();
    lab.in_a(|| {
        let args = ["sink", "udp:lo", "-g", "239.1.1.1:5000", "--metrics", METRICS];
        let mut sink = Running::start(&args);
        let sent = json(&["blast", "udp:lo", "-g", "239.1.1.1:5000", "-c", "120"]);
        assert_eq!(sent.code, Some(0), "{sent:?}");
        let port = "interface=\"lo\",backend=\"udp\"";
        wait_for(&format!("linerate_rx_frames_total{{{port},queue=\"0\"}} 120"));
        wait_for(&format!("linerate_group_frames_total{{{port},group=\"239.1.1.1:5000\"}} 120"));
        wait_for(&format!(
            "linerate_rx_dropped_total{{{port},queue=\"0\",reason=\"kernel_drop\"}} 0"
        ));
        let ended = sink.interrupt();
        assert_eq!((ended.code, &ended.last["frames"]), (Some(0), &120.into()), "{ended:?}");
    });
}

/// Each scraped in its own namespace while it runs.
#[test]
fn ping_and_pong_show_both_directions() {
    let lab = lab_or_skip!();
    let serve = ["--metrics", METRICS];
    let pong = ["pong", "afpacket:v1", "--loop", "blocking"];
    let mut pong = lab.in_b(|| Running::start(&[&pong[..], &serve].concat()));
    let ping = ["ping", "afpacket:v0", "--loop", "blocking", "--pps", "500", "-d", "600"];
    let ping = [&ping[..], &["--timeout", "20"], &serve].concat();
    let mut ping = lab.in_a(|| Running::start(&ping));
    for (port, pair) in [("afpacket:v0", true), ("afpacket:v1", false)] {
        let counters = [frames("rx", port), frames("tx", port)];
        if pair {
            lab.in_a(|| wait_until_they_move(&counters));
        } else {
            lab.in_b(|| wait_until_they_move(&counters));
        }
    }
    assert_eq!(ping.interrupt().code, Some(0));
    assert_eq!(pong.interrupt().code, Some(0));
}

#[test]
fn senders_show_what_they_send() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("metrics");
    let file = dir.path("in.pcap");
    write_pcap(&file, &mixed_frames(100, 60));
    lab.in_a(|| {
        // Ports that take a right are bound before rights are given up.
        let low = json(&["blast", "udp:lo", "-c", "1", "--metrics", "127.0.0.1:80"]);
        assert_eq!(low.code, Some(0), "{low:?}");
        let blast = ["blast", "udp:lo", "--pps", "500"];
        let replay =
            ["replay", &file, "-o", "afpacket:lo", "--speed", "pps=500", "--times", "9999"];
        for (command, port) in [(&blast[..], "udp:lo"), (&replay, "afpacket:lo")] {
            let mut sender = Running::start(&[command, &["--metrics", METRICS]].concat());
            wait_until_they_move(&[frames("tx", port)]);
            let ended = sender.interrupt();
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
    });
}

/// Two ports on one page.
#[test]
fn forward_and_rate_show_both_ports() {
    let lab = lab_or_skip!();
    lab.add_pair("w0", "w1").unwrap();
    let args = ["forward", "afpacket:v1", "afpacket:w1", "--one-way", "--metrics", METRICS];
    let mut forward = lab.in_b(|| Running::start(&args));
    let mut blast = lab.in_a(|| Running::start(&["blast", "afpacket:v0", "--pps", "500"]));
    lab.in_b(|| wait_until_they_move(&[frames("rx", "afpacket:v1"), frames("tx", "afpacket:w1")]));
    assert_eq!(blast.interrupt().code, Some(0));
    assert_eq!(forward.interrupt().code, Some(0));

    lab.in_a(|| {
        let args =
            ["rate", "udp:lo", "udp:lo", "--size", "60:1400:200", "-d", "1", "--max-pps", "500"];
        let mut rate = Running::start(&[&args[..], &["--metrics", METRICS]].concat());
        wait_until_they_move(&[frames("rx", "udp:lo"), frames("tx", "udp:lo")]);
        let ended = rate.interrupt();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    });
}

/// A row of /proc/PID/status in kB.
fn status_kb(pid: u32, row: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(row)).unwrap();
    value.split_whitespace().next().unwrap().parse().unwrap()
}

/// Whoever reaches the listener costs neither frames nor memory, and keeps nobody else out.
#[test]
fn hostile_clients_disturb_nothing() {
    let lab = lab_or_skip!();
    lab.ip_a(&["route", "add", "239.0.0.0/8", "dev", "v0"]).unwrap();
    let group = "239.1.1.1:5000";
    let args = ["capture", "-i", "afpacket:v1", "-g", group, "--metrics", METRICS];
    let mut capture = lab.in_b(|| Running::start(&args));
    let pid = capture.pid();
    let mut blast = lab.in_a(|| Running::start(&["blast", "udp:v0", "-g", group, "--pps", "500"]));
    lab.in_b(|| {
        assert!(std::iter::from_fn(page).next().is_some());
        let threads = status_kb(pid, "Threads:");
        let before = status_kb(pid, "VmRSS:");
        let connect = || TcpStream::connect(METRICS).unwrap();
        // What they write may meet a closed connection.
        let send = |bytes: &[u8]| connect().write_all(bytes);
        let garbage: Vec<u8> =
            (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
        let long = [b"GET /", &vec![b'a'; 4 << 20][..]].concat();
        for hostile in [&garbage[..], &long, b"GET", b"\r\n\r\n", b"\0\0\0\0\r\n\r\n", b""] {
            let _ = send(hostile);
        }
        // 60 that say nothing and stay, some that stop in the middle, and one that asks.
        let silent: Vec<TcpStream> = (0..60).map(|_| connect()).collect();
        let halves: Vec<TcpStream> = (0..20)
            .map(|_| {
                let mut half = connect();
                let _ = half.write_all(b"GET /metrics HT");
                half
            })
            .collect();
        let begun = Instant::now();
        let text = page().expect("an answer");
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        // Not 2 s for each of them.
        assert!(begun.elapsed() < Duration::from_secs(80), "{:?}", begun.elapsed());
        drop((silent, halves));
        assert_eq!(status_kb(pid, "Threads:"), threads);
        let grown = status_kb(pid, "VmRSS:").saturating_sub(before);
        assert!(grown < 4 << 10, "{grown} KiB more");
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        assert!(files < 64, "{files} files are open");
    });
    let sent = blast.interrupt();
    let sent = sent.last["delivered"].as_u64().unwrap();
    capture.wait_until(|line| line["frames"].as_u64() == Some(sent));
    let ended = capture.interrupt();
    assert_eq!((ended.code, &ended.last["delivered"]), (Some(0), &sent.into()), "{ended:?}");
}

#[test]
fn nobody_else_reaches_a_listener_that_was_not_told_so() {
    let lab = lab_or_skip!();
    let args = ["sink", "udp:v1", "-g", "239.1.1.1:5000", "--metrics", "9898"];
    let mut sink = lab.in_b(|| Running::start(&args));
    lab.in_b(|| assert!(page().is_some()));
    lab.in_a(|| assert!(TcpStream::connect("10.99.0.2:9898").is_err()));
    assert_eq!(sink.interrupt().code, Some(0));
}
