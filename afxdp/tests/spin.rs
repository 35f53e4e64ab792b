//! A spinning reader makes no system calls.
#![allow(clippy::unwrap_used)]

mod rig;

use std::fs;

use linerate_afxdp::open;
use linerate_common::FrameRx;
use linerate_lab::lab_or_skip;
use rig::{all, halves, send_all, udp_frame, until};

/// The other process of `a_spinning_reader_makes_no_system_call`: takes the interface, and then
/// the right to make any system call from itself.
#[test]
#[ignore = "started by another test"]
fn child_spins_without_system_calls() {
    let (mut rx, _tx) = halves(open("v1", &all()).unwrap());
    println!("ready");
    let mut frames = 0;
    until(|| {
        frames += rx.poll(64, |_| ()).unwrap();
        frames > 0
    });
    allow_only(&[libc::SYS_write, libc::SYS_exit_group]);
    let mut empty = 0u64;
    while frames < 20_000 || empty < 1_000_000 {
        match rx.poll(64, |frame| assert!(frame.bytes.len() >= 14)).unwrap() {
            0 => empty += 1,
            n => frames += n,
        }
    }
    let done = b"done\n";
    // SAFETY: the buffer is as long as said.
    unsafe {
        libc::write(1, done.as_ptr().cast(), done.len());
        libc::_exit(0);
    }
}

/// From here on any other system call of this thread kills the process.
fn allow_only(calls: &[libc::c_long]) {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![op(0x20, 0, 0, 0)]; // load the call's number
    for call in calls {
        filter.push(op(0x15, 0, 1, *call as u32)); // equal: allow
        filter.push(op(0x06, 0, 0, libc::SECCOMP_RET_ALLOW));
    }
    filter.push(op(0x06, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a filter of the length said, which the kernel copies.
    let rc = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_spinning_reader_makes_no_system_call() {
    let lab = lab_or_skip!();
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let clock = fs::read_to_string(clock).unwrap_or_default();
    if !["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"].contains(&clock.trim()) {
        let why = format!("reading the clock {} is a system call", clock.trim());
        return linerate_lab::skip("a_spinning_reader_makes_no_system_call", &why);
    }
    let mut child = rig::child(lab.b(), "child_spins_without_system_calls");
    child.wait_for("ready");
    let (_, mut tx) = halves(lab.in_a(|| open("v0", &all()).unwrap()));
    let frames: Vec<_> = (0..50).map(|i| udp_frame("239.1.1.1:5000", i, 100)).collect();
    // It sends until the child has had enough. Were it killed, its output would end early.
    while !child.has_said("done") {
        send_all(&mut tx, &frames);
    }
    child.kill();
}
