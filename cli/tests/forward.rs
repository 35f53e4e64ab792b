//! `forward` between two cables that end in namespace B, with both far ends in A.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Running, json, run};
use linerate_lab::{Lab, lab_or_skip};

/// A second cable, w0 to w1, with an address to join groups from.
fn second_cable(lab: &Lab) {
    lab.add_pair("w0", "w1").unwrap();
    lab.ip_a(&["addr", "add", "10.98.0.1/24", "dev", "w0"]).unwrap();
}

/// Frames go out on v0, through B, to a pong on w0, and back.
fn there_and_back(lab: &Lab, a: &str, b: &str, zero_copy: bool) {
    let mut forward = lab.in_b(|| Running::start(&["forward", a, b]));
    let mut pong = lab.in_a(|| Running::start(&["pong", "afpacket:w0", "--loop", "adaptive"]));
    let args = ["ping", "afpacket:v0", "-c", "200", "--warm-up", "0", "--timeout", "20"];
    let ping = lab.in_a(|| json(&[&args[..], &["--pps", "2000", "--size", "60,1400"]].concat()));
    let pong = pong.interrupt();
    let forward = forward.interrupt();
    let what = format!("{a} and {b}: {forward:?} {ping:?} {pong:?}");
    assert_eq!((forward.code, ping.code), (Some(0), Some(0)), "{what}");
    assert_eq!((&ping.last["answered"], &ping.last["damaged"]), (&400.into(), &0.into()), "{what}");
    assert_eq!(forward.last["zero_copy"], zero_copy, "{what}");
    for way in forward.last["ways"].as_array().unwrap() {
        assert!(way["frames"].as_u64() >= Some(400), "{what}");
        assert_eq!(way["unexplained"], 0, "{what}");
        assert!(way["dropped"].as_object().unwrap().is_empty(), "{what}");
    }
}

#[test]
fn frames_cross_in_both_directions() {
    let lab = lab_or_skip!();
    second_cable(&lab);
    there_and_back(&lab, "afpacket:v1", "afpacket:w1", false);
    there_and_back(&lab, "afxdp:v1", "afxdp:w1", true);
    there_and_back(&lab, "afxdp:v1", "afpacket:w1", false);
    there_and_back(&lab, "sim:exanic?peer=v1", "sim:verbs?peer=w1", false);
}

/// The kernel's own TCP leaves check sums to the card: they are there behind the forwarder.
#[test]
fn a_kernel_connection_survives() {
    let lab = lab_or_skip!();
    let name = "a_kernel_connection_survives";
    lab.add_pair("w0", "w1").unwrap();
    // A third namespace is what it takes; the far end of w0 moves there.
    let third = format!("{}c", lab.a());
    let ip = |args: &[&str]| {
        let out = std::process::Command::new("ip").args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    struct Gone(String);
    impl Drop for Gone {
        fn drop(&mut self) {
            // It goes with its last link; nothing else depends on it.
            let _ = std::process::Command::new("ip").args(["netns", "del", &self.0]).output();
        }
    }
    if std::process::Command::new("timeout").arg("--version").output().is_err() {
        return linerate_lab::skip(name, "no `timeout` command");
    }
    ip(&["netns", "add", &third]);
    let _gone = Gone(third.clone());
    ip(&["-n", lab.a(), "link", "set", "w0", "netns", &third]);
    ip(&["-n", &third, "link", "set", "w0", "up"]);
    ip(&["-n", &third, "addr", "add", "10.99.0.9/24", "dev", "w0"]);
    ip(&["-n", lab.b(), "addr", "flush", "dev", "v1"]);
    let mut forward = lab.in_b(|| Running::start(&["forward", "afpacket:v1", "afpacket:w1"]));
    let server = lab.in_a(|| std::net::TcpListener::bind("10.99.0.1:7200").unwrap());
    let script = "exec 3<>/dev/tcp/10.99.0.1/7200 && echo hello >&3 && cat <&3";
    let client = std::process::Command::new("ip")
        .args(["netns", "exec", &third, "timeout", "60", "bash", "-c", script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stream, _) = server.accept().unwrap();
    std::io::Write::write_all(&mut stream, b"and back").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let out = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "and back");
    let forward = forward.interrupt();
    let ways = forward.last["ways"].as_array().unwrap();
    assert!(ways.iter().all(|way| way["checksums_completed"].as_u64() > Some(0)), "{forward:?}");
}

#[test]
fn only_the_flows_asked_for_cross_and_only_one_way() {
    let lab = lab_or_skip!();
    second_cable(&lab);
    // B needs an address on the cable to join from.
    let args = ["forward", "udp:v1", "udp:w1", "-f", "239.2.2.2:5000", "--one-way"];
    lab.ip_b(&["addr", "add", "10.98.0.2/24", "dev", "w1"]).unwrap();
    let mut forward = lab.in_b(|| Running::start(&args));
    let mut sink = lab
        .in_a(|| Running::start(&["sink", "afpacket:w0", "-g", "239.2.2.1:5000+2", "-c", "100"]));
    let groups = ["-g", "239.2.2.1:5000+2", "-c", "200", "--pps", "2000"];
    let blast = lab.in_a(|| json(&[&["blast", "udp:v0"], &groups[..]].concat()));
    assert_eq!(blast.last["delivered"], 200, "{blast:?}");
    let sink = sink.finish();
    let groups = sink.last["groups"].as_array().unwrap();
    assert_eq!((&groups[0]["frames"], &groups[1]["frames"]), (&0.into(), &100.into()), "{sink:?}");
    let forward = forward.interrupt();
    assert_eq!(forward.last["ways"].as_array().unwrap().len(), 1, "{forward:?}");
    assert_eq!(forward.last["frames"], 100, "{forward:?}");
}

#[test]
fn wrong_arguments_get_one_line() {
    for (args, status, word) in [
        (&["forward", "udp:lo"][..], 2, "<B>"),
        (&["forward", "udp:lo", "udp:lo"], 1, "239.1.1.1:5000"),
        (&["forward", "udp:lo", "udp:lo", "-f", "nonsense"], 2, "nonsense"),
        (&["forward", "udp:lo", "udp:lo", "--cpus", "0,0,0"], 2, "--cpus"),
        (&["forward", "udp:lo", "udp:lo", "--loop", "throughput"], 2, "--loop"),
    ] {
        let out = run(args);
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(status), "{args:?}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(word), "{args:?}: {stderr}");
    }
}
