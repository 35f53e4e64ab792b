//! A million frames each way at once, and a cable that is pulled in between.
#![allow(clippy::unwrap_used)]

mod rig;

use std::sync::atomic::{AtomicU64, Ordering};

use linerate_afxdp::{Mode, XdpRx, XdpTx};
use linerate_common::{FrameRx, FrameTx};
use linerate_lab::lab_or_skip;
use rig::{collect, feed, open_pair, send_all, udp_frame, until};

const FRAMES: u64 = 1_000_000;
/// Frames that may be under way: fewer than the 256 that a veth pair holds.
const WINDOW: u64 = 200;
const HEADER: usize = 14 + 8;

/// Lengths and contents follow from a frame's number.
struct Source {
    block: Vec<u8>,
}

impl Source {
    fn new() -> Self {
        let mut state = 0x1234_5678_9abc_def1u64;
        let block = (0..1 << 16).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        Self { block: block.collect() }
    }

    fn body(&self, seq: u64) -> &[u8] {
        let mix = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let len = 38 + (mix % (1500 - 38 - 8 + 1)) as usize;
        let start = (mix >> 11) as usize % (self.block.len() - len);
        &self.block[start..start + len]
    }
}

/// One end: sends as long as the other has taken what went before, and checks what it gets.
fn exchange(
    rx: &mut XdpRx,
    tx: &mut XdpTx,
    source: &Source,
    taken_here: &AtomicU64,
    taken_there: &AtomicU64,
) {
    let (mut sent, mut got) = (0, 0);
    while sent < FRAMES || got < FRAMES {
        // Patience is for a standstill, not for the whole.
        until(|| {
            let before = (sent, got);
            while sent < FRAMES && sent - taken_there.load(Ordering::Relaxed) < WINDOW {
                let body = source.body(sent);
                let Some(slot) = tx.reserve(HEADER + body.len()) else { break };
                slot[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
                slot[12..14].copy_from_slice(&[0x88, 0xb5]);
                slot[14..HEADER].copy_from_slice(&sent.to_be_bytes());
                slot[HEADER..].copy_from_slice(body);
                tx.commit(HEADER + body.len());
                sent += 1;
            }
            tx.kick().unwrap();
            rx.poll(64, |frame| {
                assert_eq!(frame.bytes[14..HEADER], u64::to_be_bytes(got));
                assert!(frame.bytes[HEADER..] == *source.body(got), "frame {got} has changed");
                got += 1;
            })
            .unwrap();
            taken_here.store(got, Ordering::Relaxed);
            before != (sent, got)
        });
    }
}

fn million(mode: Mode) {
    let lab = lab_or_skip!();
    let mut options = feed();
    options.mode = mode;
    options.flows = vec!["ether:0x88b5".parse().unwrap()];
    let ((mut rx_a, mut tx_a), (mut rx_b, mut tx_b)) = open_pair(&lab, &options);
    let source = Source::new();
    let (at_a, at_b) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| exchange(&mut rx_a, &mut tx_a, &source, &at_a, &at_b));
        scope.spawn(|| exchange(&mut rx_b, &mut tx_b, &source, &at_b, &at_a));
    });
    for (rx, tx) in [(&mut rx_a, &mut tx_a), (&mut rx_b, &mut tx_b)] {
        assert_eq!((rx.stats().frames, rx.stats().lost()), (FRAMES, 0));
        assert_eq!((tx.stats().frames, tx.stats().lost()), (FRAMES, 0));
        until(|| {
            tx.reap();
            tx.stats().completed == FRAMES
        });
    }
}

#[test]
fn a_million_frames_each_way_in_native_mode() {
    million(Mode::Native);
}

#[test]
fn a_million_frames_each_way_in_generic_mode() {
    million(Mode::Generic);
}

#[test]
fn a_cable_that_was_pulled_works_again() {
    let lab = lab_or_skip!();
    for mode in [Mode::Native, Mode::Generic] {
        let mut options = feed();
        options.mode = mode;
        let ((mut rx_a, mut tx), (mut rx, mut tx_b)) = open_pair(&lab, &options);
        let frames: Vec<_> = (0..20).map(|i| udp_frame("239.1.1.1:5000", i, 100)).collect();
        for round in 0..3 {
            send_all(&mut tx, &frames);
            assert_eq!(collect(&mut rx, 20), frames, "round {round} in {mode:?}");
            send_all(&mut tx_b, &frames);
            assert_eq!(collect(&mut rx_a, 20), frames, "round {round} in {mode:?}");

            // The peer goes down: what is sent now is lost, and counted.
            lab.ip_b(&["link", "set", "v1", "down"]).unwrap();
            let before = (tx.stats(), rx.stats());
            send_all(&mut tx, &frames);
            until(|| {
                tx.reap();
                tx.room() == 512
            });
            assert_eq!(tx.stats().failed - before.0.failed, 20, "{:?}", tx.stats());
            assert_eq!(tx.stats().completed, tx.stats().frames);
            // Sending on an interface that is down itself is an error that says so.
            assert!(tx_b.send(&frames[0]).unwrap());
            let e = tx_b.kick().unwrap_err();
            assert_eq!(e.kind, linerate_common::ErrorKind::LinkDown, "{e}");
            assert_eq!(rx.poll(64, |_| ()).unwrap(), 0);

            lab.ip_b(&["link", "set", "v1", "up"]).unwrap();
            // The carrier comes back a little after the command has.
            until(|| {
                let failed = tx.stats().failed;
                send_all(&mut tx, &frames[..1]);
                tx.stats().failed == failed
            });
            assert_eq!(collect(&mut rx, 1), frames[..1]);
            // What was committed while it was down has waited.
            until(|| tx_b.kick().is_ok());
            assert_eq!(collect(&mut rx_a, 1), frames[..1]);
        }
    }
}

#[test]
fn an_interface_that_is_deleted_is_an_error() {
    let lab = lab_or_skip!();
    let ((_ra, mut tx), (mut rx, _tb)) = open_pair(&lab, &feed());
    send_all(&mut tx, &[udp_frame("239.1.1.1:5000", 1, 100)]);
    lab.ip_b(&["link", "del", "v1"]).unwrap();
    rx.waitable().unwrap().arm().unwrap_err();
    // What came before is still there.
    assert_eq!(rx.poll(64, |_| ()).unwrap(), 1);
    let e = rx.poll(64, |_| ()).unwrap_err();
    assert_eq!(e.kind, linerate_common::ErrorKind::DeviceGone);
    assert!(tx.send(&[0; 60]).unwrap());
    assert_eq!(tx.kick().unwrap_err().kind, linerate_common::ErrorKind::DeviceGone);
}
