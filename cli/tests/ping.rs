//! `ping` against `pong` over a veth pair: every backend, and a peer that misbehaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Running, Scratch, json, run};
use linerate::packet::{Ethernet, Udp, UdpTemplate};
use linerate::{FrameRx, FrameTx};
use linerate_lab::{Lab, lab_or_skip};

/// Long enough for the busiest machine: nothing may be lost on a quiet cable.
const PATIENT: &[&str] = &["--timeout", "20", "--pps", "2000", "--warm-up", "20"];

fn ping_pong(lab: &Lab, ping: &str, pong: &str) {
    // Two loops that spin keep a small machine from everything else; an ExaNIC cannot be slept on.
    let how = |port: &str, usual| if port.contains("exanic") { "low-latency" } else { usual };
    let (ours, theirs) = (how(ping, "blocking"), how(pong, "adaptive"));
    let mut answers = lab.in_b(|| Running::start(&["pong", pong, "--loop", theirs]));
    let args = ["ping", ping, "-c", "100", "--size", "60,900", "--loop", ours];
    let args = [&args[..], PATIENT].concat();
    let ended = lab.in_a(|| json(&args));
    let what = format!("{ping} to {pong}: {ended:?}");
    assert_eq!(ended.code, Some(0), "{what}");
    assert_eq!(
        (&ended.last["final"], &ended.last["frames"]),
        (&true.into(), &200.into()),
        "{what}"
    );
    assert_eq!((&ended.last["answered"], &ended.last["lost"]), (&200.into(), &0.into()), "{what}");
    for size in ended.last["sizes"].as_array().unwrap() {
        let rtt = &size["rtt_ns"];
        let at = |name: &str| rtt[name].as_u64().unwrap();
        assert!(at("min") > 0 && at("min") <= at("p50") && at("p50") <= at("max"), "{what}");
        let service = size["service_ns"]["max"].as_u64().unwrap();
        assert!(service <= at("max") + at("max") / 500 + 1, "sent before it was due: {what}");
    }
    let answers = answers.interrupt();
    assert_eq!(answers.code, Some(0), "{what} {answers:?}");
    assert_eq!(answers.last["answered"], 240, "{what} {answers:?}");
    assert_eq!(answers.last["clients"], 1, "{what} {answers:?}");
}

#[test]
fn every_kernel_backend_pings_and_answers() {
    let lab = lab_or_skip!();
    ping_pong(&lab, "afpacket:v0", "afpacket:v1");
    ping_pong(&lab, "afxdp:v0", "afxdp:v1");
    ping_pong(&lab, "udp:v0", "udp:v1");
    ping_pong(&lab, "afpacket:v0", "udp:v1");
}

#[test]
fn every_simulated_card_pings_and_answers() {
    let lab = lab_or_skip!();
    for card in ["exanic", "efvi", "verbs"] {
        ping_pong(&lab, &format!("sim:{card}?peer=v0"), "afpacket:v1");
        ping_pong(&lab, "afpacket:v0", &format!("sim:{card}?peer=v1"));
    }
}

/// Frames that wait in slots go out on the same schedule, in cards and in memory.
#[test]
fn pings_are_fired_from_slots() {
    let lab = lab_or_skip!();
    let mut pong = lab.in_b(|| Running::start(&["pong", "afpacket:v1", "--loop", "adaptive"]));
    for port in ["sim:exanic?peer=v0", "sim:efvi?peer=v0", "afpacket:v0"] {
        let args = ["ping", port, "--tx", "preload", "-c", "100", "--size", "60,900"];
        let ended = lab.in_a(|| json(&[&args[..], PATIENT].concat()));
        assert_eq!(ended.code, Some(0), "{port}: {ended:?}");
        assert_eq!(
            (&ended.last["answered"], &ended.last["lost"], &ended.last["foreign"]),
            (&200.into(), &0.into(), &0.into()),
            "{port}: {ended:?}"
        );
    }
    let args = ["ping", "afpacket:v0", "--tx", "preload", "-c", "100", "--back-to-back"];
    let ended = lab.in_a(|| json(&[&args[..], &["--timeout", "20", "--warm-up", "5"]].concat()));
    assert_eq!(ended.last["answered"], 100, "{ended:?}");
    assert_eq!(pong.interrupt().last["answered"], 3 * 240 + 105);
}

/// An address instead of a group: the answers come back to where the frames came from.
#[test]
fn an_address_is_answered_to_the_sender() {
    let lab = lab_or_skip!();
    let to = "10.99.0.2:7100";
    let mut pong = lab.in_b(|| Running::start(&["pong", "afpacket:v1", "--on", to]));
    let args = [&["ping", "afpacket:v0", "-c", "50", "--to", to], PATIENT].concat();
    let ended = lab.in_a(|| json(&args));
    assert_eq!(ended.last["answered"], 50, "{ended:?} {:?}", pong.interrupt());
}

#[test]
fn back_to_back_files_and_ctrl_c() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("ping");
    let (plot, log) = (dir.path("rtt.svg"), dir.path("rtt.hlog"));
    let mut pong = lab.in_b(|| Running::start(&["pong", "afpacket:v1", "--loop", "adaptive"]));
    let mut ping = lab.in_a(|| {
        let files = ["--plot", &plot, "--log", &log];
        let args =
            ["ping", "afpacket:v0", "--back-to-back", "--timeout", "20", "--loop", "blocking"];
        Running::start(&[&args[..], &["-d", "600", "--warm-up", "10"], &files].concat())
    });
    ping.wait_until(|line| line["answered"].as_u64() > Some(5));
    let ended = ping.interrupt();
    assert_eq!((ended.code, &ended.last["interrupted"]), (Some(0), &true.into()), "{ended:?}");
    assert_eq!(ended.last["lost"], 0, "{ended:?}");
    assert!(std::fs::read_to_string(&plot).unwrap().contains("Round trips by percentile"));
    assert!(std::fs::read_to_string(&log).unwrap().contains("Tag=60,"));
    assert_eq!(pong.interrupt().code, Some(0));
}

#[test]
fn nobody_there_is_said_and_the_run_ends() {
    let lab = lab_or_skip!();
    let args = ["ping", "afpacket:v0", "-c", "20", "--warm-up", "5", "--timeout", "0.05"];
    let ended = lab.in_a(|| json(&args));
    assert_eq!((ended.code, &ended.last["lost"]), (Some(1), &20.into()), "{ended:?}");
    assert!(ended.last["error"].as_str().unwrap().contains("linerate pong"), "{ended:?}");
}

/// Of four frames one is not answered, one is, one twice, and one with a changed byte.
#[test]
fn a_bad_peer_is_counted_by_what_it_does() {
    let lab = lab_or_skip!();
    let (rx, tx) = lab.in_b(|| {
        let flow = "239.255.7.7:7007".parse().unwrap();
        let mut port = linerate::port("afpacket:v1").flow(flow).open().unwrap();
        (port.rx.remove(0), port.tx.take().unwrap())
    });
    let stop = std::sync::atomic::AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| answer_badly(rx, tx, &stop));
        let args = ["ping", "afpacket:v0", "-c", "200", "--warm-up", "0", "--timeout", "3"];
        let ended = lab.in_a(|| json(&args));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        ended
    });
    let count = |name: &str| ended.last[name].as_u64().unwrap();
    assert_eq!(count("frames"), 200, "{ended:?}");
    assert_eq!((count("answered"), count("lost")), (100, 100), "{ended:?}");
    assert_eq!((count("duplicates"), count("damaged")), (50, 50), "{ended:?}");
    assert_eq!(ended.code, Some(0));
}

fn answer_badly(
    mut rx: linerate::AnyRx,
    mut tx: linerate::AnyTx,
    stop: &std::sync::atomic::AtomicBool,
) {
    let to = "239.255.7.8:7007".parse().unwrap();
    let template = UdpTemplate::new("10.99.0.2:7007".parse().unwrap(), to).unwrap();
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let mut replies = Vec::new();
        let n = rx
            .poll(64, |frame| {
                let upper = Ethernet::parse(frame.bytes).unwrap().ip().unwrap().upper();
                let mut payload = Udp::parse(upper.payload).unwrap().payload().to_vec();
                let seq = u32::from_be_bytes(payload[4..8].try_into().unwrap());
                payload[2] = 2;
                let crc = {
                    let mut hasher = crc32fast::Hasher::new();
                    hasher.update(&payload[..14]);
                    hasher.update(&payload[18..]);
                    hasher.finalize()
                };
                payload[14..18].copy_from_slice(&crc.to_be_bytes());
                match seq % 4 {
                    0 => {}
                    1 => replies.push(payload),
                    2 => replies.extend([payload.clone(), payload]),
                    _ => {
                        payload[9] ^= 1;
                        replies.push(payload);
                    }
                }
            })
            .unwrap();
        for payload in replies {
            let mut frame = [0; 1514];
            let len = template.write(&mut frame, &payload).unwrap();
            while !tx.send(&frame[..len]).unwrap() {
                tx.kick().unwrap();
                tx.reap();
            }
        }
        tx.kick().unwrap();
        if n == 0 {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
}

#[test]
fn wrong_arguments_get_one_line() {
    for (args, word) in [
        (&["ping", "lo", "--size", "20"][..], "60"),
        (&["ping", "lo", "--size", "100:60:5"], "range"),
        (&["ping", "lo", "--pps", "0"], "--pps"),
        (&["ping", "lo", "--plot", "x.gif"], ".png"),
        (&["ping", "lo", "--plot", "/no/such/x.png"], "directory"),
        (&["ping", "lo", "--tx", "fast"], "preload"),
        (&["ping", "lo", "--loop", "throughput"], "--loop"),
        (&["ping", "udp:lo", "--to", "239.1.1.1:0"], "port 0"),
        (&["ping", "udp:lo", "--size", "70000"], "70000"),
        (&["pong", "udp:lo", "--on", "nonsense"], "nonsense"),
    ] {
        let out = run(args);
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(word), "{args:?}: {stderr}");
    }
    assert_eq!(run(&["ping", "nic77"]).status.code(), Some(1));
}
