//! What the command says to those who get it wrong, and to those who ask.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Scratch, run, write_pcap};

/// The error must be one line that says what to do, and the status must say so, too.
fn refused(args: &[&str], status: i32, words: &[&str]) {
    let out = run(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(status), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("linerate: "), "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no {word:?} in {stderr}");
    }
}

#[test]
fn wrong_arguments_get_one_line_and_status_2() {
    refused(&[], 2, &["capture", "--help"]);
    refused(&["frobnicate"], 2, &["frobnicate", "--help"]);
    refused(&["capture"], 2, &["--port", "capture --help"]);
    refused(&["capture", "-i", "lo", "-c", "0"], 2, &["'0'", "--count", "above 0"]);
    refused(&["capture", "-i", "lo", "-d", "0"], 2, &["'0'", "--duration"]);
    refused(&["capture", "-i", "lo", "-s", "0"], 2, &["'0'", "--snaplen"]);
    refused(&["capture", "-i", "lo", "-w", "x", "-C", "0"], 2, &["--rotate"]);
    refused(&["capture", "-i", "lo", "-w", "x", "-W", "5"], 2, &["--rotate"]);
    refused(&["capture", "-i", "lo", "-w", "-", "-C", "1"], 2, &["stdout", "leave -C out"]);
    refused(&["capture", "-i", "lo", "-w", ""], 2, &["--write"]);
    refused(&["capture", "-i", "lo", "-g", "239.1.1.1:0"], 2, &["239.1.1.1:0"]);
    refused(&["capture", "-i", "lo", "-g", "239.1.1.1:5000+99999"], 2, &["4096"]);
    refused(&["capture", "-i", "lo", "-g", "udp:10.0.0.1:5000"], 2, &["use -f"]);
    refused(&["capture", "-i", "lo", "-f", "nonsense"], 2, &["nonsense", "expected"]);
    refused(&["capture", "-i", "lo", "--loop", "fast"], 2, &["fast", "adaptive"]);
    refused(&["capture", "-i", "lo", "--cpu", "9999"], 2, &["9999"]);
    refused(&["replay", "x", "-o", "lo", "--speed", "warp"], 2, &["warp", "recorded"]);
    refused(&["replay", "x", "-o", "lo", "--speed", "x0"], 2, &["above 0"]);
    refused(&["replay", "x", "-o", "lo", "--times", "0"], 2, &["--times"]);
    refused(&["replay", "x", "-o", "lo", "--rewrite-dst", "1:2"], 2, &["six bytes"]);
    refused(&["demo", "-d", "-1"], 2, &["-1"]);
}

#[test]
fn what_is_not_there_gets_one_line_and_status_1() {
    refused(&["capture", "-i", "nic77"], 1, &["nic77", "no such interface"]);
    refused(&["capture", "-i", "afpaket:lo"], 1, &["did you mean"]);
    refused(&["capture", "-i", "afxdp:"], 1, &["afxdp:eth2"]);
    refused(&["capture", "-i", "udp:nic77", "-g", "239.1.1.1:5000"], 1, &["nic77"]);
    refused(&["capture", "-i", "udp:lo"], 1, &["udp:lo", "239.1.1.1:5000"]);
    refused(&["replay", "/nonexistent.pcap", "-o", "udp:lo"], 1, &["/nonexistent.pcap"]);
    refused(&["capture", "-i", "pcap:/nonexistent.pcap"], 1, &["/nonexistent.pcap"]);
}

#[test]
fn files_that_are_no_captures_are_refused_before_anything_is_sent() {
    let dir = Scratch::new("refused");
    let file = |name: &str, content: &[u8]| {
        let path = dir.path(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let garbage = file("garbage", b"this is not a capture file at all, whatever its name may be");
    refused(&["replay", &garbage, "-o", "udp:lo"], 1, &["garbage", "pcap"]);
    refused(&["replay", &file("empty", b""), "-o", "udp:lo"], 1, &["empty"]);
    let none = dir.path("none.pcap");
    write_pcap(&none, &[]);
    refused(&["replay", &none, "-o", "udp:lo"], 1, &["no frames"]);
    let cut = dir.path("cut.pcap");
    write_pcap(&cut, &[(0, vec![0; 60])]);
    let whole = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 10]).unwrap();
    refused(&["replay", &cut, "-o", "udp:lo"], 1, &["cut.pcap", "at byte 24"]);
    let mut other = whole;
    other[20] = 101; // LINKTYPE_RAW
    let raw = file("raw.pcap", &other);
    refused(&["replay", &raw, "-o", "udp:lo"], 1, &["link type 101", "Ethernet"]);
}

#[test]
fn an_unwritable_file_is_named_and_what_it_held_stays() {
    let dir = Scratch::new("unwritable");
    let input = dir.path("in.pcap");
    write_pcap(&input, &common::mixed_frames(3, 1));
    let port = format!("pcap:{input}");
    let missing = dir.path("no/such/dir/out.pcapng");
    refused(&["capture", "-i", &port, "-w", &missing], 1, &[&missing, "-w"]);
    refused(&["capture", "-i", &port, "-w", &dir.path("")], 1, &["directory"]);
    // A port that cannot be opened must not cost an earlier capture.
    let earlier = dir.path("earlier.pcapng");
    std::fs::write(&earlier, b"precious").unwrap();
    refused(&["capture", "-i", "nic77", "-w", &earlier], 1, &["nic77"]);
    assert_eq!(std::fs::read(&earlier).unwrap(), b"precious");
}

#[test]
fn errors_are_json_when_asked_for() {
    for args in [&["--json", "capture", "-i", "nic77"][..], &["capture", "--json", "-c", "0"]] {
        let out = run(args);
        assert_ne!(out.status.code(), Some(0));
        let line: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(line["error"].is_string(), "{args:?}: {line}");
        assert!(out.stderr.is_empty());
    }
}

#[test]
fn help_has_examples_and_fits_a_terminal() {
    for command in
        ["demo", "ports", "capture", "replay", "ping", "pong", "blast", "sink", "rate", "forward"]
    {
        let out = run(&[command, "--help"]);
        assert!(out.status.success());
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.contains("Examples:") && text.contains(&format!("  linerate {command}")));
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    }
    assert!(run(&["--version"]).status.success());
}

#[test]
fn ports_lists_the_loopback_interface_without_colours() {
    let out = run(&["ports"]);
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.lines().any(|l| l.starts_with("lo ")), "{text}");
    assert!(!text.contains('\x1b'));
    let out = run(&["ports", "--json"]);
    let text = String::from_utf8(out.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let lo = lines.iter().find(|l| l["interface"] == "lo").expect("lo is listed");
    assert!(lo["backends"].as_array().is_some_and(|b| !b.is_empty()));
}
