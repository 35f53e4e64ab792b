//! Nothing is lost without a name: on every backend, frames of random sizes in bursts and pauses
//! against slow handlers, kept buffers and changing rules. Each frame has a number and a checksum.
//! At the end, sent = received + named losses, contents are equal, each flow is in order, every
//! buffer is back, and the process has not grown.
//!
//! 100 000 frames for each backend, or as many as `LINERATE_CONSERVATION` says. A million each,
//! as `ci.sh` does it: `tests/trust.sh conservation`; more: `FRAMES=1000000000`.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use linerate::loopback;
use linerate::packet::UdpTemplate;
use linerate::pool::{Huge, Pool};
use linerate::prelude::*;
use linerate::{AnyRx, AnyTx, Direction, FlowSpec, OpenError, Port, RuleId};
use linerate_lab::{Lab, lab_or_skip, skip};

mod ring;

/// Flows that the frames belong to, one UDP port each.
const FLOWS: usize = 4;
/// Headers, number and checksum: no frame is shorter.
const HEAD: usize = 42;
const LEAST: usize = HEAD + 18;
/// Nothing has come for so long: nothing more will.
const QUIET: Duration = Duration::from_secs(5);

fn frames() -> u64 {
    let n = std::env::var("LINERATE_CONSERVATION").ok().and_then(|n| n.parse().ok());
    n.unwrap_or(100_000)
}

/// Random numbers that are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// FNV-1a in steps of eight bytes, with the upper half folded in, which else would reach no
/// lower bit.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| {
        let sum = (sum ^ word).wrapping_mul(0x0100_0000_01b3);
        sum ^ sum >> 32
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, w| step(sum, u64::from_le_bytes(*w)));
    rest.iter().fold(sum, |sum, byte| step(sum, u64::from(*byte)))
}

/// Fills a frame's payload: number, checksum of the rest, and content that follows from both.
fn fill(payload: &mut [u8], id: u64) {
    let mut word = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for part in payload[16..].chunks_mut(8) {
        word = word.rotate_left(5).wrapping_mul(0x2545_f491_4f6c_dd1d);
        part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
    }
    payload[..8].copy_from_slice(&id.to_le_bytes());
    let sum = checksum(&payload[16..]) ^ payload.len() as u64;
    payload[8..16].copy_from_slice(&sum.to_le_bytes());
}

/// The number of a frame of ours, which must be whole.
fn number(frame: &[u8]) -> Option<u64> {
    let payload = frame.get(HEAD..)?;
    if frame.len() < LEAST || frame[30..34] != [239, 1, 1, 1] {
        return None;
    }
    let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
    let sum = checksum(&payload[16..]) ^ payload.len() as u64;
    assert_eq!(word(8), sum, "frame {} of {} bytes is damaged", word(0), frame.len());
    Some(word(0))
}

/// What the two sides know of each other.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    seen: AtomicU64,
    /// By the sender.
    lost: AtomicU64,
    done: AtomicBool,
}

/// How the two ends are joined.
struct Run {
    tx: AnyTx,
    rx: AnyRx,
    /// Pools whose buffers must all come back.
    pools: Vec<Pool>,
    /// Frames that may be on the way. `None`: as many as the sender can, so that some are lost.
    window: Option<u64>,
    /// Longest frame.
    longest: usize,
}

/// The shortest, the longest, anything between, and mostly what markets send.
fn length(r: &mut Random, longest: usize) -> usize {
    let up_to = |r: &mut Random, most: usize| LEAST + r.below((most - LEAST + 1) as u64) as usize;
    match r.below(16) {
        0 => longest,
        1 | 2 => up_to(r, longest),
        3..=6 => LEAST,
        _ => up_to(r, 400),
    }
}

fn send(tx: &mut AnyTx, n: u64, run: (Option<u64>, usize), progress: &Progress) {
    let (window, longest) = run;
    let lost_before = tx.stats().lost();
    let mut r = Random(0x1234_5678_9abc_def1);
    let src: SocketAddr = "10.99.0.1:4000".parse().unwrap();
    let to = |i: usize| SocketAddr::new([239, 1, 1, 1].into(), 5000 + i as u16);
    let templates: Vec<_> = (0..FLOWS).map(|i| UdpTemplate::new(src, to(i)).unwrap()).collect();
    let longest = longest.min(tx.max_len());
    let (mut id, mut payload) = (0, vec![0; longest]);
    let mut frame = vec![0; longest];
    while id < n {
        let burst = 1 + r.below(96);
        for _ in 0..burst.min(n - id) {
            let len = length(&mut r, longest);
            let payload = &mut payload[..len - HEAD];
            fill(payload, id);
            let written = templates[id as usize % FLOWS].write(&mut frame, payload).unwrap();
            assert_eq!(written, len);
            while window.is_some_and(|w| id - progress.seen.load(Ordering::Acquire) >= w) {
                // What is gathered must go, or the other side waits for it for ever.
                let _ = tx.kick();
                tx.reap();
                thread::yield_now();
            }
            while !tx.send(&frame[..len]).unwrap() {
                let _ = tx.kick();
                tx.reap();
                thread::yield_now();
            }
            id += 1;
        }
        while tx.kick().is_err() {
            thread::yield_now();
        }
        progress.sent.store(id, Ordering::Release);
        if r.one_in(200) {
            thread::sleep(Duration::from_millis(r.below(3)));
        }
    }
    progress.lost.store(tx.stats().lost() - lost_before, Ordering::Release);
    progress.done.store(true, Ordering::Release);
    // The last ones are still with the card or kernel.
    let patience = Instant::now() + QUIET;
    let is_on_its_way = |tx: &mut AnyTx| {
        let stats = tx.stats();
        stats.completed + stats.lost() < stats.frames
    };
    while is_on_its_way(tx) && Instant::now() < patience {
        let _ = tx.kick();
        tx.reap();
        thread::yield_now();
    }
}

/// Reads in every way there is; returns how many came and how often the rules changed.
fn receive(rx: &mut AnyRx, pools: &[Pool], progress: &Progress) -> (u64, u64) {
    let mut r = Random(0xfeed_f00d_dead_beef);
    let mut last = [None; FLOWS];
    let (mut count, mut changes) = (0, 0);
    // The queue counts since it was opened, `progress` since this run began.
    let lost_before = rx.stats().lost();
    let mut held = Vec::new();
    let mut rule: Option<RuleId> = None;
    let other: FlowSpec = "udp:10.1.2.3:99".parse().unwrap();
    let mut moved = Instant::now();
    let mut see = |bytes: &[u8]| {
        let Some(id) = number(bytes) else { return 0 };
        let flow = id as usize % FLOWS;
        assert!(last[flow].is_none_or(|last| last < id), "{id} came after {:?}", last[flow]);
        last[flow] = Some(id);
        1
    };
    loop {
        let before = count;
        match r.below(4) {
            0 => {
                let n = rx.acquire(1 + r.below(64) as usize).unwrap();
                for i in 0..n {
                    count += see(rx.frame(i).bytes);
                }
                if n > 0
                    && held.len() < 16
                    && let Some(bufs) = rx.buf_rx()
                {
                    held.extend(bufs.take(n - 1));
                }
                rx.release();
            }
            1 => {
                let burst = rx.burst(1 + r.below(64) as usize).unwrap();
                count += burst.iter().map(|f| see(f.bytes)).sum::<u64>();
            }
            _ => {
                rx.poll(1 + r.below(100) as usize, |f| count += see(f.bytes)).unwrap();
            }
        }
        if r.one_in(8)
            && let Some(buf) = held.pop()
        {
            // Kept for a while, and still what it was.
            let pool = pools.iter().find(|p| p.tag() == buf.pool_tag()).unwrap();
            assert!(number(pool.bytes(&buf).unwrap()).is_some());
            pool.free(buf).unwrap();
        }
        if r.one_in(2000) {
            // A slow handler.
            thread::sleep(Duration::from_millis(r.below(3)));
        }
        if r.one_in(5000)
            && let Some(steer) = rx.steer()
        {
            match rule.take() {
                Some(id) => steer.remove(id).unwrap(),
                None => rule = steer.add(&other).ok(),
            }
            changes += 1;
        }
        progress.seen.store(count, Ordering::Release);
        if count > before {
            moved = Instant::now();
            continue;
        }
        if progress.done.load(Ordering::Acquire) {
            let sent = progress.sent.load(Ordering::Acquire);
            let lost = rx.stats().lost() - lost_before + progress.lost.load(Ordering::Acquire);
            let accounted = count + lost;
            if accounted >= sent || moved.elapsed() > QUIET {
                break;
            }
        }
        thread::yield_now();
    }
    for buf in held {
        let pool = pools.iter().find(|p| p.tag() == buf.pool_tag()).unwrap();
        assert!(number(pool.bytes(&buf).unwrap()).is_some());
        pool.free(buf).unwrap();
    }
    (count, changes)
}

/// Resident memory of the process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One after the other: they measure the process's memory, and share two CPUs.
static ALONE: Mutex<()> = Mutex::new(());

fn conserve(name: &str, run: Run) {
    let Run { mut tx, mut rx, pools, window, longest } = run;
    let n = frames();
    let mut sizes = Vec::new();
    let (mut received, mut changes, begun) = (0, 0, Instant::now());
    // A tenth first, to have everything touched; what is resident then stays it.
    let (mut total, mut lost_before) = (0, 0);
    for part in [n / 10, n - n / 10] {
        let progress = Progress::default();
        let (got, changed) = thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&mut rx, &pools, &progress));
            send(&mut tx, part, (window, longest), &progress);
            receiver.join().unwrap()
        });
        let lost = rx.stats().lost() + tx.stats().lost() - lost_before;
        assert_eq!(got + lost, part, "{name}: {:?} {:?}", rx.stats(), tx.stats());
        assert!(window.is_none() || lost == 0, "{name}: {:?}", rx.stats());
        lost_before += lost;
        (received, changes, total) = (received + got, changes + changed, total + part);
        sizes.push(resident());
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{name}: sent {total}, received {received}, named losses {lost_before} ({:?}), \
         {changes} rule changes, resident {} KiB after a tenth and {} KiB at the end, {seconds:.1} s",
        rx.stats().losses().filter(|(_, n)| *n > 0).collect::<Vec<_>>(),
        sizes[0],
        sizes[1],
    );
    assert!(sizes[1] < sizes[0] + 4096, "{name} grew from {} to {} KiB", sizes[0], sizes[1]);
    for pool in &pools {
        assert_eq!(pool.outstanding(), 0, "{name}: buffers are missing");
    }
    drop((tx, rx));
    for pool in &pools {
        assert_eq!(pool.outstanding(), 0, "{name}: buffers are missing after the queues are gone");
    }
}

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn loopback_conserves_every_frame() {
    let _alone = alone();
    for lossy in [false, true] {
        let pool = Pool::builder().frames(1024).huge(Huge::Never).lock(false).build().unwrap();
        let options =
            loopback::Options { pool: Some(pool.clone()), lossy, ..loopback::Options::default() };
        let (tx, rx) = loopback::pair(&options).unwrap();
        let run = Run {
            tx: AnyTx::Custom(Box::new(tx)),
            rx: AnyRx::Custom(Box::new(rx)),
            pools: vec![pool],
            window: (!lossy).then_some(u64::MAX),
            longest: 9600,
        };
        conserve(if lossy { "loopback, lossy" } else { "loopback" }, run);
    }
}

/// Two ports of simulated cards at one cable. `None`: it cannot be simulated here.
fn cards(test: &str, uri: &str, pool: Option<&Pool>) -> Option<(Port, Port)> {
    let open = || {
        let mut port = linerate::port(uri);
        if let Some(pool) = pool {
            port = port.pool(pool);
        }
        port.open()
    };
    match (open(), open()) {
        (Ok(a), Ok(b)) => Some((a, b)),
        (Err(OpenError::Setup(e)), _) if e.op() == "simulate" => {
            skip(test, &e.to_string());
            None
        }
        (a, b) => panic!("{uri}: {:?} {:?}", a.err(), b.err()),
    }
}

#[test]
fn simulated_cards_conserve_every_frame() {
    let _alone = alone();
    // ExaNIC's ring and X3's cannot tell how many frames they lost: there, none may be.
    for (uri, lossy) in [
        ("sim:verbs?cable=conserve-v&mode=steal", false),
        ("sim:verbs?cable=conserve-vl&mode=steal", true),
        ("sim:exanic?cable=conserve-x&promiscuous=on", false),
        ("sim:efvi?cable=conserve-r&kind=ring", false),
        ("sim:efvi?cable=conserve-rl&kind=ring", true),
        ("sim:efvi?cable=conserve-s&kind=shared", false),
    ] {
        let pool = Pool::builder().frames(8192).huge(Huge::Never).lock(false).build().unwrap();
        let Some((a, b)) = cards("simulated_cards_conserve_every_frame", uri, Some(&pool)) else {
            continue;
        };
        let (_, tx, guard) = a.into_parts();
        let (mut rx, _, other) = b.into_parts();
        let window = (!lossy).then_some(128);
        let (tx, rx) = (tx.unwrap(), rx.remove(0));
        let name = if lossy { format!("{uri}, lossy") } else { uri.to_owned() };
        conserve(&name, Run { tx, rx, pools: vec![pool], window, longest: 9600 });
        drop((guard, other));
    }
}

/// Ports at the two ends of the lab's cable.
fn kernel(lab: &Lab, name: &str, options: (&str, &str)) -> (Port, Port) {
    let flows = "239.1.1.1:5000 239.1.1.1:5001 239.1.1.1:5002 239.1.1.1:5003";
    let flows: Vec<FlowSpec> = flows.split(' ').map(|f| f.parse().unwrap()).collect();
    let tx = lab.in_a(|| {
        let uri = format!("{name}:v0{}", options.0);
        linerate::port(&uri).direction(Direction::Tx).open().unwrap_or_else(|e| panic!("{e}"))
    });
    let rx = lab.in_b(|| {
        let uri = format!("{name}:v1{}", options.1);
        let port = linerate::port(&uri).flows(flows).direction(Direction::Rx);
        port.open().unwrap_or_else(|e| panic!("{e}"))
    });
    (tx, rx)
}

#[test]
fn kernel_backends_conserve_every_frame() {
    let lab = lab_or_skip!();
    let _alone = alone();
    // The kernel's backlog between the ends of a veth pair drops what no ring counts; so does a
    // UDP socket whose buffer is full.
    for (name, options, window) in [
        ("afpacket", ("", "?ring=blocks"), 256),
        ("afpacket", ("", "?ring=frames"), 256),
        ("afxdp", ("?queue=0", "?queue=0"), 256),
        ("udp", ("", ""), 64),
    ] {
        let (a, b) = kernel(&lab, name, options);
        let pools: Vec<Pool> = [a.pool(), b.pool()].into_iter().flatten().cloned().collect();
        let (_, tx, guard) = a.into_parts();
        let (mut rx, _, other) = b.into_parts();
        let (tx, rx) = (tx.unwrap(), rx.remove(0));
        let run = Run { tx, rx, pools, window: Some(window), longest: 1514 };
        conserve(&format!("{name}{}", options.1), run);
        drop((guard, other));
    }
}
