//! Frames in their places, and frames anywhere, from a kernel that is played.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use linerate_common::clock::{PhcReading, PhcWatch};
use linerate_common::{BufRx, ClockDomain, Clocked, FrameRx, RxFlags, RxMeta, Waitable};

use crate::played::Kernel;
use crate::ring::Desc;
use crate::steer::FrameMeta;
use crate::sys::XDP_PKT_CONTD;

use super::XdpRx;

const SLOTS: u32 = 64;

/// The first bytes of the frames of one poll.
fn poll(rx: &mut XdpRx, max: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    let n = rx.poll(max, |frame| seen.push(frame.bytes[0])).unwrap();
    assert_eq!(n, seen.len());
    seen
}

/// The same by a window.
fn window(rx: &mut XdpRx, max: usize) -> Vec<u8> {
    let n = rx.acquire(max).unwrap();
    let seen = (0..n).map(|i| rx.frame(i).bytes[0]).collect();
    rx.release();
    seen
}

/// Takes all that is lent, and lends it again: every frame must be there once.
fn lent(kernel: &Kernel) -> Vec<u64> {
    let all: Vec<u64> = std::iter::from_fn(|| kernel.fill.take()).collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), SLOTS as usize, "one is lent twice");
    all
}

#[test]
fn frames_in_their_places_stay_there() {
    let kernel = Kernel::new(SLOTS);
    let (mut rx, _tx) = kernel.queue();
    let mut number = 0;
    // Bursts of all sizes, so that the rings' ends come anywhere in them.
    for burst in (1..=SLOTS).chain([SLOTS; 3]) {
        let frames: Vec<u8> = (0..burst).map(|i| (number + i) as u8).collect();
        number += burst;
        frames.iter().for_each(|n| assert!(kernel.bring(&[*n; 60])));
        let turn = if burst % 2 == 0 { poll } else { window };
        assert_eq!(turn(&mut rx, 64), frames);
    }
    assert_eq!(rx.stats().frames, u64::from(number));
    assert_eq!(rx.stats().bytes, u64::from(number) * 60);
    lent(&kernel);
}

#[test]
fn frames_in_another_order_are_as_good() {
    let kernel = Kernel::new(SLOTS);
    let (mut rx, _tx) = kernel.queue();
    for turn in [poll, window, poll] {
        let starts: Vec<u64> = (0..20).map(|_| kernel.fill.take().unwrap()).collect();
        // Five as lent, and the others the other way round.
        let order = starts[..5].iter().chain(starts[5..].iter().rev());
        for (n, start) in order.enumerate() {
            kernel.bring_in(*start, &[n as u8; 60]);
        }
        assert_eq!(turn(&mut rx, 64), (0..20).collect::<Vec<u8>>());
    }
    assert_eq!(rx.stats().malformed, 0);
    lent(&kernel);
}

#[test]
fn lengths_options_and_places_are_checked_in_place_too() {
    let kernel = Kernel::new(SLOTS);
    let (mut rx, _tx) = kernel.queue();
    let wrong: [fn(u64) -> Desc; 4] = [
        |start| Desc { addr: start + 256, len: 2048 - 255, options: 0 },
        |start| Desc { addr: start + 256, len: u32::MAX, options: u32::MAX },
        |start| Desc { addr: start.wrapping_sub(1), len: 60, options: 0 },
        |start| Desc { addr: start + 256 + (1 << 40), len: 60, options: 0 },
    ];
    for turn in [poll, window] {
        for wrong in wrong {
            let before = rx.stats().malformed;
            assert!(kernel.bring(&[1; 60]));
            let start = kernel.fill.take().unwrap();
            kernel.rx.give(wrong(start));
            assert!(kernel.bring(&[3; 60]));
            assert_eq!(turn(&mut rx, 64), [1, 3]);
            assert_eq!(rx.stats().malformed, before + 1);
        }
    }
    // A frame in parts, with its end, is none; one that begins elsewhere is.
    let start = kernel.fill.take().unwrap();
    kernel.rx.give(Desc { addr: start + 256, len: 60, options: XDP_PKT_CONTD });
    let start = kernel.fill.take().unwrap();
    kernel.rx.give(Desc { addr: start + 256, len: 60, options: 0 });
    let start = kernel.fill.take().unwrap();
    kernel.rx.give(Desc { addr: start + 100, len: 60, options: 0 });
    let mut lengths = Vec::new();
    rx.poll(64, |frame| lengths.push(frame.bytes.len())).unwrap();
    assert_eq!(lengths, [60]);
    assert_eq!(rx.stats().truncated, 1);
}

/// The slot in which it stood must not vouch for a frame that the application has.
#[test]
fn a_frame_that_was_taken_is_not_shown_again() {
    let kernel = Kernel::new(SLOTS);
    let (mut rx, _tx) = kernel.queue();
    // One frame comes twice and another never.
    let (twice, _never) = (kernel.fill.take().unwrap(), kernel.fill.take().unwrap());
    kernel.bring_in(twice, &[1; 60]);
    kernel.bring_in(twice, &[1; 60]);
    assert_eq!(poll(&mut rx, 64).len(), 2);
    for _ in 2..SLOTS {
        assert!(kernel.bring(&[2; 60]));
    }
    assert_eq!(poll(&mut rx, 64).len(), SLOTS as usize - 2);
    // It is in two slots now. Taken from the first, it is the application's.
    assert!(kernel.bring(&[3; 60]));
    assert_eq!(rx.acquire(64).unwrap(), 1);
    let buf = rx.take(0).unwrap();
    rx.release();
    assert_eq!(kernel.fill.take(), Some(twice));
    kernel.bring_in(twice, &[4; 60]);
    assert_eq!(poll(&mut rx, 64), []);
    assert_eq!(rx.stats().malformed, 1);
    rx.pool().free(buf).unwrap();
}

#[test]
fn after_a_panic_all_are_lent_again() {
    let kernel = Kernel::new(SLOTS);
    let (mut rx, _tx) = kernel.queue();
    for i in 0..10 {
        assert!(kernel.bring(&[i; 60]));
    }
    let poll_once = std::panic::AssertUnwindSafe(|| {
        rx.poll(64, |frame| assert!(frame.bytes[0] < 5, "as wanted"))
    });
    assert!(std::panic::catch_unwind(poll_once).is_err());
    assert_eq!(poll(&mut rx, 64), []);
    assert_eq!(lent(&kernel).len(), SLOTS as usize);
}

#[test]
fn a_card_that_is_moved_to_tai_is_followed() {
    const COOKIE: u64 = 0x1122_3344_5566_7788;
    const UTC_NS: u64 = 1_790_000_000_000_000_000;
    const AHEAD_NS: u64 = 37_000_000_000;
    let kernel = Kernel::new(SLOTS);
    let (mut rx, _tx) = kernel.queue();
    let ahead = Arc::new(AtomicI64::new(0));
    let shown = Arc::clone(&ahead);
    let read = move || Some(PhcReading { ahead_ns: shown.load(Ordering::Relaxed), tai_s: 37 });
    rx.watch(PhcWatch::with(2, read));
    rx.expect_meta(COOKIE);
    // A frame that the card stamped, as the queue shows it.
    let stamped = |rx: &mut XdpRx, ts_ns: u64| {
        let start = kernel.fill.take().unwrap();
        kernel.bring_in(start, &[7; 60]);
        let meta = FrameMeta { ts_ns, mark: 0, has_ts: 1, cookie: COOKIE };
        let at = start as usize + crate::sys::XDP_PACKET_HEADROOM - size_of::<FrameMeta>();
        // SAFETY: in front of the frame, in the kernel's hands, which this is.
        unsafe { kernel.memory().add(at).cast::<FrameMeta>().write_unaligned(meta) };
        let mut seen = RxMeta::plain(0);
        assert_eq!(rx.poll(1, |frame| seen = frame.meta).unwrap(), 1);
        (seen.ts_ns, seen.flags)
    };
    assert_eq!(stamped(&mut rx, UTC_NS), (UTC_NS, RxFlags::TS_HW));
    // To TAI, which `stats` notices, and back to UTC, which `arm` does.
    type Look = fn(&mut XdpRx);
    let ways: [(Look, u64, ClockDomain); 2] = [
        (|rx| _ = rx.stats(), AHEAD_NS, ClockDomain::PhcTai(2)),
        (|rx| rx.arm().unwrap(), 0, ClockDomain::Phc(2)),
    ];
    for (look, now_ahead, domain) in ways {
        ahead.store(now_ahead as i64, Ordering::Relaxed);
        let begun = Instant::now();
        while rx.clock().domain != domain {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody looked");
            look(&mut rx);
        }
        let unsure = RxFlags::TS_HW | RxFlags::TS_UNSYNCED;
        assert_eq!(stamped(&mut rx, UTC_NS + now_ahead), (UTC_NS, unsure), "of either, perhaps");
        assert_eq!(rx.clock().synced, Some(false));
        while rx.clock().synced.is_some() {
            look(&mut rx);
        }
        assert_eq!(stamped(&mut rx, UTC_NS + now_ahead), (UTC_NS, RxFlags::TS_HW));
    }
}
