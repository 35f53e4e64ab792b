//! `top` on a terminal, and without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Running, json, linerate};
use linerate_lab::{lab_or_skip, skip};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn without_a_terminal_it_names_the_way() {
    let out = linerate(&["top", "udp:lo", "-g", "239.1.1.1:5000"]).output().unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.lines().count() == 1 && text.contains("linerate top udp:lo --json"), "{text}");
    assert!(out.stdout.is_empty());
}

/// A terminal of 80 columns and 24 lines with a shell in it.
struct Screen(String);

impl Screen {
    fn new() -> Option<Self> {
        let screen = Self(format!("linerate-test-{}", std::process::id()));
        let started = screen.tmux(&["new-session", "-d", "-x", "80", "-y", "24", "sh"]);
        started.map(|_| screen)
    }

    fn tmux(&self, args: &[&str]) -> Option<String> {
        let out = Command::new("tmux").args(["-f", "/dev/null", "-L", &self.0]).args(args).output();
        let out = out.ok().filter(|out| out.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat()).unwrap();
    }

    /// The picture, once it has all these parts.
    fn wait_for(&self, parts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let picture = self.tmux(&["capture-pane", "-p"]).unwrap_or_default();
            if parts.iter().all(|part| picture.contains(part)) {
                return picture;
            }
            assert!(begun.elapsed() < LIMIT, "no {parts:?} in:\n{picture}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

#[test]
fn it_fits_the_terminal_and_leaves_it_sane() {
    let Some(screen) = Screen::new() else {
        return skip(
            "it_fits_the_terminal_and_leaves_it_sane",
            "tmux is not here, or cannot start",
        );
    };
    let command = format!("{} top udp:lo -g 239.1.1.1:5000", env!("CARGO_BIN_EXE_linerate"));
    for leave in ["q", "C-c"] {
        screen.keys(&[&command, "Enter"]);
        let picture = screen.wait_for(&["udp:lo", "239.1.1.1:5000", "drops: none", "q quit"]);
        assert!(!picture.contains("FROZEN"), "{picture}");
        screen.keys(&["f"]);
        screen.wait_for(&["FROZEN"]);
        screen.keys(&[leave]);
        screen.wait_for(&["0 frames on udp:lo", "unexplained"]);
        // Raw mode is off again: the shell's line discipline echoes and edits.
        screen.keys(&["stty -a | tr ' ;' '\\n\\n' | grep -c -x -e echo -e icanon", "Enter"]);
        let picture = screen.wait_for(&["\n2\n"]);
        assert!(!picture.contains("q quit"), "{picture}");
        screen.keys(&["clear", "Enter"]);
    }
}

/// Flows that nobody named have rows of their own, beside the group that was.
#[test]
fn flows_are_found_and_told_as_json() {
    let lab = lab_or_skip!();
    let args = ["top", "afpacket:v1", "-g", "239.1.1.1:5000", "-f", "all"];
    let mut top = lab.in_b(|| Running::start(&args));
    let groups = ["-g", "239.1.1.1:5000+3", "-g", "udp:10.99.0.2:7000"];
    let blast = ["blast", "afpacket:v0", "--pps", "2000", "-c", "400"];
    let sent = lab.in_a(|| json(&[&blast[..], &groups].concat()));
    assert_eq!(sent.last["delivered"], 400, "{sent:?}");
    let rates = std::cell::Cell::new(0.0);
    top.wait_until(|line| {
        let flows = line["flows"].as_array().unwrap();
        let of = |name: &str| {
            let flow = flows.iter().find(|flow| flow["group"] == name);
            flow.map_or(0, |flow| flow["frames"].as_u64().unwrap())
        };
        let fastest = flows.iter().map(|flow| flow["pps"].as_f64().unwrap());
        rates.set(fastest.fold(rates.get(), f64::max));
        let named = ["239.1.1.1:5000", "239.1.1.2:5000", "239.1.1.3:5000", "udp:10.99.0.2:7000"];
        named.iter().all(|name| of(name) == 100)
    });
    assert!(rates.get() > 0.0);
    let ended = top.interrupt();
    assert_eq!((ended.code, &ended.last["final"]), (Some(0), &true.into()), "{ended:?}");
    assert_eq!(ended.last["unexplained"], 0, "{ended:?}");
    assert!(ended.last["sizes"]["64"].as_u64() >= Some(400), "{ended:?}");
}
