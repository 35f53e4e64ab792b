//! Round trips.

use std::time::Duration;

use crate::compare::lab::{LOAD_CPU, MEASURED_CPU, Side, Station, VA, VB, ip_text, mac_text};
use crate::compare::peers;
use crate::compare::program::{Program, Quit, number_after, words};
use crate::compare::{Case, Class, Column, Contender, Load, Rule, Sample, Target};

const TEXT: &str = "One frame of 60 bytes after the other, from CPU 1 over a veth pair to CPU 0 and \
back; the same program at both ends. Our loops do what the C loops do: send a frame with a number, and \
look for that number in what comes; the time is taken when it was found (afxdp without stamps and marks, udp without stamps). The rows of `linerate ping` are the \
command against `linerate pong`, which write, check and count sequence numbers, times and checksums in each \
frame. sockperf's are UDP messages of as many bytes.";

/// Round trips of a run.
const SPINNING: u64 = 30_000;
const BLOCKING: u64 = 8_000;
const PORT: u16 = 7007;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "ping-spin",
            "Round trips, spinning",
            true,
            &[
                ("linerate afxdp", "C loop, AF_XDP"),
                ("linerate afpacket", "C loop, TPACKET_V2"),
                ("linerate udp", "C loop, UDP"),
            ],
        ),
        case(
            "ping-block",
            "Round trips, sleeping in between",
            false,
            &[
                ("linerate afxdp", "C loop, AF_XDP"),
                ("linerate afpacket", "C loop, TPACKET_V2"),
                ("linerate udp", "C loop, UDP"),
            ],
        ),
    ]
}

const KINDS: [&str; 3] = ["afxdp", "packet", "udp"];
/// Our ports, on an interface to be put in.
const LOOPS: [&str; 3] =
    ["afxdp:IF?stamps=off&marks=off", "afpacket:IF?ring=frames", "udp:IF?stamps=off"];
const PORTS: [&str; 3] = ["afxdp?stamps=off&marks=off", "afpacket", "udp?stamps=off"];
const COMMANDS: [&str; 3] = ["linerate ping afxdp", "linerate ping afpacket", "linerate ping udp"];
const PEER: &str = "sockperf, UDP";

fn case(
    name: &'static str,
    title: &'static str,
    spins: bool,
    pairs: &[(&'static str, &'static str); 3],
) -> Case {
    let mut contenders = Vec::new();
    let mut targets = Vec::new();
    for (at, (ours, twin)) in pairs.iter().enumerate() {
        contenders.push(our_loop(ours, LOOPS[at], spins));
        contenders.push(loop_in_c(twin, KINDS[at], spins));
        contenders.push(linerate(COMMANDS[at], PORTS[at], spins));
        for (column, percentile) in [("p50", "p50"), ("p99", "p99")] {
            let text = format!("{percentile} at most 1.02 × the C loop's");
            targets.push(Target::new(&text, ours, &[twin], column, Rule::AtMost(1.02)));
        }
    }
    contenders.push(sockperf(spins));
    for column in ["p50", "p99"] {
        let text = format!("{column} at least 20 % below sockperf's");
        targets.push(Target::new(&text, pairs[0].0, &[PEER], column, Rule::AtMost(0.8)));
    }
    Case {
        name,
        title,
        text: TEXT,
        columns: vec![
            Column::new("p50", "p50 ns", 0),
            Column::new("p99", "p99 ns", 0),
            Column::new("p999", "p99.9 ns", 0),
            Column::new("lost", "lost", 0),
        ],
        loads: vec![Load::frames("60 B", 60, true)],
        contenders,
        targets,
    }
}

fn count(spins: bool) -> String {
    if spins { SPINNING } else { BLOCKING }.to_string()
}

fn linerate(name: &'static str, port: &'static str, spins: bool) -> Contender {
    Contender::new(name, Class::Ours, move |ground, _| {
        let command = peers::ours("linerate")?;
        let there = format!("{}:{PORT}", ip_text(VA.ip));
        // A UDP socket chooses the port that it sends from: answers must go elsewhere.
        let reply = ["--reply".to_owned(), format!("{}:{}", ip_text(VB.ip), PORT + 1)];
        let (to, from) = if port.starts_with("udp") {
            (reply.to_vec(), reply.to_vec())
        } else {
            (vec!["--dst-mac".into(), mac_text(VA.mac)], vec![])
        };
        let (backend, options) = port.split_once('?').unwrap_or((port, ""));
        let on = |interface| format!("{backend}:{interface}?{options}");
        let strategy = if spins { "low-latency" } else { "blocking" };
        let program = |side, cpu, words_of: &[&str], more: &[String]| {
            let mut all: Vec<String> = vec![command.clone()];
            all.extend(words_of.iter().map(|&word| word.into()));
            all.extend(["--loop", strategy, "--json"].map(String::from));
            all.extend(["--cpu".into(), format!("{cpu}")]);
            all.extend_from_slice(more);
            Program::new(side, cpu, all).ready_at("\"final\":false")
        };
        let at = on(VA.interface);
        let pong = program(Side::A, LOAD_CPU, &["pong", &at, "--on", &there], &from)
            .on_all_cpus()
            .quit_by(Quit::Signal(libc::SIGINT))
            .start(ground.lab)?;
        let at = format!("{backend}:{}", VB.interface);
        let words_of = [
            "ping",
            &at,
            "--to",
            &there,
            "--back-to-back",
            "--warm-up",
            "1000",
            "-c",
            &count(spins),
        ];
        let said = program(Side::B, MEASURED_CPU, &words_of, &to)
            .on_all_cpus()
            .says_nothing()
            .start(ground.lab)?
            .wait()?;
        pong.stop()?;
        let no_result = || format!("no result: {}", said.lines().last().unwrap_or_default());
        let (_, times) = said.rsplit_once("\"rtt_ns\":{").ok_or_else(no_result)?;
        let times = times.split('}').next().unwrap_or_default();
        let time = |key| number_after(times, key).ok_or_else(no_result);
        Ok(Sample::from([
            ("p50", time("\"p50\"")?),
            ("p99", time("\"p99\"")?),
            ("p999", time("\"p99.9\"")?),
            ("lost", number_after(&said, "\"lost\"").unwrap_or(0.0)),
        ]))
    })
}

fn our_loop(name: &'static str, port: &'static str, spins: bool) -> Contender {
    bare(name, Class::Ours, move || {
        let program = peers::ours("round_trips")?;
        let wait = if spins { "spin" } else { "block" };
        let on = |station: Station| port.replace("IF", station.interface);
        Ok((
            [&program, "pong", &on(VA), wait].map(String::from).to_vec(),
            [&program, "ping", &on(VB), &count(spins), wait].map(String::from).to_vec(),
        ))
    })
}

fn loop_in_c(name: &'static str, kind: &'static str, spins: bool) -> Contender {
    bare(name, Class::Twin, move || {
        let program = peers::twin("ping")?;
        let wait = if spins { "spin" } else { "block" };
        Ok((
            [&program, "server", kind, wait, VA.interface].map(String::from).to_vec(),
            [&program, "client", kind, wait, VB.interface, &count(spins)]
                .map(String::from)
                .to_vec(),
        ))
    })
}

/// A server and a client in words, which says its percentiles.
fn bare(
    name: &'static str,
    class: Class,
    words_of: impl Fn() -> Result<(Vec<String>, Vec<String>), String> + 'static,
) -> Contender {
    Contender::new(name, class, move |ground, _| {
        let (server, client) = words_of()?;
        let server = Program::new(Side::A, LOAD_CPU, server).start(ground.lab)?;
        let said = Program::new(Side::B, MEASURED_CPU, client).start(ground.lab)?.wait()?;
        server.stop()?;
        let got = words(&said);
        let keys = ["p50", "p99", "p999", "lost"];
        let all = keys.map(|key| got.get(key).map(|value| (key, *value)));
        let all: Option<Vec<_>> = all.into_iter().collect();
        Ok(all.ok_or_else(|| format!("no result: {said}"))?.into_iter().collect())
    })
}

fn sockperf(spins: bool) -> Contender {
    Contender::new(PEER, Class::Peer, move |ground, _| {
        if !peers::has("sockperf") {
            return Err("sockperf is not installed".into());
        }
        let ip = ip_text(VA.ip);
        let wait: &[&str] = if spins { &["--nonblocked"] } else { &[] };
        let server = [&["sockperf", "server", "-i", &ip], wait].concat();
        let server = Program::new(Side::A, LOAD_CPU, server)
            .says_nothing()
            .settle(Duration::from_millis(300))
            .quit_by(Quit::Signal(libc::SIGINT))
            .start(ground.lab)?;
        let client = ["sockperf", "ping-pong", "-i", &ip, "-m", "18", "-t", "1", "--full-rtt"];
        let client = Program::new(Side::B, MEASURED_CPU, [&client, wait].concat());
        let said = client.says_nothing().start(ground.lab)?.wait()?;
        // It may not take the end well.
        let _ = server.stop();
        let time = |percentile| {
            number_after(&said, percentile)
                .map(|us| us * 1e3)
                .ok_or_else(|| format!("no result: {}", said.lines().last().unwrap_or_default()))
        };
        Ok(Sample::from([
            ("p50", time("percentile 50.000")?),
            ("p99", time("percentile 99.000")?),
            ("p999", time("percentile 99.900")?),
            ("lost", number_after(&said, "# dropped messages").unwrap_or(0.0)),
        ]))
    })
}
