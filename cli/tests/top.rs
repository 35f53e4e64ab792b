//! `top` on a terminal, and without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::linerate;
use linerate_lab::skip;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn without_a_terminal_it_names_the_way() {
    let out = linerate(&["top", "udp:lo", "-g", "239.1.1.1:5000"]).output().unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.lines().count() == 1 && text.contains("capture -i udp:lo --json"), "{text}");
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
