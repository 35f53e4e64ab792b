//! A command that is stopped for a while (SIGSTOP: a debugger, a full terminal, a frozen machine)
//! and goes on: what it could not take is lost under a name, what it has is what was sent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{Running, Scratch, frames};
use linerate_lab::{Lab, lab_or_skip};

/// Payload of datagram `n`.
fn payload(n: u32) -> [u8; 200] {
    let mut payload = [0; 200];
    for (i, byte) in payload.iter_mut().enumerate() {
        *byte = (n as usize * 31 + i * 7) as u8;
    }
    payload[..4].copy_from_slice(&n.to_be_bytes());
    payload
}

/// Sends numbered datagrams, with a breath now and then: the kernel's own queue between the ends
/// of a veth pair drops without a trace.
fn send(socket: &UdpSocket, numbers: std::ops::Range<u32>) {
    for n in numbers {
        socket.send_to(&payload(n), "239.1.1.1:5000").unwrap();
        if n % 50 == 49 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn stopped(lab: &Lab, port: &str, many: u32) {
    let dir = Scratch::new(&format!("stop-{}", port.replace([':', '?', '/'], "-")));
    let out = dir.path("out.pcapng");
    let args = ["capture", "-i", port, "-g", "239.1.1.1:5000", "-w", &out];
    let mut capture = lab.in_b(|| Running::start(&args));
    let socket = lab.in_a(|| UdpSocket::bind("10.99.0.1:4000").unwrap());
    send(&socket, 0..50);
    capture.wait_until(|line| line["frames"].as_u64() >= Some(50));
    capture.signal("-STOP");
    send(&socket, 50..50 + many);
    capture.signal("-CONT");
    // It goes on where it was: what comes now comes through.
    let seen = |line: &serde_json::Value| line["frames"].as_u64().unwrap_or(0);
    let before = std::cell::Cell::new(0);
    let settled = |line: &serde_json::Value| {
        let seen = seen(line);
        before.replace(seen) == seen && seen > 50
    };
    capture.wait_until(settled);
    // Where a busy machine only let it pause, what it had not read yet may still be in the way.
    let mut sent = 50 + many;
    loop {
        let first = before.replace(0);
        send(&socket, sent..sent + 50);
        sent += 50;
        capture.wait_until(settled);
        if before.get() == first + 50 {
            break;
        }
        assert!(sent < many + 1000, "{port}: nothing comes through any more");
    }
    let ended = capture.interrupt();
    let last = &ended.last;
    assert_eq!(ended.code, Some(0), "{port}: {ended:?}");
    let delivered = last["delivered"].as_u64().unwrap();
    let dropped = last["dropped"].as_object().unwrap();
    let lost: u64 = dropped.values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(delivered + lost, u64::from(sent), "{port}: {last}");
    assert!(lost > 0 && last["unexplained"] == 0, "{port}: {last}");
    println!("{port}: {delivered} delivered, lost {dropped:?}");

    // Each frame is one that was sent, whole, and none comes twice or out of turn.
    let mut next = 0;
    let kept = frames(&out);
    for frame in &kept {
        let got = &frame[42..];
        let n = u32::from_be_bytes(got[..4].try_into().unwrap());
        assert!(n >= next, "{port}: {n} behind {next}");
        assert_eq!(got, payload(n), "{port}: frame {n}");
        next = n + 1;
    }
    assert_eq!((kept.len() as u64, next), (delivered, sent), "{port}");
}

#[test]
fn what_a_stopped_capture_misses_has_a_name() {
    let lab = lab_or_skip!();
    lab.ip_a(&["route", "add", "239.0.0.0/8", "dev", "v0"]).unwrap();
    stopped(&lab, "afpacket:v1?ring_mb=1", 8_000);
    stopped(&lab, "udp:v1?rcvbuf=65536", 3_000);
    stopped(&lab, "afxdp:v1?ring_slots=64", 3_000);
}

#[test]
fn what_is_lost_under_a_stopped_simulated_card_has_a_name() {
    let lab = lab_or_skip!();
    lab.ip_a(&["route", "add", "239.0.0.0/8", "dev", "v0"]).unwrap();
    // The kernel's socket under the cable holds 16 MiB of datagrams with their heads.
    stopped(&lab, "sim:verbs?peer=v1", 40_000);
}
