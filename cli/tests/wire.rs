//! `replay` into `capture` over a veth pair between two namespaces: what goes in comes out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Ended, Running, Scratch, assert_same, data, frames, json, mixed_frames, write_pcap};
use linerate::packet::{Ethernet, Udp, UdpTemplate};
use linerate_lab::{Lab, lab_or_skip, skip};

/// A cable of its own, without addresses: the kernel puts no frames of its own on it.
fn bare_cable(lab: &Lab) {
    lab.add_pair("w0", "w1").unwrap();
}

/// Replays `file` out of A's w0 and captures on B's w1 until every frame has been seen.
fn exchange(lab: &Lab, file: &str, speed: &str, out: &str) -> (Ended, Ended) {
    let mut capture = lab.in_b(|| Running::start(&["capture", "-i", "afpacket:w1", "-w", out]));
    let replay = lab.in_a(|| json(&["replay", file, "-o", "afpacket:w0", "--speed", speed]));
    assert_eq!(replay.code, Some(0), "{replay:?}");
    (replay, capture.interrupt())
}

fn assert_lossless(lab: &Lab, dir: &Scratch, file: &str, speed: &str) {
    let sent = frames(file);
    let out = dir.path("out.pcapng");
    let (replay, capture) = exchange(lab, file, speed, &out);
    let what = format!("{file} at {speed}: {replay:?} {capture:?}");
    assert_eq!(capture.code, Some(0), "{what}");
    for ended in [&replay, &capture] {
        assert_eq!(ended.last["frames"], sent.len(), "{what}");
        assert_eq!(ended.last["delivered"], sent.len(), "{what}");
        assert_eq!(ended.last["unexplained"], 0, "{what}");
    }
    assert!(replay.last["schedule_error_ns"]["p50"].is_u64(), "{what}");
    assert_same(&frames(&out), &sent, &what);
}

#[test]
fn generated_frames_arrive_byte_for_byte() {
    let lab = lab_or_skip!();
    bare_cable(&lab);
    let dir = Scratch::new("wire");
    let file = dir.path("in.pcap");
    write_pcap(&file, &mixed_frames(4_000, 20_000));
    for speed in ["recorded", "pps=50000", "top"] {
        if speed == "top" {
            // No schedule: only the frames matter.
            let out = dir.path("top.pcapng");
            let (replay, capture) = exchange(&lab, &file, speed, &out);
            assert!(replay.last["schedule_error_ns"]["p50"].is_null(), "{replay:?}");
            assert_eq!(capture.last["unexplained"], 0, "{capture:?}");
        } else {
            assert_lossless(&lab, &dir, &file, speed);
        }
    }
}

#[test]
fn real_captures_arrive_byte_for_byte() {
    let name = "real_captures_arrive_byte_for_byte";
    let lab = lab_or_skip!();
    bare_cable(&lab);
    let dir = Scratch::new("real");
    for (capture, speed) in [
        ("cme-mdp3-ab.pcapng", "x300"),
        ("iex-deep.pcap.gz", "x1500"),
        ("miax-tom-vlan-fcs.pcap", "x60"),
        ("nyse-imbalances-paced.pcap", "x20"),
    ] {
        match data(capture) {
            Ok(file) => {
                assert_lossless(&lab, &dir, &file, speed);
                assert_lossless(&lab, &dir, &file, "pps=100000");
            }
            Err(why) => skip(name, &why),
        }
    }
}

#[test]
fn passes_and_a_rewritten_mac_address() {
    let lab = lab_or_skip!();
    bare_cable(&lab);
    let dir = Scratch::new("passes");
    let file = dir.path("in.pcap");
    write_pcap(&file, &mixed_frames(50, 100_000));
    let out = dir.path("out.pcapng");
    let mut capture = lab.in_b(|| Running::start(&["capture", "-i", "afpacket:w1", "-w", &out]));
    let mac = "02:11:22:33:44:55";
    let replay = lab.in_a(|| {
        json(&["replay", &file, "-o", "afpacket:w0", "--times", "3", "--rewrite-dst", mac])
    });
    assert_eq!(replay.last["frames"], 150, "{replay:?}");
    let capture = capture.interrupt();
    assert_eq!(capture.last["frames"], 150, "{capture:?}");
    let once = frames(&file);
    let mut expected = [once.clone(), once.clone(), once].concat();
    for frame in &mut expected {
        frame[..6].copy_from_slice(&[2, 0x11, 0x22, 0x33, 0x44, 0x55]);
    }
    assert_same(&frames(&out), &expected, "three passes");
}

#[test]
fn an_interrupted_replay_ends_with_its_summary() {
    let lab = lab_or_skip!();
    bare_cable(&lab);
    let dir = Scratch::new("interrupted");
    let file = dir.path("in.pcap");
    write_pcap(&file, &mixed_frames(1_000, 100_000_000));
    let mut replay = lab.in_a(|| Running::start(&["replay", &file, "-o", "afpacket:w0"]));
    let ended = replay.interrupt();
    assert_eq!((ended.code, &ended.last["interrupted"]), (Some(0), &true.into()), "{ended:?}");
    let frames = ended.last["frames"].as_u64().unwrap();
    assert!((1..1_000).contains(&frames), "{ended:?}");
    assert_eq!((&ended.last["final"], &ended.last["unexplained"]), (&true.into(), &0.into()));
}

#[test]
fn frames_too_long_for_the_port_are_counted_not_fatal() {
    let lab = lab_or_skip!();
    bare_cable(&lab);
    let dir = Scratch::new("long");
    let file = dir.path("in.pcap");
    let mut made = mixed_frames(10, 1_000);
    made[4].1.resize(9_000, 7);
    write_pcap(&file, &made);
    let out = dir.path("out.pcapng");
    let (replay, capture) = exchange(&lab, &file, "recorded", &out);
    assert_eq!(replay.last["dropped"]["too_long"], 1, "{replay:?}");
    assert_eq!(replay.last["unexplained"], 0, "{replay:?}");
    assert_eq!(capture.last["frames"], 9, "{capture:?}");
}

/// UDP frames with a number (u64, big-endian) at the front of the payload.
fn datagrams(count: u64, flow: impl Fn(u64) -> (String, String, u64)) -> Vec<(u64, Vec<u8>)> {
    let frame = |i: u64| {
        let (from, to, seq) = flow(i);
        let template = UdpTemplate::new(from.parse().unwrap(), to.parse().unwrap()).unwrap();
        let mut payload = vec![i as u8; 8 + (i % 400) as usize];
        payload[..8].copy_from_slice(&seq.to_be_bytes());
        let mut buf = vec![0; 2_000];
        let len = template.write(&mut buf, &payload).unwrap();
        buf.truncate(len);
        (i * 50_000, buf)
    };
    (0..count).map(frame).collect()
}

fn payload(frame: &[u8]) -> Vec<u8> {
    let upper = Ethernet::parse(frame).unwrap().ip().unwrap().upper();
    Udp::parse(upper.payload).unwrap().payload().to_vec()
}

#[test]
fn many_groups_are_joined_and_counted_apart() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("groups");
    let file = dir.path("in.pcap");
    let of = |i: u64| {
        let to = format!("239.1.1.{}:5000", 1 + i % 128);
        ("10.99.0.1:4000".into(), to, 1 + i / 128)
    };
    write_pcap(&file, &datagrams(128 * 20, of));
    for (tx, rx) in
        [("udp:v0", "udp:v1"), ("afpacket:v0", "afpacket:v1"), ("udp:v0", "afpacket:v1")]
    {
        let groups = "239.1.1.1:5000+128";
        let mut capture =
            lab.in_b(|| Running::start(&["capture", "-i", rx, "-g", groups, "--seq", "u64be@0"]));
        let replay = lab.in_a(|| json(&["replay", &file, "-o", tx]));
        assert_eq!(replay.last["frames"], 128 * 20, "{tx}: {replay:?}");
        let ended = capture.interrupt();
        assert_eq!(
            (ended.code, &ended.last["unexplained"]),
            (Some(0), &0.into()),
            "{rx}: {ended:?}"
        );
        let groups = ended.last["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 128);
        for (i, group) in groups.iter().enumerate() {
            assert_eq!(group["group"], format!("239.1.1.{}:5000", i + 1));
            assert_eq!(
                (&group["frames"], &group["gaps"]),
                (&20.into(), &0.into()),
                "{rx}: {group}"
            );
        }
    }
}

#[test]
fn a_source_specific_group_filters_the_other_source() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("source");
    let file = dir.path("in.pcap");
    let of = |i: u64| {
        let from = if i.is_multiple_of(2) { "10.99.0.1:4000" } else { "10.99.0.77:4000" };
        (from.into(), "232.1.1.1:5000".into(), i)
    };
    write_pcap(&file, &datagrams(400, of));
    for port in ["udp:v1", "afpacket:v1"] {
        let group = "10.99.0.1,232.1.1.1:5000";
        let mut capture = lab.in_b(|| Running::start(&["capture", "-i", port, "-g", group]));
        let replay = lab.in_a(|| json(&["replay", &file, "-o", "afpacket:v0"]));
        assert_eq!(replay.last["frames"], 400, "{replay:?}");
        let ended = capture.interrupt();
        assert_eq!(ended.last["frames"], 200, "{port}: {ended:?}");
        assert_eq!(ended.last["groups"][0]["group"], group);
        assert_eq!(ended.last["groups"][0]["frames"], 200, "{port}: {ended:?}");
    }
}

#[test]
fn udp_ports_carry_payloads_and_counts() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("udp");
    let generated = dir.path("in.pcap");
    let to = |i: u64| format!("224.0.3{}.64:1{}340", 1 + i % 2, 4 + i % 2);
    write_pcap(&generated, &datagrams(2_000, |i| ("10.99.0.1:4000".into(), to(i), i / 2)));
    let mut files = vec![(generated, ["224.0.31.64:14340", "224.0.32.64:15340"], "recorded")];
    match data("cme-mdp3-ab.pcapng") {
        Ok(file) => files.push((file, ["224.0.31.64:14340", "224.0.32.64:15340"], "x300")),
        Err(why) => skip("udp_ports_carry_payloads_and_counts", &why),
    }
    for (file, groups, speed) in files {
        let out = dir.path("out.pcapng");
        let [a, b] = groups;
        let mut capture =
            lab.in_b(|| Running::start(&["capture", "-i", "udp:v1", "-g", a, "-g", b, "-w", &out]));
        let replay = lab.in_a(|| json(&["replay", &file, "-o", "udp:v0", "--speed", speed]));
        let ended = capture.interrupt();
        let sent = frames(&file);
        assert_eq!(replay.last["frames"], sent.len(), "{replay:?}");
        assert_eq!(ended.last["unexplained"], 0, "{ended:?}");
        let lost: u64 =
            ended.last["dropped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        if lost > 0 {
            // A socket buffer that the limits of this machine keep small: named, so no failure.
            skip(
                "udp_ports_carry_payloads_and_counts",
                &format!("{lost} frames dropped: {ended:?}"),
            );
            continue;
        }
        // Sockets of different groups are read one after the other: compare group by group.
        let got = frames(&out);
        for group in groups {
            let port: u16 = group.split(':').nth(1).unwrap().parse().unwrap();
            let of = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                let to = |frame: &&Vec<u8>| {
                    let upper = Ethernet::parse(frame).unwrap().ip().unwrap().upper();
                    Udp::parse(upper.payload).unwrap().dst_port() == port
                };
                all.iter().filter(to).map(|frame| payload(frame)).collect()
            };
            assert_same(&of(&got), &of(&sent), &format!("{file}: {group}"));
        }
        assert_eq!(got.len(), sent.len());
    }
}
