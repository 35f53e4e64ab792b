//! What becomes of the other running commands when their interface changes, as `life` does for
//! `capture`: each goes on, or ends with status 1 and a line that says why. Simulated cards hang
//! on an interface by their cable and go on, whatever becomes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::cell::Cell;

use common::{Ended, Running, Scratch, mixed_frames, write_pcap};
use linerate_lab::{Lab, lab_or_skip};

const GROUP: &str = "239.1.1.1:5000";

fn frames(line: &serde_json::Value) -> u64 {
    line["frames"].as_u64().unwrap_or(0)
}

/// Waits until it has seen 10 frames more than before.
fn moves(running: &mut Running) {
    let first = Cell::new(None);
    running.wait_until(|line| {
        let now = frames(line);
        let first = first.get().unwrap_or_else(|| {
            first.set(Some(now));
            now
        });
        now >= first + 10
    });
}

fn make_anew(lab: &Lab) {
    lab.ip_b(&["link", "del", "v1"]).unwrap();
    lab.add_pair("v0", "v1").unwrap();
    lab.ip_a(&["addr", "add", "10.99.0.1/24", "dev", "v0"]).unwrap();
    lab.ip_b(&["addr", "add", "10.99.0.2/24", "dev", "v1"]).unwrap();
}

/// Changes that nobody needs to end for, on B's side and on the far one.
fn small_changes(lab: &Lab) {
    let b = |args: &[&str]| lab.ip_b(args).unwrap();
    b(&["link", "set", "v1", "down"]);
    b(&["link", "set", "v1", "up"]);
    b(&["link", "set", "v1", "mtu", "1400"]);
    b(&["link", "set", "v1", "mtu", "1500"]);
    b(&["addr", "del", "10.99.0.2/24", "dev", "v1"]);
    b(&["addr", "add", "10.99.0.7/24", "dev", "v1"]);
    lab.ip_a(&["link", "set", "v0", "down"]).unwrap();
    lab.ip_a(&["link", "set", "v0", "up"]).unwrap();
}

fn told(ended: &Ended, what: &str) {
    let error = ended.last["error"].as_str().unwrap_or_default();
    assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
    assert!(error.contains("v1") && !error.contains('\n'), "{what}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
}

/// `command` in B, with `driver` in A to keep it busy, where it needs one.
fn changes(command: &[&str], driver: Option<&[&str]>, follows: bool) {
    let lab = lab_or_skip!();
    let mut running = lab.in_b(|| Running::start(command));
    let drive = || driver.map(|args| lab.in_a(|| Running::start(args)));
    let busy = drive();
    moves(&mut running);
    small_changes(&lab);
    moves(&mut running);
    drop(busy);
    make_anew(&lab);
    let busy = drive();
    let ended = if follows {
        moves(&mut running);
        let ended = running.interrupt();
        assert_eq!(ended.code, Some(0), "{command:?}: {ended:?}");
        ended
    } else {
        let ended = running.finish();
        told(&ended, &format!("{command:?}"));
        ended
    };
    drop(busy);
    println!("{}: {:?}, {}", command[..2].join(" "), ended.code, ended.last["error"]);
}

const BLAST: &[&str] = &["blast", "afpacket:v0", "-g", GROUP, "--pps", "100"];
const PING: &[&str] = &["ping", "afpacket:v0", "--pps", "100", "-d", "600", "--timeout", "1"];

#[test]
fn receivers_end_with_their_interface() {
    changes(&["sink", "afpacket:v1", "-g", GROUP], Some(BLAST), false);
    changes(&["top", "afxdp:v1", "-g", GROUP], Some(BLAST), false);
    changes(&["pong", "afpacket:v1", "--loop", "adaptive"], Some(PING), false);
}

#[test]
fn senders_end_with_their_interface() {
    changes(&["blast", "afpacket:v1", "-g", GROUP, "--pps", "100"], None, false);
    let dir = Scratch::new("changes");
    let file = dir.path("in.pcap");
    write_pcap(&file, &mixed_frames(3000, 10_000_000));
    changes(&["replay", &file, "-o", "afpacket:v1", "--times", "99"], None, false);
}

#[test]
fn simulated_cards_go_on() {
    changes(&["capture", "-i", "sim:efvi?peer=v1", "-g", GROUP], Some(BLAST), true);
    changes(&["sink", "sim:verbs?peer=v1", "-g", GROUP], Some(BLAST), true);
    changes(&["blast", "sim:exanic?peer=v1", "-g", GROUP, "--pps", "100"], None, true);
}
