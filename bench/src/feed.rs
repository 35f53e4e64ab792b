//! The loops over a queue of any kind, each in a function of its own.

use std::cell::Cell;
use std::rc::Rc;

use linerate::AnyRx;
use linerate_common::{FrameRx, FrameRxExt, FrameTx, MAX_BURST};

use crate::{Case, ROUND_RX, ROUND_TX, Sink};

/// The closure form.
#[inline(never)]
fn poll<R: FrameRx>(rx: &mut R, sink: &mut Sink) -> usize {
    let mut n = 0;
    while n < ROUND_RX {
        n += rx.poll(MAX_BURST, |frame| sink.see(frame)).unwrap();
    }
    n
}

/// The guard form; with `R = dyn FrameRx` every call goes through the table.
#[inline(never)]
fn burst<R: FrameRx + ?Sized>(rx: &mut R, sink: &mut Sink) -> usize {
    let mut n = 0;
    while n < ROUND_RX {
        let burst = rx.burst(MAX_BURST).unwrap();
        burst.iter().for_each(|frame| sink.see(frame));
        n += burst.len();
    }
    n
}

/// Polls of a queue in which there is nothing.
#[inline(never)]
fn idle<R: FrameRx>(rx: &mut R, sink: &mut Sink) -> usize {
    for _ in 0..ROUND_RX {
        rx.poll(MAX_BURST, |frame| sink.see(frame)).unwrap();
    }
    ROUND_RX
}

/// A group of frames copied in, and one doorbell.
#[inline(never)]
fn send<T: FrameTx>(tx: &mut T, frame: &[u8]) -> usize {
    tx.reap();
    for _ in 0..ROUND_TX {
        assert!(tx.send(frame).unwrap());
    }
    tx.kick().unwrap();
    ROUND_TX
}

/// The case of a receive loop. `None`: no such loop.
pub(crate) fn receive<R: FrameRx + 'static>(
    way: &str,
    mut rx: R,
    any: fn(R) -> AnyRx,
    stage: impl FnMut() + 'static,
) -> Option<Case> {
    let seen = Rc::new(Cell::new(Sink::default()));
    let sums = Rc::clone(&seen);
    let mut sink = Sink::default();
    let mut stage: Box<dyn FnMut()> = Box::new(stage);
    let mut hot: Box<dyn FnMut(&mut Sink) -> usize> = match way {
        "poll" => Box::new(move |sink| poll(&mut rx, sink)),
        "burst" => Box::new(move |sink| burst(&mut rx, sink)),
        "dyn" => {
            let mut rx: Box<dyn FrameRx> = Box::new(rx);
            Box::new(move |sink| burst(&mut *rx, sink))
        }
        "any" => {
            let mut rx = any(rx);
            Box::new(move |sink| poll(&mut rx, sink))
        }
        "idle" => {
            stage = Box::new(|| ());
            Box::new(move |sink| idle(&mut rx, sink))
        }
        _ => return None,
    };
    let hot = Box::new(move || {
        let n = hot(&mut sink);
        sums.set(sink);
        n
    });
    Some(Case { stage, hot, seen: Box::new(move || seen.get()) })
}

/// The case of the send loop.
pub(crate) fn transmit<T: FrameTx + 'static>(
    mut tx: T,
    frame: Vec<u8>,
    stage: impl FnMut() + 'static,
) -> Case {
    let hot = Box::new(move || send(&mut tx, &frame));
    Case { stage: Box::new(stage), hot, seen: Box::new(Sink::default) }
}
