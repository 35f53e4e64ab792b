//! The adapters obey the rules, and do what they are for.

#![allow(clippy::unwrap_used)] // A test that cannot go on may say so.

mod bench;

use std::sync::Mutex;

use bench::Bench;
use linerate_common::adapter::{Fault, FaultCounts, Faults, FrameSink, Latency, Tap};
use linerate_common::conformance::run_all;
use linerate_common::loopback::{self, LoopRx, LoopTx, Options};
use linerate_common::{FrameRx, FrameTx, RxFlags, RxFrame};

/// Keeps what it sees.
#[derive(Default)]
struct Keep(Vec<(Vec<u8>, RxFlags)>);

impl FrameSink for Keep {
    fn frame(&mut self, frame: &RxFrame<'_>) {
        self.0.push((frame.bytes.to_vec(), frame.meta.flags));
    }
}

/// Frame `i` of a stream: 64 bytes that name it.
fn frame(i: u32) -> [u8; 64] {
    let mut bytes = [0; 64];
    for word in bytes.chunks_mut(4) {
        word.copy_from_slice(&i.to_be_bytes());
    }
    bytes
}

/// Receives until nothing comes any more, also what is held back.
fn drain(rx: &mut impl FrameRx, max: usize) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    let mut empty = 0;
    while empty < 200 {
        let n = rx.poll(max, |f| got.push(f.bytes.to_vec())).unwrap();
        empty = if n == 0 { empty + 1 } else { 0 };
    }
    got
}

/// Sends `count` frames through and receives them by windows of `max`.
fn stream(tx: &mut impl FrameTx, rx: &mut impl FrameRx, count: u32, max: usize) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    for i in 0..count {
        assert!(tx.send(&frame(i)).unwrap());
        if i % 50 == 49 {
            tx.kick().unwrap();
            tx.reap();
            while rx.poll(max, |f| got.push(f.bytes.to_vec())).unwrap() > 0 {}
        }
    }
    tx.kick().unwrap();
    got.extend(drain(rx, max));
    got
}

#[test]
fn a_tap_on_either_end_obeys_every_rule() {
    let mut rig = Bench::new(|tx: LoopTx, rx: LoopRx| (tx, Tap::new(rx, Keep::default())));
    rig.take = Some(|rx| rx);
    rig.push = Some(|tx| tx);
    let report = run_all(&mut rig);
    assert!(report.is_clean(), "{report}");

    let mut rig = Bench::new(|tx: LoopTx, rx: LoopRx| (Tap::new(tx, Keep::default()), rx));
    rig.take = Some(|rx| rx);
    let report = run_all(&mut rig);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_line_without_faults_obeys_every_rule() {
    let mut rig = Bench::new(|tx: LoopTx, rx: LoopRx| (tx, Fault::new(rx, Faults::default())));
    rig.take = Some(|rx| rx);
    rig.push = Some(|tx| tx);
    let report = run_all(&mut rig);
    assert!(report.is_clean(), "{report}");

    let mut rig = Bench::new(|tx: LoopTx, rx: LoopRx| (Fault::new(tx, Faults::default()), rx));
    let report = run_all(&mut rig);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn measuring_obeys_every_rule() {
    let mut rig = Bench::new(|tx: LoopTx, rx: LoopRx| (tx, Tap::new(rx, Latency::new())));
    rig.take = Some(|rx| rx);
    let report = run_all(&mut rig);
    assert!(report.is_clean(), "{report}");
}

/// Lends a queue for good. LeakSanitizer finds it in the list.
fn lend<T>(queue: T) -> &'static mut T {
    static LENT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let queue = Box::leak(Box::new(queue));
    LENT.lock().unwrap().push(std::ptr::from_mut(queue) as usize);
    queue
}

#[test]
fn borrowed_and_boxed_queues_obey_every_rule() {
    let mut rig = Bench::new(|tx: LoopTx, rx: LoopRx| -> (&'static mut (dyn FrameTx + Send), _) {
        (lend(tx), Box::new(rx) as Box<dyn FrameRx + Send>)
    });
    let report = run_all(&mut rig);
    assert!(report.is_clean(), "{report}");

    let mut rig =
        Bench::new(|tx: LoopTx, rx: LoopRx| -> (&'static mut LoopTx, &'static mut LoopRx) {
            (lend(tx), lend(rx))
        });
    let report = run_all(&mut rig);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_tap_sees_each_frame_once_by_every_way_of_reading() {
    let (mut tx, rx) = loopback::pair(&Options::default()).unwrap();
    let mut rx = Tap::new(rx, Keep::default());
    for i in 0..30 {
        tx.send(&frame(i)).unwrap();
    }
    tx.kick().unwrap();
    assert_eq!(rx.poll(10, |_| ()).unwrap(), 10);
    assert_eq!(rx.acquire(10).unwrap(), 10);
    rx.release();
    let boxed: &mut dyn FrameRx = &mut rx;
    assert_eq!(boxed.acquire(64).unwrap(), 10);
    let seen: Vec<_> = rx.sink_mut().0.iter().map(|(bytes, _)| bytes.clone()).collect();
    assert!(seen.iter().map(Vec::as_slice).eq((0..30).map(frame).collect::<Vec<_>>().iter()));
}

#[test]
fn a_tap_on_a_sender_sees_what_was_committed_and_no_more() {
    let (tx, mut rx) = loopback::pair(&Options { ring_slots: 4, ..Options::default() }).unwrap();
    let mut tx = Tap::new(tx, Keep::default());
    assert!(tx.send(&frame(0)).unwrap());
    tx.reserve(64).unwrap().copy_from_slice(&frame(9));
    tx.reserve(64).unwrap().copy_from_slice(&frame(1));
    tx.commit(64);
    tx.reserve(64).unwrap().copy_from_slice(&frame(9));
    tx.commit(0);
    assert!(tx.send(&frame(2)).unwrap() && tx.send(&frame(3)).unwrap());
    assert!(!tx.send(&frame(4)).unwrap(), "four slots");
    tx.kick().unwrap();
    let arrived = drain(&mut rx, 64);
    let seen = &tx.sink_mut().0;
    assert_eq!(arrived, (0..4).map(|i| frame(i).to_vec()).collect::<Vec<_>>());
    assert!(seen.iter().map(|(bytes, _)| bytes).eq(&arrived));
    assert!(seen.iter().all(|(_, flags)| flags.contains(RxFlags::OUTGOING | RxFlags::TS_SW)));
}

fn bad_line(seed: u64) -> Faults {
    Faults { drop: 0.05, duplicate: 0.04, corrupt: 0.03, reorder: 0.02, seed }
}

/// One run over a bad line, faults around the receiver.
fn run(seed: u64, max: usize) -> (Vec<Vec<u8>>, FaultCounts, u64, u64) {
    let (mut tx, rx) = loopback::pair(&Options::default()).unwrap();
    let mut rx = Fault::new(rx, bad_line(seed));
    let got = stream(&mut tx, &mut rx, 5000, max);
    let stats = rx.stats();
    assert_eq!(stats.frames, got.len() as u64);
    assert_eq!(stats.bytes, 64 * stats.frames);
    (got, rx.counts(), stats.frames, stats.filtered)
}

#[test]
fn every_fault_happens_at_its_rate_and_is_accounted_for() {
    let (got, counts, frames, filtered) = run(1, 64);
    assert_eq!(filtered, counts.dropped);
    assert_eq!(frames, 5000 - counts.dropped + counts.duplicated);
    for (what, count, expected) in [
        ("dropped", counts.dropped, 250),
        ("duplicated", counts.duplicated, 200),
        ("corrupted", counts.corrupted, 150),
        ("reordered", counts.reordered, 100),
    ] {
        assert!((expected / 2..expected * 2).contains(&count), "{what} {count} of 5000");
    }
    // A flipped bit: one word of the sixteen differs from the others.
    let corrupt = got.iter().filter(|f| f.chunks(4).any(|word| word != &f[..4])).count() as u64;
    assert_eq!(corrupt, counts.corrupted);
    // Out of order: smaller than what came before. Doubled frames follow at once or later.
    let name = |f: &Vec<u8>| u32::from_be_bytes(f[4..8].try_into().unwrap());
    let late = got.windows(2).filter(|w| name(&w[1]) < name(&w[0])).count() as u64;
    assert!(late > 0 && late <= counts.reordered + counts.corrupted + counts.duplicated, "{late}");
}

#[test]
fn the_same_seed_gives_the_same_line_whatever_the_bursts() {
    let (got, counts, ..) = run(7, 64);
    let (again, same_counts, ..) = run(7, 64);
    assert_eq!((&got, counts), (&again, same_counts));
    let (mut small, small_counts, ..) = run(7, 3);
    // Doubled frames may come a little later in small bursts, but they are the same.
    let mut sorted = got.clone();
    sorted.sort();
    small.sort();
    assert_eq!((sorted, counts), (small, small_counts));
    assert_ne!(got, run(8, 64).0);
}

#[test]
fn a_sender_on_a_bad_line_accounts_for_every_frame() {
    let (tx, mut rx) = loopback::pair(&Options::default()).unwrap();
    let mut tx = Fault::new(tx, bad_line(3));
    let got = stream(&mut tx, &mut rx, 5000, 64).len() as u64;
    let counts = tx.counts();
    assert!(counts.dropped > 100 && counts.duplicated > 100 && counts.reordered > 20);
    assert_eq!(got, 5000 - counts.dropped + counts.duplicated);
    assert_eq!(tx.stats().failed, counts.dropped);
}

#[test]
fn a_frame_held_back_for_nothing_comes_at_last() {
    let (mut tx, rx) = loopback::pair(&Options::default()).unwrap();
    let mut rx = Fault::new(rx, Faults { reorder: 1.0, ..Faults::default() });
    tx.send(&frame(1)).unwrap();
    tx.kick().unwrap();
    assert_eq!(drain(&mut rx, 64), [frame(1).to_vec()]);
}

#[test]
fn delays_and_gaps_are_measured_from_the_stamps() {
    let (mut tx, rx) = loopback::pair(&Options::default()).unwrap();
    let mut rx = Tap::new(rx, Latency::new());
    for i in 0..10 {
        tx.send(&frame(i)).unwrap();
        tx.kick().unwrap();
    }
    assert_eq!(rx.poll(5, |_| ()).unwrap(), 5);
    assert_eq!(rx.acquire(64).unwrap(), 5);
    let latency = rx.sink_mut();
    assert_eq!(latency.delays().len() + latency.early(), 10);
    assert_eq!(latency.gaps().len(), 9);
    // Stamps that were just taken: a clock or unit mistake would be far off.
    assert!(latency.delays().max() < 10_000_000_000, "{} ns", latency.delays().max());
    latency.reset();
    assert_eq!((latency.delays().len(), latency.gaps().len(), latency.early()), (0, 0, 0));
}
