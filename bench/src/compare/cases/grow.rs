//! How cost grows with what is asked for, and what it takes to begin.

use std::path::Path;
use std::process::Command;
use std::time::Instant;
use std::{cell::RefCell, fs};

use crate::compare::lab::{MEASURED_CPU, Side, VB, ip_text};
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
            pause(std::time::Duration::from_millis(30))?;
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

fn bytes() -> Case {
    Case {
        name: "grow-bytes",
        title: "Growth: length of frames",
        text: "A pair in memory, every byte written once and read once: **cost of the \
               abstraction**, no card's. A pool's buffer holds 3840 bytes at most.",
        columns: vec![Column::new("ns", "ns/frame", 0)],
        loads: vec![
            load("64 B", 60, true),
            load("256 B", 252, false),
            load("1518 B", 1514, true),
            load("3840 B", 3836, false),
        ],
        contenders: vec![grow("linerate loopback", "bytes")],
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
    let known: RefCell<Option<Sample>> = RefCell::new(None);
    let run = Contender::new("cargo build --release", Class::Ours, move |_, _| {
        if let Some(sample) = &*known.borrow() {
            return Ok(sample.clone());
        }
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
        let sample = Sample::from([("seconds", seconds), ("mb", size as f64 / 1e6)]);
        *known.borrow_mut() = Some(sample.clone());
        Ok(sample)
    });
    Case {
        name: "build",
        title: "A clean default build",
        text: "`cargo build --release` of the command with all that it depends on, sources at \
               hand, once a run, on all CPUs. The size is with line tables for debugging.",
        columns: vec![Column::new("seconds", "s", 0), Column::new("mb", "MB", 1)],
        loads: vec![load("from nothing", 0, false)],
        contenders: vec![run],
        targets: vec![],
    }
}
