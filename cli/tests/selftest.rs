//! `selftest` on the kernel's backends over a veth pair, and on each simulated card.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Ended, Scratch, json, linerate};
use linerate_lab::{Lab, lab_or_skip, skip};

/// Two interfaces of namespace A, connected: what a port and its peer in one machine are.
fn cable(lab: &Lab) {
    lab.ip_a(&["link", "add", "s0", "type", "veth", "peer", "name", "s1"]).unwrap();
    for (name, address) in [("s0", "10.97.0.1/24"), ("s1", "10.97.0.2/24")] {
        lab.ip_a(&["link", "set", name, "addrgenmode", "none"]).unwrap();
        lab.ip_a(&["link", "set", name, "up"]).unwrap();
        lab.ip_a(&["addr", "add", address, "dev", name]).unwrap();
    }
}

/// Runs it and gives what it said, the report's file included.
fn selftest(name: &str, args: &[&str]) -> (Ended, String) {
    let dir = Scratch::new(name);
    let file = dir.path("report.txt");
    let ended = json(&[&["selftest", "-w", file.as_str()], args].concat());
    (ended, std::fs::read_to_string(file).unwrap_or_default())
}

/// Rows of a verdict: `part/name` each.
fn rows(ended: &Ended, verdict: &str) -> Vec<String> {
    let rows = ended.last["rows"].as_array().unwrap_or_else(|| panic!("{ended:?}"));
    let of = rows.iter().filter(|row| row["verdict"] == verdict);
    of.map(|row| format!("{}: {} {}", row["part"], row["name"], row["detail"])).collect()
}

fn assert_clean(ended: &Ended, report: &str, at_least: usize) {
    assert!(rows(ended, "fail").is_empty(), "{:#?}", rows(ended, "fail"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let passed = rows(ended, "pass");
    assert!(passed.len() >= at_least, "{passed:#?}");
    // The file holds the words, and the same object.
    let (words, object) = report.split_once("---- the same as JSON ----").unwrap();
    assert!(words.contains("0 failed"), "{words}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(object).unwrap(), ended.last);
}

#[test]
fn packet_sockets_pass_in_both_directions() {
    let lab = lab_or_skip!();
    cable(&lab);
    let (ended, report) =
        lab.in_a(|| selftest("packet", &["afpacket:s0", "--peer", "afpacket:s1"]));
    assert_clean(&ended, &report, 90);
    assert!(report.contains("the port receives") && report.contains("the port sends"), "{report}");
}

#[test]
fn af_xdp_passes_against_a_packet_socket() {
    let lab = lab_or_skip!();
    cable(&lab);
    let (ended, report) = lab.in_a(|| selftest("xdp", &["afxdp:s0", "--peer", "afpacket:s1"]));
    assert_clean(&ended, &report, 90);
}

#[test]
fn udp_passes_on_the_loopback_interface() {
    let lab = lab_or_skip!();
    let (ended, report) = lab.in_a(|| selftest("udp", &["udp:lo"]));
    assert_clean(&ended, &report, 45);
}

#[test]
fn simulated_cards_hear_themselves_and_pass() {
    for card in ["efvi", "verbs", "exanic"] {
        let (ended, report) = selftest(card, &[&format!("sim:{card}?peer=loop")]);
        let error = ended.last["error"].as_str().unwrap_or_default();
        if error.contains("libibverbs") {
            skip("simulated_cards_hear_themselves_and_pass", error);
            continue;
        }
        assert_clean(&ended, &report, 45);
    }
}

#[test]
fn one_port_does_what_it_can_and_says_what_a_peer_would_add() {
    let lab = lab_or_skip!();
    cable(&lab);
    let (ended, report) = lab.in_a(|| selftest("alone", &["afpacket:s0"]));
    assert_clean(&ended, &report, 4);
    assert!(report.contains("--peer"), "{report}");
}

#[test]
fn ports_that_are_not_connected_fail() {
    let lab = lab_or_skip!();
    cable(&lab);
    let (ended, _) = lab.in_a(|| selftest("apart", &["afpacket:s0", "--peer", "afpacket:v0"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failed = rows(&ended, "fail");
    assert!(
        failed.iter().all(|row| row.contains("frames_arrive")) && failed.len() == 2,
        "{failed:?}"
    );
}

#[test]
fn only_frames_of_the_test_are_sent() {
    let lab = lab_or_skip!();
    cable(&lab);
    let dir = Scratch::new("announced");
    let file = dir.path("seen.pcapng");
    lab.in_a(|| {
        let mut capture = common::Running::start(&["capture", "-i", "afpacket:s1", "-w", &file]);
        let (ended, _) = selftest("announced-report", &["afpacket:s0"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        capture.interrupt();
    });
    let frames = common::frames(&file);
    // The kernel may put IGMP and ARP of its own on the wire; this backend sends neither.
    let ours = frames.iter().filter(|f| f[12..14] == [0x88, 0xb5] || f[12..14] == [0x88, 0xb6]);
    let others = frames.iter().filter(|f| !matches!(f[12..14], [0x88, 0xb5 | 0xb6]));
    assert!(ours.count() > 1_000);
    assert!(others.clone().all(|f| f[12..14] == [8, 6] || f[12..14] == [8, 0] && f[23] == 2));
}

#[test]
fn what_cannot_be_tested_is_one_line() {
    for (args, part) in [
        (vec!["nosuch0"], "no such interface"),
        (vec!["afpacket:lo", "--peer", "afpacket:nosuch0"], "nosuch0"),
        (vec!["pcap:/dev/null"], "/dev/null"),
        (vec!["udp:lo", "-w", "/nonexistent/report.txt"], "choose another file with -w"),
    ] {
        let out = linerate(&[&["selftest"], args.as_slice()].concat()).output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(matches!(out.status.code(), Some(1 | 2)), "{args:?}: {text}");
        assert!(text.lines().count() == 1 && text.contains(part), "{args:?}: {text}");
    }
}
