//! How cost grows with what is asked for, and what it takes to begin.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::compare::lab::{LOAD_CPU, Lab, MEASURED_CPU, Side, VA, VB, ip_text};
use crate::compare::peers;
use crate::compare::program::{Program, pause, words};
use crate::compare::{Case, Class, Column, Contender, Load, Sample, xdp::Bytes};

use super::receive::{PORT, generate};

pub(super) fn cases() -> Vec<Case> {
    vec![flows(), queues(), bytes(), ports(), build()]
}

fn load(label: &'static str, number: u64, quick: bool) -> Load {
    Load { label, bytes: Bytes::Each(60), number, quick }
}

/// Flows beside the one that the frames are of: groups, or rules for UDP ports.
fn flows() -> Case {
    let of = |name, port: &'static str| {
        Contender::new(name, Class::Ours, move |ground, load| {
            let mut words_of = vec![peers::ours("loops")?, "receive".into(), port.into()];
            if load.number == 128 {
                words_of.extend((1..load.number).map(|n| format!("239.77.0.{n}:5000")));
            } else {
                let ip = ip_text(VB.ip);
                words_of.extend((1..load.number).map(|n| format!("udp:{ip}:{}", 20_000 + n)));
            }
            words_of.push(format!("udp:{}:{PORT}", ip_text(VB.ip)));
            let receiver = Program::new(Side::B, MEASURED_CPU, words_of).start(ground.lab)?;
            let sent = generate(ground, load, "other")?;
            pause(Duration::from_millis(30))?;
            let said = receiver.stop()?;
            let frames = words(&said).get("frames").copied().ok_or("no count of frames")?;
            Ok(Sample::from([("mpps", frames / sent["seconds"] / 1e6)]))
        })
    };
    Case {
        name: "grow-flows",
        title: "Growth: flows",
        text: "Receiving frames of 64 bytes as above, with so many flows asked for of which the \
               last one is theirs: UDP ports, or 127 multicast groups and one port.",
        columns: vec![Column::new("mpps", "Mpps", 2)],
        loads: vec![
            load("1 flow", 1, true),
            load("128 groups", 128, false),
            load("100 flows", 100, false),
            load("1000 flows", 1000, true),
        ],
        contenders: vec![of("linerate afxdp", "afxdp:vb"), of("linerate afpacket", "afpacket:vb")],
        targets: vec![],
    }
}

/// A program of ours that prints words and ends.
fn grow(name: &'static str, what: &'static str) -> Contender {
    Contender::new(name, Class::Ours, move |ground, load| {
        let words_of = [peers::ours("grow")?, what.into(), load.number.to_string()];
        let program = Program::new(Side::B, MEASURED_CPU, words_of).says_nothing();
        let said = program.start(ground.lab)?.wait()?;
        let got = words(&said);
        let keys = ["ns", "idle_ns"];
        Ok(keys.into_iter().filter_map(|key| Some((key, *got.get(key)?))).collect())
    })
}

fn queues() -> Case {
    Case {
        name: "grow-queues",
        title: "Growth: queues in a loop",
        text: "Pairs in memory, 64 frames of 60 bytes waiting in each: **cost of the abstraction**, \
               no card's. Idle is one turn over all queues that finds nothing.",
        columns: vec![Column::new("ns", "ns/frame", 1), Column::new("idle_ns", "idle turn, ns", 0)],
        loads: vec![
            load("1 queue", 1, true),
            load("2 queues", 2, false),
            load("4 queues", 4, false),
            load("8 queues", 8, true),
        ],
        contenders: vec![grow("linerate loopback", "queues")],
        targets: vec![],
    }
}

/// The interfaces of the first pair take frames of a length; until this is dropped.
struct Jumbo<'a>(&'a Lab);

impl<'a> Jumbo<'a> {
    fn new(lab: &'a Lab, frame_bytes: usize) -> Result<Self, String> {
        let jumbo = Self(lab);
        let mtu = (frame_bytes - ETHERNET).max(1500).to_string();
        for (side, station) in [(Side::A, VA), (Side::B, VB)] {
            lab.run(side, &["ip", "link", "set", station.interface, "mtu", &mtu])?;
        }
        Ok(jumbo)
    }
}

impl Drop for Jumbo<'_> {
    fn drop(&mut self) {
        for (side, station) in [(Side::A, VA), (Side::B, VB)] {
            let _ = self.0.run(side, &["ip", "link", "set", station.interface, "mtu", "1500"]);
        }
    }
}

const ETHERNET: usize = 14;

/// A port that receives frames of a length, from a packet socket: what the kernel makes by itself
/// is at most a page long.
fn receiver(name: &'static str, port: &'static str) -> Contender {
    Contender::new(name, Class::Ours, move |ground, load| {
        let _jumbo = Jumbo::new(ground.lab, load.longest())?;
        let loops = peers::ours("loops")?;
        let flow = format!("udp:{}:{PORT}", ip_text(VB.ip));
        let receive = [&loops, "receive", port, &flow].map(String::from);
        let receiver = Program::new(Side::B, MEASURED_CPU, receive).start(ground.lab)?;
        let send = [&loops, "send", "afpacket:va", &load.word()].map(String::from);
        let sender = Program::new(Side::A, LOAD_CPU, send).start(ground.lab)?;
        pause(ground.time)?;
        let sent = words(&sender.stop()?).get("frames").copied().unwrap_or(0.0);
        pause(Duration::from_millis(30))?;
        let said = receiver.stop()?;
        let got = words(&said);
        let number = |word: &str| got.get(word).copied().unwrap_or(0.0);
        let (frames, truncated) = (number("frames"), number("truncated"));
        if frames == 0.0 {
            return Err(format!(
                "{truncated} of {sent} frames counted as truncated, none delivered"
            ));
        }
        let sample = [("ns", number("frame_ns")), ("truncated", truncated * 100.0 / sent.max(1.0))];
        Ok(sample.into())
    })
}

fn bytes() -> Case {
    let load = |label, bytes, quick| Load {
        label,
        bytes: Bytes::Each(bytes),
        number: bytes as u64,
        quick,
    };
    Case {
        name: "grow-bytes",
        title: "Growth: length of frames",
        text: "CPU time of the receiver for the frame in the middle, as above, whose handler reads length and \
               first word: what grows is what the path itself copies. Frames come from a packet socket in another \
               process, as the kernel's test runs make none longer than a page; the pair's MTU is what the \
               frames need. `loopback` is a pair in memory with every byte written once and read once: \
               **cost of the abstraction**, no card's. A buffer of a pool holds 3840 bytes at most, and \
               nothing is put together from several: what is longer, AF_XDP counts as truncated and \
               `loopback` refuses to send.",
        columns: vec![Column::new("ns", "ns/frame", 0), Column::new("truncated", "truncated %", 0)],
        loads: vec![
            load("64 B", 60, true),
            load("256 B", 252, false),
            load("1518 B", 1514, true),
            load("3840 B", 3836, false),
            load("9600 B", 9596, true),
        ],
        contenders: vec![
            receiver("linerate afxdp, generic", "afxdp:vb?mode=generic&stamps=off"),
            receiver("linerate afxdp, native", "afxdp:vb?mode=native&stamps=off"),
            receiver("linerate afpacket", "afpacket:vb"),
            receiver("linerate afpacket, ring=frames", "afpacket:vb?ring=frames"),
            receiver("linerate udp", "udp:vb"),
            grow("linerate loopback", "bytes"),
        ],
        targets: vec![],
    }
}

fn ports() -> Case {
    let of = |name, uri: &'static str| {
        Contender::new(name, Class::Ours, move |ground, _| {
            let words_of = [peers::ours("grow")?, "port".into(), uri.into()];
            let program = Program::new(Side::B, MEASURED_CPU, words_of).says_nothing();
            let said = program.start(ground.lab)?.wait()?;
            let got = words(&said);
            let keys = ["open_us", "close_us", "memory_kib"];
            let all: Sample =
                keys.into_iter().filter_map(|key| Some((key, *got.get(key)?))).collect();
            if all.len() == keys.len() { Ok(all) } else { Err(format!("no result: {said}")) }
        })
    };
    Case {
        name: "set-up",
        title: "Opening and closing a port",
        text: "On defaults, five times in one process; memory is what became resident by opening, \
               huge pages included. Cards are simulated: their rows are the cost of the \
               abstraction and of the simulator.",
        columns: vec![
            Column::new("open_us", "open, µs", 0),
            Column::new("close_us", "close, µs", 0),
            Column::new("memory_kib", "memory, KiB", 0),
        ],
        loads: vec![load("a port", 0, true)],
        contenders: vec![
            of("linerate afxdp", "afxdp:vb"),
            of("linerate afpacket", "afpacket:vb"),
            of("linerate udp", "udp:vb"),
            of("linerate efvi (simulated)", "sim:efvi?peer=loop"),
            of("linerate verbs (simulated)", "sim:verbs?peer=loop"),
            of("linerate exanic (simulated)", "sim:exanic?peer=loop"),
        ],
        targets: vec![],
    }
}

/// Once a run: it takes a minute or more, and hardly varies.
fn build() -> Case {
    let run = super::once(|_, _| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let target = root.join("target/linerate-bench-build");
        let _ = fs::remove_dir_all(&target);
        let start = Instant::now();
        let cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
            .args(["build", "--release", "--quiet", "--offline", "--target-dir"])
            .arg(&target)
            .current_dir(&root)
            .output();
        let seconds = start.elapsed().as_secs_f64();
        let size = fs::metadata(target.join("release/linerate")).map_or(0, |file| file.len());
        let _ = fs::remove_dir_all(&target);
        let out = cargo.map_err(|e| format!("cargo: {e}"))?;
        if !out.status.success() || size == 0 {
            let text = String::from_utf8_lossy(&out.stderr);
            return Err(text.lines().next().unwrap_or("it made no program").to_owned());
        }
        Ok(Sample::from([("seconds", seconds), ("mb", size as f64 / 1e6)]))
    });
    let name = "cargo build --release";
    Case {
        name: "build",
        title: "A clean default build",
        text: "`cargo build --release` of the command with all that it depends on, sources at \
               hand, once a run, on all CPUs. The size is with line tables for debugging.",
        columns: vec![Column::new("seconds", "s", 0), Column::new("mb", "MB", 1)],
        loads: vec![load("from nothing", 0, false)],
        contenders: vec![Contender { name, class: Class::Ours, run }],
        targets: vec![],
    }
}
