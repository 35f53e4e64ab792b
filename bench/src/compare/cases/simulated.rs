//! What programs over verbs execute for a frame, on a simulated device: ours, C and perftest.

use std::path::PathBuf;

use crate::compare::lab::{MEASURED_CPU, Side};
use crate::compare::peers;
use crate::compare::perftest::{self, Way};
use crate::compare::program::Program;
use crate::compare::xdp::Bytes;
use crate::compare::{Case, Class, Column, Contender, Ground, Load, Sample};

pub(super) fn cases() -> Vec<Case> {
    vec![verbs(), in_process()]
}

const SEND: u64 = 0;
const RECEIVE: u64 = 1;

fn verbs() -> Case {
    let count = |name, class, of: fn(&Ground<'_>, u64) -> Result<f64, String>| {
        let run = move |ground: &Ground<'_>, load: &Load| {
            Ok(Sample::from([("instructions", of(ground, load.number)?)]))
        };
        Contender { name, class, run: super::once(run) }
    };
    let load = |label, number| Load { label, bytes: Bytes::Each(60), number, quick: true };
    Case {
        name: "simulated-verbs",
        title: "Verbs over a simulated device, in instructions",
        text: "**Cost of the abstraction, no card's speed.** Debian's `raw_ethernet_bw` (perftest) runs under \
               the real libibverbs with the project's simulated device as its driver; ours and the C loop run over \
               the same device. callgrind counts what each executes for a frame of 60 bytes; what the \
               driver executes and polls that find nothing are taken off. It is a count, so it is made \
               once a run. `raw_ethernet_bw` sends one frame, described once, over and over, with a \
               completion for every 32 and no check of what completes: with 32 requests a call there is \
               nothing left to do for a frame. Ours and the C loop write each frame into a buffer of its \
               own and get it back. `raw_ethernet_lat` is not here: its loop only waits.",
        columns: vec![Column::new("instructions", "instructions/frame", 1)],
        loads: vec![load("send", SEND), load("receive", RECEIVE)],
        contenders: vec![
            count("linerate verbs", Class::Ours, |ground, way| {
                perftest::count_loop(ground, if way == SEND { "send" } else { "poll" })
            }),
            count("C loop, verbs", Class::Twin, |ground, way| {
                perftest::count_loop(ground, if way == SEND { "c-send" } else { "c-receive" })
            }),
            count("raw_ethernet_bw", Class::Peer, |ground, way| {
                let way = if way == SEND { Way::Send(1) } else { Way::Receive };
                perftest::instructions(ground, way)
            }),
            count("raw_ethernet_bw, 32 requests a call", Class::Peer, |ground, way| match way {
                SEND => perftest::instructions(ground, Way::Send(32)),
                _ => Err("it has no lists for receiving".into()),
            }),
        ],
        targets: vec![],
    }
}

/// The names in `benches/in_process.rs`.
const BENCHES: [&str; 12] = [
    "pool: alloc and free",
    "pool: alloc and free in a queue's stock",
    "loopback/send and poll 64 frames of 60 bytes",
    "loopback/send and poll 64 frames of 1514 bytes",
    "loopback: a poll that finds nothing",
    "headers: parse a UDP frame",
    "FlowSpec::matches, all",
    "FlowSpec::matches, 239.1.1.1:5000",
    "FlowSpec::matches, vlan:5,239.1.1.1:5000",
    "FlowSpec::matches, udp:10.0.0.1:80,10.0.0.2:81",
    "pcapng writer/1000 frames of 60 bytes",
    "pcapng writer/1000 frames of 1514 bytes",
];

fn in_process() -> Case {
    let contender = |name: &'static str| {
        Contender::new(name, Class::Ours, move |ground, _| {
            let dir = Scratch::new();
            let seconds = ground.time.as_secs_f64();
            let program = Program::new(
                Side::B,
                MEASURED_CPU,
                [peers::bench("in_process")?, "--bench".into(), "--exact".into(), name.into()],
            );
            let times = [seconds.to_string(), (2.0 * seconds).to_string()];
            let options = ["--warm-up-time", &times[0], "--measurement-time", &times[1]];
            let program = program.with(options).with(["--noplot", "--sample-size", "20"]);
            let program = program.env("CRITERION_HOME", &dir.0.to_string_lossy()).says_nothing();
            let said = program.start(ground.lab)?.wait()?;
            let ns = median(&dir.0).ok_or_else(|| format!("no result: {said}"))?;
            Ok(Sample::from([("ns", ns)]))
        })
    };
    Case {
        name: "in-process",
        title: "Inside one process",
        text: "`cargo bench -p linerate-bench` (criterion): each benchmark in a process of its own, and \
               criterion's median of a round. Neither a kernel nor a card takes part: **cost of the \
               abstraction**.",
        columns: vec![Column::new("ns", "ns", 1)],
        loads: vec![Load { label: "a turn", bytes: Bytes::Each(60), number: 0, quick: true }],
        contenders: BENCHES.map(contender).into(),
        targets: vec![],
    }
}

/// criterion's median of the one benchmark in its directory.
fn median(dir: &PathBuf) -> Option<f64> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.ends_with("new") {
            let text = std::fs::read(path.join("estimates.json")).ok()?;
            let all: serde_json::Value = serde_json::from_slice(&text).ok()?;
            return all["median"]["point_estimate"].as_f64();
        }
        if let Some(ns) = path.is_dir().then(|| median(&path)).flatten() {
            return Some(ns);
        }
    }
    None
}

/// Where criterion keeps what it found, for one benchmark.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("linerate-bench-{}-criterion", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
