//! Frames made ready ahead of time: the same program on cards that hold them and on others.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use linerate::{AnyRx, Direction, ErrorKind, FrameRx, Preloaded, Waits};

const LIMIT: Duration = Duration::from_secs(60);

fn frame(slot: u8) -> Vec<u8> {
    let mut frame = vec![slot; 100];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// Waits until a frame comes.
fn next(rx: &mut AnyRx) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        let mut got = None;
        rx.poll(1, |frame| got = Some(frame.bytes.to_vec())).unwrap();
        match got {
            Some(bytes) => return bytes,
            None => assert!(begun.elapsed() < LIMIT, "no frame came"),
        }
        std::thread::yield_now();
    }
}

/// Fires a slot, when what was fired before from it has left.
fn fire(slots: &mut Preloaded, slot: usize) {
    let begun = Instant::now();
    while !slots.is_armed(slot) {
        slots.reap().unwrap();
        assert!(begun.elapsed() < LIMIT, "slot {slot} stays busy");
    }
    assert_eq!(slots.fire(slot), Ok(true));
}

#[test]
fn slots_are_loaded_patched_and_fired_in_any_order() {
    for (card, waits) in
        [("exanic", Waits::InCard), ("efvi", Waits::InCard), ("verbs", Waits::InMemory)]
    {
        let uri = format!("sim:{card}?cable=preloaded");
        let from = linerate::port(&uri).direction(Direction::Tx).preload(3, 256).open().unwrap();
        let mut to = linerate::port(&uri).direction(Direction::Rx).open().unwrap();
        let (mut from, rx) = (from, &mut to.rx[0]);
        assert!(from.tx.is_none());
        let slots = from.preloaded.as_mut().unwrap();
        assert_eq!((slots.waits(), slots.slots(), slots.max_len()), (waits, 3, 256), "{card}");

        assert_eq!(slots.fire(0).unwrap_err().kind, ErrorKind::BadArgument, "nothing loaded");
        for slot in 0..3 {
            assert_eq!(slots.load(slot, &frame(slot as u8)), Ok(true), "{card}");
        }
        assert_eq!(slots.load(3, &frame(3)).unwrap_err().kind, ErrorKind::BadArgument);
        assert_eq!(slots.load(0, &[0; 257]).unwrap_err().kind, ErrorKind::BadLength);
        assert_eq!(slots.patch(0, 99, &[0; 2]).unwrap_err().kind, ErrorKind::BadLength);
        // Only what is fired goes out.
        fire(slots, 2);
        assert_eq!(next(rx), frame(2), "{card}");
        slots.patch(0, 50, b"price").unwrap();
        fire(slots, 0);
        let mut patched = frame(0);
        patched[50..55].copy_from_slice(b"price");
        assert_eq!(next(rx), patched, "{card}");
        // A slot keeps its frame, patches included, until another is loaded.
        fire(slots, 0);
        assert_eq!(next(rx), patched, "{card}");
        fire(slots, 1);
        assert_eq!(slots.fire(1).unwrap_err().kind, ErrorKind::BadArgument, "in flight");
        assert_eq!(next(rx), frame(1), "{card}");
        while !slots.is_armed(1) {
            slots.reap().unwrap();
        }
        slots.load(1, &frame(9)).unwrap();
        fire(slots, 1);
        assert_eq!(next(rx), frame(9), "{card}");
        while slots.is_in_flight(1) {
            slots.reap().unwrap();
        }
        assert!(slots.stats().frames >= 5 && slots.stats().lost() == 0, "{card}");
    }
}
