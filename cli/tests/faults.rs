//! Every system call of a running command fails once: it goes on, or ends with one line and
//! status 1; it never panics, and what it wrote can be read and is accounted for.
//!
//! Every fifth call in a short run; `LINERATE_FAULTS=all` tries all of them, with three errors
//! each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use common::{Scratch, frames, linerate, mixed_frames, write_pcap};
use linerate_lab::syscalls::{Call, Nth, judged};
use linerate_lab::{lab_or_skip, skip};

/// ENOMEM, EPERM, EINTR.
const ERRORS: [i32; 3] = [12, 1, 4];
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for its end, and kills it when that does not come.
fn wait(mut child: Child) -> Option<Output> {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(child.wait_with_output().unwrap())
}

/// Runs the command once for each call, which fails. `check` sees what came of it.
fn sweep(test: &str, args: &[&str], check: impl Fn(&Output, &str)) {
    let all = std::env::var("LINERATE_FAULTS").is_ok_and(|how| how == "all");
    let run = |plan: &mut Nth| {
        // Until the Rust runtime looks at its descriptors, the dynamic loader is at work.
        let mut begun = false;
        let judge = |call: &Call| {
            let may = !call.ours && begun && call.name != "execve" && call.may_fail(0);
            begun |= !call.ours && call.name == "poll";
            if may { plan.judge(call) } else { 0 }
        };
        judged(judge, || wait(linerate(args).spawn().unwrap()))
    };
    let mut quiet = Nth::new(usize::MAX, 0);
    let first = match run(&mut quiet) {
        Ok(first) => first.expect("it ends"),
        Err(why) => return skip(test, &why),
    };
    assert!(first.status.success(), "{first:?}");
    check(&first, "nothing");
    let mut problems = Vec::new();
    let mut refusals = 0;
    for n in (0..quiet.seen).step_by(if all { 1 } else { 5 }) {
        for &errno in if all { &ERRORS[..] } else { &ERRORS[n % 3..][..1] } {
            let mut plan = Nth::new(n, errno);
            let out = run(&mut plan).unwrap();
            let Some(failed) = plan.failed else { continue };
            let told = format!("{} {:x?} (call {n}, errno {errno})", failed.name, failed.args);
            let Some(out) = out else {
                problems.push(format!("hangs: {told}"));
                continue;
            };
            let words = String::from_utf8_lossy(&out.stderr);
            let last = words.lines().last().unwrap_or_default();
            match out.status.code() {
                Some(0) => {}
                Some(1) => {
                    refusals += 1;
                    if last.is_empty() && failed.name != "write" {
                        problems.push(format!("ends without a word: {told}"));
                    }
                }
                _ => problems.push(format!("{}: {told}: {words}", out.status)),
            }
            if words.contains("panicked") {
                problems.push(format!("panics: {told}: {words}"));
            }
            check(&out, &told);
        }
    }
    println!("{test}: {} calls, {refusals} refusals", quiet.seen);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(quiet.seen > 50 && refusals > 0);
}

/// The frames of a capture that may not have come to its end.
fn kept(path: &str) -> Vec<Vec<u8>> {
    if Path::new(path).metadata().is_ok_and(|m| m.len() > 0) { frames(path) } else { Vec::new() }
}

#[test]
fn a_capture_of_a_file() {
    let dir = Scratch::new("calls");
    let (input, out) = (dir.path("in.pcap"), dir.path("out.pcapng"));
    write_pcap(&input, &mixed_frames(300, 1_000));
    let sent = frames(&input);
    let port = format!("pcap:{input}");
    let args = ["capture", "-i", &port, "-w", &out];
    sweep("a_capture_of_a_file", &args, |ended, told| {
        let kept = kept(&out);
        assert!(sent.starts_with(&kept), "{told}: other frames than were sent");
        let ok = ended.status.success();
        assert!(!ok || kept.len() == sent.len(), "{told}: {} kept: {ended:?}", kept.len());
        let _ = std::fs::remove_file(&out);
    });
}

#[test]
fn a_capture_of_an_interface() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("calls-if");
    let out = dir.path("out.pcapng");
    let args = ["capture", "-i", "afpacket:v1", "-g", "239.1.1.1:5000", "-d", "0.05", "-w", &out];
    lab.in_b(|| {
        sweep("a_capture_of_an_interface", &args, |_, told| {
            assert!(kept(&out).is_empty(), "{told}");
            let _ = std::fs::remove_file(&out);
        });
    });
}

#[test]
fn a_forwarder() {
    let lab = lab_or_skip!();
    lab.add_pair("w0", "w1").unwrap();
    let args = ["forward", "afpacket:v1", "afpacket:w1", "-d", "0.05"];
    lab.in_b(|| sweep("a_forwarder", &args, |_, _| ()));
}
