//! What the command does with rights that its user may not have.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::symlink;

use common::{Running, Scratch, json, mixed_frames, run, write_pcap};
use linerate_lab::{lab_or_skip, skip};

/// `CapEff` and `CapPrm` of every thread of a process, one word each when all agree.
fn capabilities(pid: u32) -> (u64, u64) {
    let mut seen = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread may end meanwhile.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let word = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        seen.push((word("CapEff:"), word("CapPrm:")));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "all threads have the same: {seen:x?}");
    seen[0]
}

fn is_root() -> bool {
    capabilities(std::process::id()).0 != 0
}

#[test]
fn a_running_capture_has_no_capabilities() {
    const DAC_OVERRIDE: u64 = 1 << 1;
    let lab = lab_or_skip!();
    let dir = Scratch::new("capabilities");
    let file = dir.path("out.pcapng");
    for (port, more, kept) in [
        ("afpacket:v1", &["-f", "all"][..], 0),
        ("udp:v1", &["-g", "239.1.1.1:5000"], 0),
        ("afpacket:v1", &["-f", "all", "-C", "1"], DAC_OVERRIDE),
    ] {
        let args = [&["capture", "-i", port, "-w", &file], more].concat();
        let mut capture = lab.in_b(|| Running::start(&args));
        assert_eq!(capabilities(capture.pid()), (kept, kept), "{args:?}");
        let ended = capture.interrupt();
        assert_eq!((ended.code, &ended.last["unexplained"]), (Some(0), &0.into()), "{ended:?}");
    }
}

#[test]
fn root_follows_no_symbolic_link_to_a_capture_file() {
    let test = "root_follows_no_symbolic_link_to_a_capture_file";
    let dir = Scratch::new("symlink");
    let input = dir.path("in.pcap");
    write_pcap(&input, &mixed_frames(10, 1000));
    let (victim, link) = (dir.path("victim"), dir.path("link.pcapng"));
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, &link).unwrap();
    let args = ["capture", "-i", &format!("pcap:{input}"), "-w", &link];
    if !is_root() {
        return skip(test, "needs root: for an ordinary user links are followed");
    }
    let ended = json(&args);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let error = ended.last["error"].as_str().unwrap();
    assert!(error.contains("symbolic link") && error.contains("-w"), "{error}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");

    // But the links of /dev are the system's own.
    let out = run(&["capture", "-q", "-i", &format!("pcap:{input}"), "-w", "/dev/stdout"]);
    assert!(out.status.success(), "{out:?}");
    assert!(out.stdout.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "a pcapng begins on stdout");
}
