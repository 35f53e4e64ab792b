//! The pair in memory: what the traits cost without any card.

use linerate::AnyRx;
use linerate_common::loopback::{self, LoopRx, Options};
use linerate_common::{ClockInfo, Clocked, FrameTx};

use super::frame;
use crate::{Case, ROUND_RX, ROUND_TX, feed};

pub(super) fn case(way: &str, frame_bytes: usize) -> Option<Case> {
    let options = Options { ring_slots: 2 * ROUND_RX, stamps: false, ..Options::default() };
    let (mut tx, mut rx) = loopback::pair(&options).unwrap();
    let bytes = frame(frame_bytes);
    if way == "send" {
        let stage = move || {
            use linerate_common::FrameRx;
            while rx.poll(ROUND_TX, |_| ()).unwrap() > 0 {}
        };
        return Some(feed::transmit(tx, bytes, stage));
    }
    let stage = move || {
        tx.reap();
        for _ in 0..ROUND_RX {
            assert!(tx.send(&bytes).unwrap());
        }
        tx.kick().unwrap();
    };
    feed::receive(way, rx, |rx: LoopRx| AnyRx::Custom(Box::new(rx)), stage)
}

// `AnyRx::Custom` asks for a clock.
const _: fn(&LoopRx) -> ClockInfo = LoopRx::clock;
