//! Every system call that the kernel's backends make fails once: the first, the second, … the last
//! of a session that opens a port, receives, sends, steers, waits and closes. A port that cannot
//! be opened says in one line which call failed on which port; a port that is open goes on after
//! the failure and names what it lost; nothing is left behind in either case.
//!
//! With `LINERATE_FAULTS=all` each call fails with each of seven errors instead of one:
//!
//! ```text
//! LINERATE_FAULTS=all cargo test -p linerate --features full --test faults
//! ```
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use linerate::packet::UdpTemplate;
use linerate::prelude::*;
use linerate::{AnyRx, AnyTx, wait_readable};
use linerate_lab::syscalls::{Call, Nth, judged};
use linerate_lab::{Lab, lab_or_skip, skip};

/// One session at a time: each looks at what the whole process has open.
static ALONE: Mutex<()> = Mutex::new(());

/// The first errors are those of a short run, one for each call in turn.
const ERRORS: [i32; 7] =
    [libc::ENOMEM, libc::EPERM, libc::EINTR, libc::EAGAIN, libc::EINVAL, libc::EIO, libc::EMFILE];

/// Frames that each side sends in a session.
const FRAMES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked of the other end of the cable.
enum Ask {
    Send(u32),
    /// How many frames of this session have come? Waits for as many.
    Count(u32, usize),
}

/// The other end: plain sockets on a thread that nothing fails on.
struct Peer {
    ask: Sender<Ask>,
    counts: Mutex<Receiver<usize>>,
}

fn peer(lab: &Lab) -> Peer {
    lab.ip_a(&["route", "add", "224.0.0.0/4", "dev", "v0"]).unwrap();
    lab.ip_b(&["route", "add", "224.0.0.0/4", "dev", "v1"]).unwrap();
    let (tx, rx) = lab.in_a(|| {
        let tx = UdpSocket::bind("10.99.0.1:4000").unwrap();
        let rx = UdpSocket::bind("0.0.0.0:6000").unwrap();
        let v0 = Ipv4Addr::new(10, 99, 0, 1);
        rx.join_multicast_v4(&Ipv4Addr::new(239, 2, 2, 2), &v0).unwrap();
        (tx, rx)
    });
    rx.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let (ask, asked) = channel();
    let (tell, counts) = channel();
    thread::spawn(move || {
        for ask in asked {
            match ask {
                Ask::Send(session) => {
                    for _ in 0..FRAMES {
                        let mut payload = [7; 64];
                        payload[..4].copy_from_slice(&session.to_be_bytes());
                        tx.send_to(&payload, "239.1.1.1:5000").unwrap();
                    }
                }
                Ask::Count(session, wanted) => {
                    let (mut n, mut bytes) = (0, [0; 256]);
                    while let Ok(len) = rx.recv(&mut bytes) {
                        assert!(len == 64 && bytes[4..64] == [9; 60], "garbage");
                        n += usize::from(bytes[..4] == session.to_be_bytes());
                        if n >= wanted {
                            break;
                        }
                    }
                    tell.send(n).unwrap();
                }
            }
        }
    });
    Peer { ask, counts: Mutex::new(counts) }
}

/// What a session came to.
#[derive(Default, Debug)]
struct Outcome {
    /// Why the port could not be opened.
    refused: Option<String>,
    /// What went wrong later.
    errors: Vec<String>,
    notices: Vec<String>,
    received: usize,
    named: u64,
    sent: u64,
    arrived: usize,
}

/// Opens a port, uses it in every way, and closes it.
fn session(port: &str, id: u32, peer: &Peer, opened: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    let flow = "239.1.1.1:5000".parse().unwrap();
    let port = match linerate::port(port).flow(flow).open() {
        Ok(port) => port,
        Err(e) => return Outcome { refused: Some(e.to_string()), ..outcome },
    };
    opened.store(true, Ordering::Relaxed);
    outcome.notices = port.notices().to_vec();
    let (mut rx, tx, guard) = port.into_parts();
    let (mut rx, mut tx) = (rx.pop().unwrap(), tx.unwrap());
    receive(&mut rx, id, peer, &mut outcome);
    send(&mut tx, id, peer, &mut outcome);
    steer_and_wait(&mut rx, &mut outcome);
    // After all that it still works.
    let before = outcome.received;
    outcome.received = 0;
    receive(&mut rx, id, peer, &mut outcome);
    outcome.received += before;
    outcome.named = rx.stats().lost();
    drop((rx, tx, guard));
    outcome
}

fn receive(rx: &mut AnyRx, id: u32, peer: &Peer, outcome: &mut Outcome) {
    peer.ask.send(Ask::Send(id)).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut got = 0;
    while got < FRAMES {
        let seen = rx.poll(64, |frame| {
            let payload = &frame.bytes[42..];
            assert!(payload.len() == 64 && payload[4..] == [7; 60], "garbage");
            got += usize::from(payload[..4] == id.to_be_bytes());
        });
        match seen {
            Ok(0) if rx.stats().lost() > 0 && end - Instant::now() < PATIENCE / 2 => break,
            Ok(0) => thread::yield_now(),
            Ok(_) => {}
            Err(e) => outcome.errors.push(e.to_string()),
        }
        if Instant::now() >= end || outcome.errors.len() > 100 {
            break;
        }
    }
    outcome.received = got;
}

fn send(tx: &mut AnyTx, id: u32, peer: &Peer, outcome: &mut Outcome) {
    let src = "10.99.0.2:4000".parse().unwrap();
    let template = UdpTemplate::new(src, "239.2.2.2:6000".parse().unwrap()).unwrap();
    let mut payload = [9; 64];
    payload[..4].copy_from_slice(&id.to_be_bytes());
    let mut frame = [0; 128];
    let len = template.write(&mut frame, &payload).unwrap();
    for _ in 0..FRAMES {
        match tx.send(&frame[..len]) {
            Ok(true) => {}
            Ok(false) => outcome.errors.push("no room".into()),
            Err(e) => outcome.errors.push(e.to_string()),
        }
    }
    // A kick that failed is repeated, as the trait says.
    for _ in 0..100 {
        match tx.kick() {
            Ok(()) => break,
            Err(e) => outcome.errors.push(e.to_string()),
        }
    }
    tx.reap();
    let stats = tx.stats();
    outcome.sent = stats.frames;
    let lost = stats.lost() as usize;
    assert!(stats.frames as usize + lost >= FRAMES, "{stats:?} of {FRAMES}: {outcome:?}");
    peer.ask.send(Ask::Count(id, FRAMES - lost)).unwrap();
    outcome.arrived = peer.counts.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    assert_eq!(outcome.arrived + lost, FRAMES, "{stats:?}: {outcome:?}");
}

fn steer_and_wait(rx: &mut AnyRx, outcome: &mut Outcome) {
    let more = "239.7.7.7:7000".parse().unwrap();
    match rx.add(&more) {
        Ok(rule) => {
            if let Err(e) = rx.remove(rule) {
                outcome.errors.push(e.to_string());
            }
        }
        Err(e) => outcome.errors.push(e.to_string()),
    }
    let slept = rx
        .waitable()
        .map(|queue| queue.arm().and_then(|()| wait_readable(queue.fd(), Some(Duration::ZERO))));
    if let Some(Err(e)) = slept {
        outcome.errors.push(e.to_string());
    }
}

/// What the process holds: descriptors by what they are, rings, and locked memory.
#[derive(PartialEq, Eq, Debug)]
struct Held {
    descriptors: BTreeMap<String, usize>,
    rings: usize,
    locked_kib: u64,
}

fn status_kib(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn held() -> Held {
    let mut descriptors = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let what = std::fs::read_link(entry.path()).unwrap_or_default();
        let what = what.to_string_lossy().split(':').next().unwrap().to_owned();
        *descriptors.entry(what).or_default() += 1;
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let is_ring = |line: &&str| line.contains("socket:") || line.contains("hugepage");
    let rings = maps.lines().filter(is_ring).count();
    Held { descriptors, rings, locked_kib: status_kib("VmLck") }
}

/// Fails each call of a session on `port` in turn. `wishes` are the calls without which a port
/// opens all the same, and how many of each there are.
fn sweep(test: &str, port: &str, region_bytes: u64, least: usize, wishes: &[(&str, usize)]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = lab_or_skip!();
    let peer = peer(&lab);
    let all = std::env::var("LINERATE_FAULTS").is_ok_and(|how| how == "all");
    let name = port.split('?').next().unwrap();
    let mut id = 0;
    // Runs a session. Gives what came of it, and the number of calls after which it was open.
    let mut run = |plan: &mut Nth| {
        id += 1;
        let (open, mut calls) = (AtomicBool::new(false), None);
        let judge = |call: &Call| {
            if open.load(Ordering::Relaxed) {
                calls.get_or_insert(plan.seen);
            }
            if call.ours && call.may_fail(region_bytes) { plan.judge(call) } else { 0 }
        };
        let outcome = lab.in_b(|| judged(judge, || session(port, id, &peer, &open)));
        (outcome, calls)
    };
    let (first, open_calls) = match run(&mut Nth::new(usize::MAX, 0)) {
        (Ok(first), calls) => (first, calls),
        (Err(why), _) => return skip(test, &why),
    };
    assert!(first.refused.is_none() && first.errors.is_empty(), "{first:?}");
    let mut before = held();
    let resident = status_kib("VmRSS");
    let (mut ignored, mut refusals, mut problems) = (BTreeMap::new(), 0, Vec::new());
    let (mut n, mut missed) = (0, 0);
    loop {
        let errors = if all { &ERRORS[..] } else { &ERRORS[n % 3..][..1] };
        let mut reached = false;
        for &errno in errors {
            let mut plan = Nth::new(n, errno);
            let (outcome, open_calls) = run(&mut plan);
            let outcome = outcome.unwrap();
            let Some(failed) = plan.failed else { continue };
            reached = true;
            let told = format!("{} (call {n}, errno {errno}): {outcome:?}", failed.name);
            let while_open = open_calls.is_some_and(|calls| n >= calls);
            let mut wrong = |what: &str| problems.push(format!("{what}: {told}"));
            match &outcome.refused {
                Some(text) => {
                    refusals += 1;
                    // Memberships are the interface's, whatever the port.
                    if !text.starts_with(port) && !text.starts_with(name) && !text.starts_with("v1")
                    {
                        wrong("names no port");
                    }
                    if text.contains('\n') || text.split(": ").count() < 3 {
                        wrong("names no call");
                    }
                }
                None => {
                    if !while_open {
                        ignored.entry(failed.name).or_insert_with(BTreeSet::new).insert(n);
                    }
                    if outcome.received as u64 + outcome.named < 2 * FRAMES as u64 {
                        wrong("frames are missing");
                    }
                    if outcome.errors.len() > 2 || outcome.errors.iter().any(|e| e.contains('\n')) {
                        wrong("too many errors");
                    }
                }
            }
            let now = held();
            if now != before {
                problems.push(format!("left behind {now:?}: {told}"));
                before = now;
            }
        }
        // Threads make the number of calls differ a little.
        missed = if reached { 0 } else { missed + 1 };
        if missed == 3 {
            break;
        }
        n += 1;
    }
    println!(
        "{test}: {n} calls (open: {open_calls:?}), {refusals} refusals, without {:?}",
        ignored
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(n >= least, "only {n} calls");
    assert!(refusals > 0);
    // What is left of a failed open would be there many times over.
    assert!(status_kib("VmRSS") < resident + 65_536, "{resident} KiB at first");
    for (name, calls) in ignored {
        let most = wishes.iter().find(|(wish, _)| *wish == name).map_or(0, |(_, most)| *most);
        assert!(calls.len() <= most, "opened without {name}, calls {calls:?}; {most} are wishes");
    }
    let links = Command::new("ip").args(["-n", lab.b(), "link", "show", "v1"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(!links.contains("xdp") && !links.contains("PROMISC"), "{links}");
}

#[test]
fn packet_sockets() {
    // PACKET_IGNORE_OUTGOING (the filter does the same) and SO_SNDBUFFORCE; what the watcher of
    // memberships does.
    sweep("packet_sockets", "afpacket:v1", 0, 45, &[("setsockopt", 2), ("poll", 9), ("prctl", 9)]);
}

#[test]
fn udp_sockets() {
    // Buffer sizes, stamps, TTL and TOS of frames, the clock's name; the search for preloaded
    // stacks in the process's mappings; and what cannot fail in the kernel (EPOLL_CTL_MOD).
    let wishes = [
        ("setsockopt", 7),
        ("getsockopt", 1),
        ("ioctl", 2),
        ("openat", 1),
        ("read", 20),
        ("statx", 2),
        ("epoll_ctl", 1),
    ];
    sweep("udp_sockets", "udp:v1", 0, 70, &wishes);
}

#[test]
fn xdp_sockets() {
    // The pool that the port makes for itself: three rings' worth and 1,024 frames.
    let pool = (3 * 64 + 1024) * 2048;
    // Driver's mode (generic is next), zero-copy, hugepages, NUMA node, locking, names in sysfs, the
    // kernel's types, and the name of the network namespace, which only sets how long to wait.
    let wishes = [
        ("bpf", 2),
        ("get_mempolicy", 1),
        ("ioctl", 2),
        ("madvise", 2),
        ("mlock", 1),
        ("mmap", 5),
        ("openat", 3),
        ("poll", 9),
        ("prctl", 9),
        ("read", 2),
        ("setsockopt", 9),
        ("socket", 2),
        ("bind", 1),
        ("getsockopt", 1),
        ("statx", 3),
    ];
    sweep("xdp_sockets", "afxdp:v1?ring_slots=64", pool, 85, &wishes);
}
