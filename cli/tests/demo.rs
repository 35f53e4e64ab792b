//! `demo`, as root and as an ordinary user.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::process::CommandExt;

use common::{Running, Scratch, frames, json, linerate};
use linerate_lab::{lab_or_skip, skip};
use serde_json::Value;

fn assert_sound(last: &Value, file: &str) {
    assert_eq!((&last["final"], &last["unexplained"]), (&true.into(), &0.into()), "{last}");
    let published = last["wire"].as_u64().unwrap();
    assert!(published > 1_000, "{last}");
    let delivered = last["delivered"].as_u64().unwrap();
    assert_eq!(frames(file).len() as u64, delivered, "{last}");
    let groups = last["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 8);
    let in_groups: u64 = groups.iter().map(|g| g["frames"].as_u64().unwrap()).sum();
    assert_eq!(in_groups, last["frames"].as_u64().unwrap(), "{last}");
    let arbitration = &last["arbitration"];
    let unique = arbitration["unique"].as_u64().unwrap();
    let duplicates = arbitration["duplicates"].as_u64().unwrap();
    assert_eq!(unique + duplicates, in_groups, "{last}");
    let wins = ["wins_a", "wins_b"].map(|w| arbitration[w].as_u64().unwrap());
    assert_eq!(wins[0] + wins[1], unique, "{last}");
    if last["dropped"].as_object().unwrap().is_empty() {
        let withheld = ["withheld_a", "withheld_b"].map(|w| arbitration[w].as_u64().unwrap());
        assert_eq!(2 * unique - withheld[0] - withheld[1], published, "{last}");
        assert_eq!(arbitration["missing"], 0, "{last}");
    }
    let latency = &last["latency_ns"];
    assert!(
        latency["p50"].as_u64() > Some(0) && latency["max"].as_u64() >= latency["p50"].as_u64()
    );
}

#[test]
fn the_demo_accounts_for_every_frame() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("demo");
    let file = dir.path("demo.pcapng");
    for port in ["lo", "udp:lo", "afpacket:lo"] {
        let ended = lab.in_a(|| json(&["demo", "-d", "1", "-i", port, "-w", &file]));
        assert_eq!(ended.code, Some(0), "{port}: {ended:?}");
        assert_sound(&ended.last, &file);
    }
}

#[test]
fn an_interrupted_demo_still_reports() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("interrupted");
    let file = dir.path("demo.pcapng");
    let ended = lab.in_a(|| Running::start(&["demo", "-d", "600", "-w", &file]).interrupt());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_sound(&ended.last, &file);
}

#[test]
fn the_demo_needs_no_rights_and_its_report_fits_a_terminal() {
    const NOBODY: u32 = 65_534;
    let lab = lab_or_skip!();
    let dir = Scratch::new("nobody");
    let file = dir.path("demo.pcapng");
    std::os::unix::fs::chown(dir.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
    let run =
        lab.in_a(|| linerate(&["demo", "-d", "1", "-w", &file]).uid(NOBODY).gid(NOBODY).output());
    let out = match run {
        Ok(out) => out,
        Err(e) => {
            let why = format!("an ordinary user cannot run the built command: {e}");
            return skip("the_demo_needs_no_rights_and_its_report_fits_a_terminal", &why);
        }
    };
    let text = String::from_utf8(out.stdout).unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(0), "{text}{stderr}");
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    assert!(!text.contains('\x1b'), "no colours without a terminal");
    for word in ["udp:lo", "p99.99", "max", "missing on both lines", "demo.pcapng"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    let unexplained = text.lines().find(|l| l.contains("unexplained")).unwrap();
    assert!(unexplained.ends_with(" 0"), "{text}");
}
