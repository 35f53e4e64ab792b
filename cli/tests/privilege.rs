//! What the command does with rights that its user may not have.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use common::{Running, Scratch, json, mixed_frames, run, write_pcap};
use linerate_lab::{lab_or_skip, skip};

/// `CapEff` and `CapPrm` of every thread of a process, with the threads' names.
fn capabilities(pid: u32) -> Vec<(String, u64, u64)> {
    let mut seen = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread may end meanwhile.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let row = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let word = |name: &str| u64::from_str_radix(row(name).trim(), 16).unwrap();
        seen.push((row("Name:").trim().to_owned(), word("CapEff:"), word("CapPrm:")));
    }
    seen
}

/// Waits until no thread has other capabilities than these. Threads of the library's own give
/// theirs up when they first run.
fn has_only(running: &Running, kept: u64, args: &[&str]) {
    let begun = Instant::now();
    loop {
        let seen = capabilities(running.pid());
        assert!(!seen.is_empty(), "{args:?} has ended");
        if seen.iter().all(|(_, effective, permitted)| (effective | permitted) & !kept == 0) {
            let main = &seen[0];
            assert_eq!((main.1, main.2), (kept, kept), "{args:?}");
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{args:?}: {seen:x?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_root() -> bool {
    capabilities(std::process::id())[0].1 != 0
}

const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;

#[test]
fn a_running_capture_has_no_capabilities() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("capabilities");
    let file = dir.path("out.pcapng");
    for (port, more, kept) in [
        ("afpacket:v1", &["-f", "all"][..], 0),
        // With a thread that keeps the membership and one that serves the metrics.
        ("afpacket:v1", &["-g", "239.1.1.1:5000", "--metrics", "0"], 0),
        ("udp:v1", &["-g", "239.1.1.1:5000"], 0),
        ("afxdp:v1", &["-g", "239.1.1.1:5000"], 0),
        ("afpacket:v1", &["-f", "all", "-C", "1"], DAC_OVERRIDE),
    ] {
        let args = [&["capture", "-i", port, "-w", &file], more].concat();
        let mut capture = lab.in_b(|| Running::start(&args));
        has_only(&capture, kept, &args);
        let ended = capture.interrupt();
        assert_eq!((ended.code, &ended.last["unexplained"]), (Some(0), &0.into()), "{ended:?}");
    }
}

#[test]
fn every_running_command_has_given_up_its_capabilities() {
    let lab = lab_or_skip!();
    lab.add_pair("w0", "w1").unwrap();
    let dir = Scratch::new("every-command");
    let (input, output) = (dir.path("in.pcap"), dir.path("demo.pcapng"));
    let plot = dir.path("plot.svg");
    write_pcap(&input, &mixed_frames(100, 100_000_000));
    let to = "239.1.1.1:5000";
    for (args, kept) in [
        (&["pong", "afpacket:v1", "--loop", "adaptive"][..], 0),
        (&["pong", "afxdp:v1", "--loop", "adaptive"], 0),
        (&["sink", "afpacket:v1", "-g", to], 0),
        (&["sink", "afxdp:v1", "-g", to, "--metrics", "0"], 0),
        (&["blast", "afpacket:v1", "-g", to, "--pps", "100"], 0),
        (&["blast", "afxdp:v1", "-g", to, "--pps", "100"], 0),
        (&["forward", "afpacket:v1", "afpacket:w1", "--loop", "adaptive"], 0),
        (&["forward", "afxdp:v1", "afxdp:w1", "--loop", "adaptive"], 0),
        (&["replay", &input, "-o", "afpacket:v1"], 0),
        (&["replay", &input, "-o", "afpacket:v1", "--times", "2"], DAC_READ_SEARCH),
        (&["ping", "afpacket:v1", "--pps", "100", "-d", "600", "--timeout", "1"], 0),
        (&["ping", "afxdp:v1", "--pps", "100", "-d", "600", "--timeout", "1"], 0),
        (&["ping", "afpacket:v1", "-d", "600", "--timeout", "1", "--plot", &plot], DAC_OVERRIDE),
        (&["rate", "afpacket:w1", "afpacket:v1", "--size", "60", "--max-pps", "500"], 0),
        (&["top", "afpacket:v1", "-g", to], 0),
        (&["top", "afxdp:v1", "-g", to], 0),
        // Simulated cards have threads of their own, which send and receive on the interface.
        (&["capture", "-i", "sim:verbs?peer=v1", "-g", to], 0),
        (&["capture", "-i", "sim:exanic?peer=v1", "-g", to], 0),
        (&["sink", "sim:efvi?peer=v1", "-g", to], 0),
        (&["pong", "sim:efvi?peer=v1&kind=shared", "--loop", "low-latency"], 0),
        (&["blast", "sim:exanic?peer=v1", "-g", to, "--pps", "100"], 0),
        (&["forward", "sim:verbs?peer=v1", "sim:efvi?peer=w1", "--loop", "low-latency"], 0),
        (&["demo", "-i", "afpacket:lo", "-w", &output, "--duration", "60"], 0),
    ] {
        let mut running = lab.in_b(|| Running::start(args));
        has_only(&running, kept, args);
        let ended = running.interrupt();
        // Closing needed no rights either.
        assert!(ended.last["error"].is_null(), "{args:?}: {ended:?}");
    }
    // What AF_XDP had attached went with the process.
    let link = lab.in_b(|| std::process::Command::new("ip").args(["link", "show", "v1"]).output());
    let link = String::from_utf8(link.unwrap().stdout).unwrap();
    assert!(link.contains("v1") && !link.contains("xdp"), "{link}");
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

    // Everybody's directory is no less so under /dev.
    let shared = format!("/dev/shm/linerate-{}.pcapng", std::process::id());
    if symlink(&victim, &shared).is_ok() {
        let ended = json(&["capture", "-i", &format!("pcap:{input}"), "-w", &shared]);
        std::fs::remove_file(&shared).unwrap();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }

    // But the links of /dev are the system's own.
    let out = run(&["capture", "-q", "-i", &format!("pcap:{input}"), "-w", "/dev/stdout"]);
    assert!(out.status.success(), "{out:?}");
    assert!(out.stdout.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "a pcapng begins on stdout");
}

/// What is drawn at the end is written as a capture is.
#[test]
fn a_drawing_is_its_owners_and_follows_no_symbolic_link_of_roots() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("drawing");
    let (victim, link, own) = (dir.path("victim"), dir.path("link.svg"), dir.path("own.svg"));
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, &link).unwrap();
    let rate = ["rate", "udp:lo", "udp:lo", "--size", "60", "-d", "0.2", "--max-pps", "200"];
    let draw = |to: &str| lab.in_a(|| json(&[&rate[..], &["--tries", "1", "--plot", to]].concat()));
    let ended = draw(&link);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.last["error"].as_str().unwrap().contains("symbolic link"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(draw(&own).code, Some(0));
    let mode = std::fs::metadata(&own).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
