//! `doctor`: its findings on this machine, and the layer it names when a loss is provoked at each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Ended, Running, Scratch, json, linerate, run};
use linerate::packet::UdpTemplate;
use linerate::{Direction, FrameTx};
use linerate_lab::{Lab, lab_or_skip};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Of a namespace's own loopback interface: nobody else is there.
const METRICS: &str = "127.0.0.1:9898";

fn findings(args: &[&str]) -> (i32, Vec<Value>) {
    let out = run(&[&["doctor", "--json"], args].concat());
    let text = String::from_utf8(out.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (out.status.code().unwrap(), lines)
}

#[test]
fn every_finding_says_what_why_and_where() {
    let lab = lab_or_skip!();
    let (code, mut lines) =
        lab.in_a(|| findings(&["v0", "--cpus", "0", "--jitter", "0.05", "--profile", "latency"]));
    let tally = lines.pop().unwrap();
    assert_eq!(tally["final"], true);
    let expected = match (tally["fail"].as_u64(), tally["warn"].as_u64()) {
        (Some(0), Some(0)) => 0,
        (Some(0), _) => 1,
        _ => 2,
    };
    assert_eq!(code, expected, "{tally}");
    for line in &lines {
        for field in ["area", "check", "verdict", "observed", "why", "source"] {
            assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {line}");
        }
    }
    for (area, check) in [
        ("kernel", "clocksource"),
        ("kernel", "rmem_max"),
        ("kernel", "igmp_max_msf"),
        ("kernel", "stat_interval"),
        ("kernel", "taint"),
        ("efvi", "library"),
        ("efvi", "device"),
        ("verbs", "library"),
        ("exanic", "device"),
        ("rights", "raw_frames"),
        ("memory", "hugepages"),
        ("memory", "memlock"),
        ("clock", "synchronised"),
        ("v0", "link"),
        ("v0", "gro"),
        ("v0", "backend"),
        ("cpu 0", "governor"),
        ("cpu 0", "isolcpus"),
        ("cpu 0", "irqs"),
        ("cpu 0", "jitter"),
    ] {
        let found = lines.iter().any(|line| line["area"] == area && line["check"] == check);
        assert!(found, "{area}: {check} is missing");
    }
    assert!(!lines.iter().any(|line| line["area"] == "lo"), "only the port that was named");
}

#[test]
fn the_script_is_a_script() {
    let out = run(&["doctor", "--fix-script", "--cpus", "0", "--jitter", "0"]);
    let script = String::from_utf8(out.stdout).unwrap();
    assert!(script.starts_with("#!/bin/sh\n"), "{script}");
    let dir = Scratch::new("fix");
    let file = dir.path("mend.sh");
    std::fs::write(&file, &script).unwrap();
    let checked = Command::new("sh").args(["-n", &file]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}\n{script}");
}

#[test]
fn an_interface_that_is_down_is_a_failure() {
    let lab = lab_or_skip!();
    lab.ip_a(&["link", "set", "v0", "down"]).unwrap();
    let (code, lines) = lab.in_a(|| findings(&["v0"]));
    assert_eq!(code, 2);
    let link = lines.iter().find(|line| line["check"] == "link").unwrap();
    assert_eq!(link["fix"], "ip link set v0 up", "{link}");
}

#[test]
fn wrong_arguments_are_one_line() {
    for (args, part) in [
        (vec!["--cpus", "x"], "3,5"),
        (vec!["nosuch0"], "linerate ports"),
        (vec!["--metrics", "1"], "--watch"),
        (vec!["--watch", "0s"], "--watch"),
        (vec!["--watch", "1s", "--metrics", "9"], "no metrics from 127.0.0.1:9"),
        (vec!["--cpus", "0", "--jitter", "61"], "60"),
    ] {
        let out = linerate(&[&["doctor"], args.as_slice()].concat()).output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(matches!(out.status.code(), Some(1 | 2)), "{args:?}");
        assert!(text.lines().count() == 1 && text.contains(part), "{args:?}: {text}");
    }
}

/// Frames of 1000 bytes to a group, from A into the cable.
fn flood(lab: &Lab, frames: u32) {
    lab.in_a(|| {
        let port = linerate::port("afpacket:v0").direction(Direction::Tx).open().unwrap();
        let mut tx = port.tx.unwrap();
        let to = "239.1.1.1:5000".parse().unwrap();
        let template = UdpTemplate::new("10.99.0.1:4000".parse().unwrap(), to).unwrap();
        let mut frame = [0; 1042];
        let len = template.write(&mut frame, &[7; 1000]).unwrap();
        let mut left = frames;
        let begun = Instant::now();
        while left > 0 {
            if tx.send(&frame[..len]).unwrap() {
                left -= 1;
            }
            tx.kick().unwrap();
            tx.reap();
            assert!(begun.elapsed() < LIMIT, "{left} frames could not be sent");
        }
    });
}

fn page() -> Option<String> {
    let mut server = TcpStream::connect(METRICS).ok()?;
    server.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
    let mut text = String::new();
    server.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Waits until the capture's page shows a loss for one of these reasons.
fn wait_for_loss(reasons: &[&str]) {
    let begun = Instant::now();
    let lost = |page: &str| {
        page.lines().any(|line| {
            reasons.iter().any(|r| line.contains(&format!("reason=\"{r}\"")))
                && !line.ends_with(" 0")
        })
    };
    while !page().is_some_and(|page| lost(&page)) {
        assert!(begun.elapsed() < LIMIT, "no {reasons:?} in {:?}", page());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn watch(args: &[&str]) -> Running {
    Running::start(&[&["doctor", "--watch", "100s"], args].concat())
}

fn assert_layer(ended: &Ended, layer: &str) {
    assert_eq!(ended.last["layer"], layer, "{ended:?}");
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn nothing_lost_is_nothing_named() {
    let lab = lab_or_skip!();
    lab.in_b(|| {
        let ended = watch(&["v1"]).interrupt();
        assert!(ended.last["layer"].is_null(), "{ended:?}");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    });
}

#[test]
fn a_small_socket_buffer_is_named() {
    let lab = lab_or_skip!();
    lab.in_b(|| {
        // Nobody reads it, and the default buffer holds some hundred datagrams.
        let socket = UdpSocket::bind("0.0.0.0:5000").unwrap();
        let (group, any) = ("239.1.1.1".parse().unwrap(), "10.99.0.2".parse().unwrap());
        socket.join_multicast_v4(&group, &any).unwrap();
        let mut doctor = watch(&["v1"]);
        flood(&lab, 5_000);
        assert_layer(&doctor.interrupt(), "udp_socket");
    });
}

/// Stops the reader of a port with a small ring while frames come in.
fn slow_reader(port: &str, reasons: &[&str], layer: &str) {
    let lab = lab_or_skip!();
    lab.in_b(|| {
        let mut capture =
            Running::start(&["capture", "-i", port, "-g", "239.1.1.1:5000", "--metrics", METRICS]);
        let mut doctor = watch(&["v1", "--metrics", METRICS]);
        capture.signal("-STOP");
        flood(&lab, 10_000);
        capture.signal("-CONT");
        wait_for_loss(reasons);
        assert_layer(&doctor.interrupt(), layer);
        capture.interrupt();
    });
}

#[test]
fn a_slow_handler_is_named() {
    slow_reader("afpacket:v1?ring_mb=1", &["kernel_drop", "ring_full"], "port");
}

#[test]
fn a_tiny_fill_ring_is_named() {
    // A stopped reader gives no buffer back: the fill ring runs out before the receive ring is full.
    slow_reader("afxdp:v1?ring_slots=64", &["no_buffer"], "ring");
}

/// Frames that all CPUs together have dropped from their backlogs.
fn softnet_dropped() -> u64 {
    let table = std::fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let column = |row: &str| u64::from_str_radix(row.split(' ').nth(1).unwrap(), 16).unwrap();
    table.lines().map(column).sum()
}

/// Each frame costs the kernel more time than it costs to send: what is steered to a CPU that is
/// behind waits in its backlog, and overflows it.
#[test]
fn a_softirq_that_is_behind_is_named() {
    let lab = lab_or_skip!();
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if cpus.trim() == "0" {
        return linerate_lab::skip("a_softirq_that_is_behind_is_named", "it takes two CPUs");
    }
    lab.in_b(|| {
        // Long filters that no frame passes: work for every frame, and nothing that overflows.
        let slow = || {
            let flows = (0..250).map(|n| format!("udp:10.1.1.{n}:{}", 6000 + n).parse().unwrap());
            let port = linerate::port("afpacket:v1?ring_mb=1").flows(flows);
            port.direction(Direction::Rx).open().unwrap()
        };
        let slow: Vec<_> = (0..16).map(|_| slow()).collect();
        std::fs::write("/sys/class/net/v1/queues/rx-0/rps_cpus", "2").unwrap();
        let mut doctor = watch(&["v1"]);
        // The frames are for CPU 1: sending on CPU 0 does not wait for them.
        let blast = ["blast", "afpacket:v0", "--top", "-c", "20000", "--cpu", "0"];
        let (begun, before) = (Instant::now(), softnet_dropped());
        while softnet_dropped() == before {
            assert_eq!(lab.in_a(|| json(&blast)).last["delivered"], 20_000);
            assert!(begun.elapsed() < LIMIT, "nothing was lost");
        }
        assert_layer(&doctor.interrupt(), "softirq");
        drop(slow);
    });
}

#[test]
fn a_full_writer_queue_is_named() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("fifo");
    let fifo = dir.path("slow.pcapng");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // A reader that holds the pipe open and takes nothing.
    let holder = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    lab.in_b(|| {
        let capture = Running::start(&[
            "capture",
            "-i",
            "afpacket:v1",
            "-w",
            &fifo,
            "--buffer",
            "0.5",
            "--metrics",
            METRICS,
        ]);
        let mut doctor = watch(&["v1", "--metrics", METRICS]);
        // Whatever the writer holds, a few more rounds overfill it.
        let begun = Instant::now();
        while !page().is_some_and(|page| {
            page.lines().any(|l| l.contains("writer_queue_full") && !l.ends_with(" 0"))
        }) {
            flood(&lab, 2_000);
            assert!(begun.elapsed() < LIMIT, "{:?}", page());
        }
        assert_layer(&doctor.interrupt(), "writer");
        drop(capture);
    });
    drop(holder);
}
