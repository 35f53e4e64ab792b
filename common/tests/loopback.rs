//! The in-memory pair against the conformance suite, and what is its own.

#![allow(clippy::unwrap_used)] // A test that cannot go on may say so.

use std::collections::VecDeque;

use linerate_common::conformance::{Outcome, Rig, Wire, run_all};
use linerate_common::loopback::{self, LoopRx, LoopTx, Options};
use linerate_common::pool::{Huge, Pool};
use linerate_common::{
    Buf, BufRx, BufTx, ClockInfo, Clocked, ErrorKind, FlowKind, FlowSpec, FrameRx, FrameTx,
    SetupError, Steer, TxStamps, forward,
};
use proptest::prelude::*;

struct Cable(Options);

impl Rig for Cable {
    type Tx = LoopTx;
    type Rx = LoopRx;

    fn pair(&mut self) -> Result<(LoopTx, LoopRx), SetupError> {
        loopback::pair(&self.0)
    }

    fn wire(&self) -> Wire {
        Wire { min_len: 14, quiet: true, in_flight: self.0.ring_slots / 2, ..Wire::default() }
    }

    fn buf_rx<'q>(&self, rx: &'q mut LoopRx) -> Option<&'q mut dyn BufRx> {
        Some(rx)
    }

    fn buf_tx<'q>(&self, tx: &'q mut LoopTx) -> Option<&'q mut dyn BufTx> {
        Some(tx)
    }

    fn tx_stamps<'q>(&self, tx: &'q mut LoopTx) -> Option<&'q mut dyn TxStamps> {
        Some(tx)
    }

    fn steer<'q>(&self, rx: &'q mut LoopRx) -> Option<&'q mut dyn Steer> {
        Some(rx)
    }

    fn rx_clock(&self, rx: &LoopRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }

    fn rx_pool(&self, rx: &LoopRx) -> Option<Pool> {
        Some(rx.pool().clone())
    }

    fn tx_pool(&self, tx: &LoopTx) -> Option<Pool> {
        Some(tx.pool().clone())
    }
}

/// Every rule passes; none may be skipped but those named.
fn obeys(options: Options, skipped: &[&str]) {
    let report = run_all(&mut Cable(options));
    assert!(report.is_clean(), "{report}");
    for row in &report.rows {
        let skip = matches!(row.outcome, Outcome::NotSupported(_));
        assert_eq!(skip, skipped.contains(&row.rule), "{report}");
    }
}

#[test]
fn a_pair_obeys_every_rule() {
    obeys(Options::default(), &[]);
}

#[test]
fn so_does_a_lossy_pair_without_stamps_and_with_tiny_rings() {
    let skipped = ["stamps_are_plausible"];
    obeys(Options { lossy: true, stamps: false, ..Options::default() }, &skipped);
    let pool = Pool::builder().frames(1024).huge(Huge::Never).lock(false).build().unwrap();
    obeys(Options { ring_slots: 4, pool: Some(pool), ..Options::default() }, &[]);
}

fn small_pool(frames: u32) -> Pool {
    Pool::builder().frames(frames).huge(Huge::Never).lock(false).build().unwrap()
}

#[test]
fn a_lossy_receiver_without_buffers_loses_frames_by_name() {
    let options = Options { ring_slots: 8, lossy: true, ..Options::default() };
    let (mut tx, mut rx) = loopback::pair(&options).unwrap();
    for n in 0..20 {
        assert!(tx.send(&[n; 60]).unwrap());
        tx.kick().unwrap();
    }
    // Eight buffers were posted; the other twelve frames met none.
    assert_eq!((rx.stats().no_buffer, tx.stats().frames), (12, 20));
    let mut got = Vec::new();
    rx.poll(64, |f| got.push(f.bytes[0])).unwrap();
    assert_eq!(got, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(rx.stats().frames + rx.stats().lost(), 20);
}

#[test]
fn a_receiver_that_keeps_everything_pushes_back_until_it_frees() {
    let pool = small_pool(64);
    let options = Options { ring_slots: 8, pool: Some(pool.clone()), ..Options::default() };
    let (mut tx, mut rx) = loopback::pair(&options).unwrap();
    let mut kept = Vec::new();
    while tx.send(&[1; 60]).unwrap() {
        tx.kick().unwrap();
        for i in 0..rx.acquire(64).unwrap() {
            kept.push(rx.take(i).unwrap());
        }
        rx.release();
    }
    assert!(kept.len() >= 48 && kept.len() < 64, "{} of 64 kept", kept.len());
    assert_eq!(pool.outstanding() as usize, kept.len());
    assert_eq!((rx.stats().lost(), tx.stats().lost()), (0, 0));
    kept.drain(..).for_each(|buf| pool.free(buf).unwrap());
    rx.release();
    assert!(tx.send(&[2; 60]).unwrap());
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn buffers_return_to_the_pool_with_the_last_end() {
    for receiver_first in [true, false] {
        let pool = small_pool(1024);
        let options = Options { ring_slots: 16, pool: Some(pool.clone()), ..Options::default() };
        let (mut tx, mut rx) = loopback::pair(&options).unwrap();
        for _ in 0..10 {
            tx.send(&[1; 60]).unwrap();
            tx.kick().unwrap();
        }
        rx.acquire(4).unwrap();
        let kept = rx.take(0).unwrap();
        tx.reserve(60).unwrap();
        if receiver_first {
            // The sender may still be writing to posted buffers: they stay where they are.
            let free = pool.free_frames();
            drop(rx);
            assert_eq!(pool.free_frames(), free);
            assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::LinkDown);
            assert!(tx.send(&[1; 60]).unwrap());
            assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::LinkDown);
            tx.reap();
            let stats = tx.stats();
            assert_eq!((stats.frames, stats.completed, stats.failed), (11, 10, 1));
            drop(tx);
        } else {
            drop(tx);
            // What was sent still arrives.
            let mut left = 0;
            while rx.poll(64, |_| left += 1).unwrap() > 0 {}
            assert_eq!(left, 6);
            drop(rx);
        }
        assert_eq!((pool.outstanding(), pool.free_frames()), (1, 1023));
        pool.free(kept).unwrap();
        assert_eq!(pool.free_frames(), 1024);
    }
}

#[test]
fn frames_are_forwarded_over_two_cables_without_a_copy() {
    let pool = small_pool(2048);
    let options = Options { pool: Some(pool.clone()), ..Options::default() };
    let (mut from, mut rx) = loopback::pair(&options).unwrap();
    let (mut tx, mut to) = loopback::pair(&options).unwrap();
    let mut got = Vec::new();
    for round in 0..100 {
        for n in 0..20 {
            assert!(from.send(&[n; 60]).unwrap(), "round {round}");
        }
        from.kick().unwrap();
        assert_eq!(forward(&mut rx, &mut tx, 64, |f| f.bytes[0] % 2 == 0).unwrap(), 10);
        to.poll(64, |f| got.push(f.bytes[0])).unwrap();
        assert_eq!(got, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
        got.clear();
    }
    tx.reap();
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn rules_select_mark_and_count_what_they_leave_out() {
    let (mut tx, mut rx) = loopback::pair(&Options::default()).unwrap();
    let mine = FlowSpec::of(FlowKind::Mac([2, 0, 0, 0, 0, 1]));
    let lldp = FlowSpec::of(FlowKind::EtherType(0x88cc));
    let (first, second) = (rx.add(&mine).unwrap(), rx.add(&lldp).unwrap());
    let frame = |mac: u8, ethertype: u16| {
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, mac]);
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame
    };
    let mut marks = |rx: &mut LoopRx| {
        for frame in [frame(1, 0x0800), frame(2, 0x88cc), frame(3, 0x0800), frame(1, 0x88cc)] {
            tx.send(&frame).unwrap();
        }
        tx.kick().unwrap();
        let mut marks = Vec::new();
        rx.poll(64, |f| marks.push(f.meta.mark)).unwrap();
        marks
    };
    assert_eq!(marks(&mut rx), [first.0, second.0, first.0]);
    assert_eq!(rx.stats().filtered, 1);
    rx.remove(first).unwrap();
    assert_eq!(marks(&mut rx), [second.0, second.0]);
    rx.remove(second).unwrap();
    assert_eq!(marks(&mut rx), [0, 0, 0, 0], "without rules everything passes");
    assert_eq!((rx.stats().frames, rx.stats().filtered), (9, 3));
}

#[test]
fn what_a_rule_leaves_out_gives_its_buffer_back() {
    let (mut tx, mut rx) =
        loopback::pair(&Options { ring_slots: 4, ..Options::default() }).unwrap();
    rx.add(&FlowSpec::of(FlowKind::EtherType(0x88cc))).unwrap();
    let mut frame = [0; 60];
    for round in 0..40 {
        assert!(tx.send(&frame).unwrap(), "no buffer is posted any more, after {round}");
        tx.kick().unwrap();
        assert_eq!(rx.poll(1, |_| panic!("no rule wants it")).unwrap(), 0);
        tx.reap();
    }
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert!(tx.send(&frame).unwrap());
    tx.kick().unwrap();
    assert_eq!(rx.poll(1, |_| ()).unwrap(), 1);
    assert_eq!(rx.stats().filtered, 40);
}

#[test]
fn a_taken_frame_shows_no_bytes_any_more() {
    // They are the Buf's alone: it may be written while the window is still open.
    let (mut tx, mut rx) = loopback::pair(&Options::default()).unwrap();
    tx.send(&[5; 60]).unwrap();
    tx.kick().unwrap();
    assert_eq!(rx.acquire(1).unwrap(), 1);
    let buf = rx.take(0).unwrap();
    assert!(rx.frame(0).bytes.is_empty());
    assert_eq!(rx.pool().bytes(&buf).unwrap(), [5; 60]);
    rx.pool().free(buf).unwrap();
}

#[test]
fn options_out_of_range_say_what_is_in_range() {
    for options in [
        Options { ring_slots: 1, ..Options::default() },
        Options { ring_slots: 1 << 20, ..Options::default() },
        Options { max_len: Some(0), ..Options::default() },
        Options { max_len: Some(1793), ..Options::default() },
        Options { pool: Some(small_pool(511)), ..Options::default() },
    ] {
        let e = loopback::pair(&options).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BadArgument);
        assert!(e.to_string().starts_with("loopback: ") && !e.remedy_text().is_empty(), "{e}");
    }
}

/// What may happen to a pair.
#[derive(Debug, Clone, Copy)]
enum Op {
    Send(usize),
    Reserve(usize),
    Commit(usize),
    Kick,
    Reap,
    Poll(usize),
    Acquire(usize),
    Release,
    Take(usize),
    FreeOne,
    PushOne,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (14..200_usize).prop_map(Op::Send),
        2 => (14..200_usize).prop_map(Op::Reserve),
        2 => (0..200_usize).prop_map(Op::Commit),
        4 => Just(Op::Kick),
        2 => Just(Op::Reap),
        3 => (0..80_usize).prop_map(Op::Poll),
        3 => (0..80_usize).prop_map(Op::Acquire),
        2 => Just(Op::Release),
        2 => (0..8_usize).prop_map(Op::Take),
        1 => Just(Op::FreeOne),
        1 => Just(Op::PushOne),
    ]
}

proptest! {
    /// Against a queue: whatever was accepted and kicked arrives once, in order, unchanged; no
    /// buffer is in two places; at the end all of them are back.
    #[test]
    fn behaves_as_a_queue_of_frames(ops in prop::collection::vec(op(), 0..300)) {
        let pool = small_pool(128);
        let options = Options { ring_slots: 8, pool: Some(pool.clone()), ..Options::default() };
        let (mut tx, mut rx) = loopback::pair(&options).unwrap();
        let (mut queued, mut wire) = (VecDeque::new(), VecDeque::<Vec<u8>>::new());
        // Frames of the open window, `None` once taken; buffers that were taken.
        let mut window: Vec<Option<Vec<u8>>> = Vec::new();
        let mut kept: Vec<(Buf, Vec<u8>)> = Vec::new();
        let (mut next, mut reserved, mut unreaped) = (0_u8, None, 0);
        let mut make = |len: usize| {
            next = next.wrapping_add(1);
            (0..len).map(|i| next.wrapping_add(i as u8)).collect::<Vec<_>>()
        };
        for op in ops {
            match op {
                Op::Send(len) => {
                    let frame = make(len);
                    reserved = None;
                    if tx.send(&frame).unwrap() {
                        queued.push_back(frame);
                    }
                }
                Op::Reserve(len) => {
                    let frame = make(len);
                    reserved = tx.reserve(len).map(|slot| {
                        slot.copy_from_slice(&frame);
                        frame
                    });
                }
                Op::Commit(len) => {
                    if let Some(mut frame) = reserved.take() {
                        let len = len.min(frame.len());
                        tx.commit(len);
                        frame.truncate(len);
                        if len > 0 {
                            queued.push_back(frame);
                        }
                    }
                }
                Op::Kick => {
                    unreaped += queued.len();
                    tx.kick().unwrap();
                    wire.append(&mut queued);
                }
                Op::Reap => {
                    // `send` and `push` may have reaped before.
                    prop_assert!(tx.reap() <= unreaped);
                    unreaped = 0;
                }
                Op::Poll(max) => {
                    window.clear();
                    let mut got = Vec::new();
                    let n = rx.poll(max, |f| got.push(f.bytes.to_vec())).unwrap();
                    prop_assert_eq!(n, got.len());
                    prop_assert_eq!(n, max.min(wire.len()));
                    prop_assert!(got.into_iter().eq(wire.drain(..n)));
                }
                Op::Acquire(max) => {
                    let n = rx.acquire(max).unwrap();
                    prop_assert_eq!(n, max.min(64).min(wire.len()));
                    window = wire.drain(..n).map(Some).collect();
                }
                Op::Release => {
                    window.clear();
                    rx.release();
                }
                Op::Take(i) => {
                    if let Some(shown) = window.get_mut(i) {
                        let buf = rx.take(i);
                        prop_assert_eq!(buf.is_some(), shown.is_some());
                        kept.extend(buf.zip(shown.take()));
                    }
                }
                Op::FreeOne => {
                    if let Some((buf, _)) = kept.pop() {
                        prop_assert!(pool.free(buf).is_ok());
                    }
                }
                Op::PushOne => {
                    if let Some((buf, frame)) = kept.pop() {
                        match tx.push(buf) {
                            Ok(()) => queued.push_back(frame),
                            Err(buf) => kept.push((buf, frame)),
                        }
                    }
                }
            }
            prop_assert_eq!(rx.len(), window.len());
            for (i, shown) in window.iter().enumerate() {
                prop_assert_eq!(rx.frame(i).bytes, shown.as_deref().unwrap_or_default());
            }
            for (buf, frame) in &kept {
                prop_assert_eq!(pool.bytes(buf).unwrap(), frame);
            }
            prop_assert_eq!(pool.outstanding() as usize, kept.len());
        }
        prop_assert_eq!((tx.stats().lost(), rx.stats().lost()), (0, 0));
        drop((tx, rx));
        kept.into_iter().for_each(|(buf, _)| pool.free(buf).unwrap());
        prop_assert_eq!(pool.free_frames(), pool.frames());
    }
}
