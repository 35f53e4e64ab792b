//! Too little of what a process may have: locked memory, hugepages, files, threads, memory. The
//! command goes on with less and says so, or ends with one line that says what to raise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{Scratch, linerate, run};
use linerate_lab::{Lab, lab_or_skip, skip};

const PORTS: [&str; 6] = [
    "afpacket:v1",
    "afxdp:v1",
    "udp:v1",
    "sim:verbs?peer=v1",
    "sim:efvi?peer=v1",
    "sim:exanic?peer=v1",
];
const RIGHTS: &str = "+net_raw,+net_admin,+bpf";

/// A copy of the command that an ordinary user can start.
fn anybodys(dir: &Scratch) -> String {
    let program = dir.path("linerate");
    std::fs::copy(env!("CARGO_BIN_EXE_linerate"), &program).unwrap();
    let open = |path: &str| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755));
    open(&program).and_then(|()| open(&dir.path("."))).unwrap();
    program
}

/// What it says on stderr in the time it takes to open a port, and whether it was open then.
fn said(lab: &Lab, program: &str, limits: &[&str], args: &[&str]) -> (bool, String) {
    // Threads and locked memory are counted by user: nobody else is this one.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let uid = 200_000 + std::process::id() % 10_000 * 100 + NEXT.fetch_add(1, Ordering::Relaxed);
    let uid = uid.to_string();
    let user = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"];
    let rights = ["--inh-caps", RIGHTS, "--ambient-caps", RIGHTS];
    let all = [limits, &user[..], &rights, &[program], args].concat();
    let mut child = lab.in_b(|| {
        let mut command = Command::new("prlimit");
        command.args(&all).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    });
    let begun = Instant::now();
    let open = loop {
        if child.try_wait().unwrap().is_some() {
            break false;
        }
        // Its last thread.
        let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten();
        let mut names = tasks.flatten().filter_map(|task| of(task).ok());
        if names.any(|name| name == "linerate-rx\n") {
            break true;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{all:?} neither opens nor ends");
        std::thread::sleep(Duration::from_millis(10));
    };
    if open {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(i32::from(!open)), "{all:?}: {text}");
    assert!(!text.contains("panicked"), "{all:?}: {text}");
    // An error is one line, and ends with what to do.
    assert!(open || text.lines().last().is_some_and(|line| line.contains("; ")), "{all:?}: {text}");
    (open, text)
}

fn has_tools(test: &str) -> bool {
    let all = ["prlimit", "setpriv"];
    let there = |tool: &&str| Command::new(tool).arg("--version").output().is_ok();
    let missing = all.iter().find(|tool| !there(tool));
    missing.inspect(|tool| skip(test, &format!("no {tool} (Debian: util-linux)"))).is_none()
}

#[test]
fn little_locked_memory_costs_the_lock_or_says_how_to_raise_it() {
    let lab = lab_or_skip!();
    if !has_tools("little_locked_memory_costs_the_lock_or_says_how_to_raise_it") {
        return;
    }
    let dir = Scratch::new("memlock");
    let program = anybodys(&dir);
    for port in PORTS {
        let args = ["capture", "-i", port, "-g", "239.1.1.1:5000"];
        let (open, text) = said(&lab, &program, &["--memlock=65536"], &args);
        let remedies = ["ulimit -l", "LimitMEMLOCK"].iter().all(|word| text.contains(word));
        match port {
            // The kernel counts what its sockets share with the program, and asks for no lock.
            "afxdp:v1" => assert!(!open && remedies, "{text}"),
            "sim:verbs?peer=v1" | "sim:efvi?peer=v1" => assert!(open && remedies, "{text}"),
            _ => assert!(open && text.is_empty(), "{port}: {text}"),
        }
    }
}

#[test]
fn too_few_files_or_threads_or_bytes_are_told_by_name() {
    let lab = lab_or_skip!();
    if !has_tools("too_few_files_or_threads_or_bytes_are_told_by_name") {
        return;
    }
    let dir = Scratch::new("few");
    let program = anybodys(&dir);
    for port in PORTS {
        // The user's limit of locked memory may be low here, and is not what is asked about.
        let port = port.replace("afxdp:v1", "afxdp:v1?ring_slots=64");
        // More sockets than that for 128 groups, where the kernel has 20 for each.
        let args = ["capture", "-i", &port, "-g", "239.1.1.1:5000+128"];
        let (open, text) = said(&lab, &program, &["--nofile=15"], &args);
        assert!(!open && text.contains("ulimit -n"), "{port}: {text}");
        let one = [&args[..4], &["239.1.1.1:5000"]].concat();
        // Not even one socket: the error is another, the remedy the same.
        let (open, text) = said(&lab, &program, &["--nofile=6"], &args);
        assert!(!open && text.contains("ulimit -n"), "{port}: {text}");

        let (open, text) = said(&lab, &program, &["--nproc=1"], &one);
        assert!(!open && text.contains("ulimit -u"), "{port}: {text}");
    }
    let args = ["capture", "-i", "afpacket:v1?ring_mb=64", "-g", "239.1.1.1:5000"];
    let (open, text) = said(&lab, &program, &["--as=80000000"], &args);
    assert!(!open && text.contains("memory"), "{text}");
}

const HUGE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

fn free_hugepages() -> u32 {
    std::fs::read_to_string(format!("{HUGE}/free_hugepages")).unwrap().trim().parse().unwrap()
}

/// Their number belongs to the whole machine: only in the guest of `tests/guest/run.sh`.
#[test]
fn hugepages_that_others_took_are_missed_aloud_and_come_back_by_kill_9() {
    if std::env::var_os("LINERATE_GUEST").is_none() {
        return;
    }
    let lab = lab_or_skip!();
    std::fs::write(format!("{HUGE}/nr_hugepages"), "5").unwrap();
    assert_eq!(free_hugepages(), 5);
    let port = ["sim:efvi?peer=v1", "-g", "239.1.1.1:5000"];
    let capture = || {
        let args = [&["capture", "-d", "0.1", "-i"], &port[..]].concat();
        let out = lab.in_b(|| run(&args));
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(!capture().contains("hugepages"));
    let mut sink = lab.in_b(|| linerate(&[&["sink"], &port[..]].concat()).spawn().unwrap());
    while free_hugepages() == 5 {
        assert!(sink.try_wait().unwrap().is_none(), "it took none");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(capture().contains("hugepages of 2 MiB are not free"));
    sink.kill().unwrap();
    sink.wait().unwrap();
    assert_eq!(free_hugepages(), 5);
    assert!(!capture().contains("hugepages"));
}
