//! Receiving under every fault that the simulated card knows.

mod rig;

use std::sync::atomic::Ordering::Relaxed;

use linerate_common::{FrameRx, FrameRxExt, NO_TS, RxFlags};
use linerate_exanic::{BadFrames, ExanicRx, FrameStatus, Options};
use linerate_sim::Plug;
use linerate_sim::exanic::{Card, FrameState};
use rig::{drain, frame, open_rx, options};

#[test]
fn frames_of_every_length_lose_their_check_sequence_or_keep_it() {
    let card = Card::new();
    let mut plain = open_rx(&card, 0, &Options::default());
    let mut whole = open_rx(&card, 0, &options(|o| o.keep_fcs = true));
    for len in (14..=9600).step_by(17).chain([9600]) {
        let sent = frame(len, len as u64);
        card.inject(0, &sent);
        let with_fcs = [sent.as_slice(), &crc32fast::hash(&sent).to_le_bytes()].concat();
        let [(bytes, meta)] = drain(&mut plain).try_into().unwrap();
        assert_eq!(bytes, sent, "{len} bytes");
        assert_eq!(meta.wire_len as usize, len);
        let [(bytes, meta)] = drain(&mut whole).try_into().unwrap();
        assert_eq!(bytes, with_fcs, "{len} bytes");
        assert_eq!(meta.wire_len as usize, len, "the wire length is without check sequence");
    }
}

#[test]
fn a_window_holds_several_frames_and_a_frame_cut_by_its_end_goes_on_in_the_next() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &Options::default());
    for i in 0..10 {
        card.inject(0, &frame(200, i));
    }
    let late = frame(700, 10);
    let mut arriving = card.arriving(0, &late, FrameState::Good).unwrap();
    assert!(arriving.chunk() && arriving.chunk());
    let burst = rx.burst(64).unwrap();
    assert_eq!(burst.len(), 10, "the unfinished frame is not shown");
    for (i, f) in burst.iter().enumerate() {
        assert_eq!(f.bytes, frame(200, i as u64));
    }
    drop(burst);
    // Its beginning, collected behind that window, moves to the front of the next.
    arriving.finish();
    assert_eq!(drain(&mut rx)[0].0, late);
}

#[test]
fn a_card_that_stops_in_mid_frame_never_holds_the_reader_up() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &Options::default());
    let slow = frame(1500, 1);
    let mut arriving = card.arriving(0, &slow, FrameState::Good).unwrap();
    for _ in 0..12 {
        arriving.chunk();
        for _ in 0..3 {
            assert_eq!(rx.poll(64, |_| ()).unwrap(), 0);
            assert_eq!(rx.acquire(64).unwrap(), 0);
        }
    }
    arriving.finish();
    assert_eq!(drain(&mut rx)[0].0, slow);
}

#[test]
fn a_frame_that_never_ends_does_not_spoil_the_one_behind_it() {
    let card = Card::builder().manual_clock(rig::START).build();
    for cut_at in [1, 5, 12] {
        let mut rx = open_rx(&card, 0, &Options::default());
        let mut arriving = card.arriving(0, &frame(1500, 1), FrameState::Good).unwrap();
        for _ in 0..cut_at {
            arriving.chunk();
        }
        drop(arriving);
        assert!(drain(&mut rx).is_empty());
        for len in [60, 1000] {
            card.inject(0, &frame(len, 2));
        }
        let got: Vec<_> = drain(&mut rx).into_iter().map(|(bytes, _)| bytes).collect();
        assert_eq!(got, [frame(60, 2), frame(1000, 2)]);
        assert_eq!((rx.stats().malformed, rx.stats().frames), (1, 2));
    }
}

#[test]
fn bad_frames_are_counted_each_under_its_name() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &Options::default());
    let faults = card.faults();
    for (every, n) in
        [(&faults.crc_every, 5), (&faults.abort_every, 4), (&faults.overflow_every, 3)]
    {
        every.store(2, Relaxed);
        for i in 0..n * 2 {
            card.inject(0, &frame(300, i));
        }
        every.store(0, Relaxed);
    }
    let got = drain(&mut rx);
    assert_eq!(got.len(), 12);
    assert!(
        got.iter()
            .all(|(bytes, meta)| { bytes.len() == 300 && !meta.flags.contains(RxFlags::BAD) })
    );
    let stats = rx.stats();
    assert_eq!((stats.crc, stats.malformed, stats.card_drop), (5, 4, 3));
    assert_eq!(stats.lost(), 12);
    let after_loss = got.iter().filter(|(_, m)| m.flags.contains(RxFlags::LOSS_BEFORE)).count();
    assert_eq!(after_loss, 2, "after a hardware overflow; the last has nothing behind it");
}

#[test]
fn bad_frames_are_delivered_with_length_and_status_when_asked_for() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &options(|o| o.bad_frames = BadFrames::Deliver));
    let states = [
        (FrameState::Corrupt, FrameStatus::Corrupt, 300),
        // Half of it came, and no check sequence.
        (FrameState::Aborted, FrameStatus::Aborted, 152),
        (FrameState::HardwareOverflow, FrameStatus::HardwareOverflow, 300),
    ];
    for (state, status, len) in states {
        let sent = frame(300, 1);
        card.inject_as(0, &sent, state);
        assert_eq!(rx.acquire(8).unwrap(), 1);
        assert_eq!(rx.frame_status(0), status);
        let got = rx.frame(0);
        assert_eq!(got.bytes, &sent[..len], "{state:?}");
        assert!(got.meta.flags.contains(RxFlags::BAD) && got.meta.ts_ns != NO_TS);
        rx.release();
    }
    assert_eq!((rx.stats().flagged, rx.stats().frames, rx.stats().crc), (3, 3, 0));
}

#[test]
fn frames_that_are_too_long_are_counted_or_cut() {
    let card = Card::new();
    let small = |o: &mut Options| o.max_frame_bytes = 500;
    let mut count = open_rx(&card, 0, &options(small));
    let mut cut = open_rx(
        &card,
        0,
        &options(|o| {
            small(o);
            o.bad_frames = BadFrames::Deliver;
        }),
    );
    for len in [499, 500, 2000, 60] {
        card.inject(0, &frame(len, 1));
    }
    assert_eq!(drain(&mut count).len(), 3);
    assert_eq!(count.stats().truncated, 1);
    let got = drain(&mut cut);
    let (bytes, meta) = &got[2];
    assert!(meta.flags.contains(RxFlags::TRUNCATED) && meta.wire_len == 2000);
    assert!(bytes.len() >= 480 && *bytes == frame(2000, 1)[..bytes.len()]);
}

#[test]
fn a_lapped_reader_says_so_and_goes_on_with_the_newest() {
    // Before the ring is full, at its brim, and every way of being beyond it: among them 256 laps,
    // after which the 8 bits of generation look as if nothing had happened.
    let ring = 16_384;
    let many = [ring, ring + 1, 3 * ring, 256 * ring - 1, 256 * ring, 256 * ring + 1];
    let card = Card::builder().manual_clock(rig::START).build();
    for frames in [ring - 1].into_iter().chain(many).chain([257 * ring, 512 * ring + 77]) {
        let mut rx = open_rx(&card, 0, &Options::default());
        card.inject(0, &frame(60, 1));
        assert_eq!(drain(&mut rx).len(), 1);
        card.flood(0, &frame(60, 2), frames);
        let got = drain(&mut rx).len() as u64;
        let lapped = frames >= ring;
        assert_eq!(got, if lapped { 0 } else { frames }, "{frames} frames");
        assert_eq!(rx.stats().ring_lapped, u64::from(lapped), "{frames} frames");
        card.inject(0, &frame(60, 3));
        let [(bytes, meta)] = drain(&mut rx).try_into().unwrap();
        assert_eq!(bytes, frame(60, 3));
        assert_eq!(meta.flags.contains(RxFlags::LOSS_BEFORE), lapped);
    }
}

#[test]
fn a_reader_that_stalls_300_ms_at_full_rate_reports_it() {
    let card = Card::builder().manual_clock(rig::START).build();
    for len in [60, 117, 1514] {
        let mut rx = open_rx(&card, 0, &Options::default());
        card.inject(0, &frame(len, 0));
        assert_eq!(drain(&mut rx).len(), 1);
        // What 10 Gb/s bring in that time; then the reader wakes while more is coming.
        let per_frame_ns = (len as u64 + 24) * 8 / 10;
        card.flood(0, &frame(len, 1), 300_000_000 / per_frame_ns);
        card.inject(0, &frame(len, 2));
        assert_eq!(drain(&mut rx).len(), 0, "{len} bytes");
        assert_eq!(rx.stats().ring_lapped, 1, "{len} bytes");
        card.inject(0, &frame(len, 3));
        assert_eq!(drain(&mut rx)[0].0, frame(len, 3));
    }
}

#[test]
fn a_frame_that_is_being_overwritten_is_never_shown() {
    let card = Card::builder().manual_clock(rig::START).build();
    let mut rx = open_rx(&card, 0, &Options::default());
    for i in 0..3 {
        card.inject(0, &frame(60, i));
    }
    assert_eq!(drain(&mut rx).len(), 3);
    card.inject(0, &frame(60, 3));
    // The card comes round to the chunk before that frame's.
    card.flood(0, &frame(60, 9), 16_384 - 2);
    let next = frame(60, 10);
    // It overwrites the chunk before, and then begins with the frame's own: new bytes under
    // metadata that still look right.
    card.inject(0, &next);
    let mut arriving = card.arriving(0, &next, FrameState::Good).unwrap();
    arriving.payload();
    assert!(drain(&mut rx).is_empty(), "torn bytes were shown");
    assert_eq!(rx.stats().ring_lapped, 1);
    arriving.finish();
    assert_eq!(drain(&mut rx)[0].0, next);
}

#[test]
fn nothing_arrives_without_link_and_everything_again_with_it() {
    let card = Card::new();
    let mut rx = open_rx(&card, 0, &Options::default());
    card.set_link(0, false);
    card.inject(0, &frame(60, 1));
    assert!(drain(&mut rx).is_empty());
    card.set_link(0, true);
    card.inject(0, &frame(60, 2));
    assert_eq!(drain(&mut rx).len(), 1);
}

#[test]
fn other_mac_addresses_come_in_promiscuous_mode_only() {
    let card = Card::new();
    let mut unicast = frame(60, 1);
    unicast[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    let mut own = frame(60, 2);
    own[..6].copy_from_slice(&card.mac(0));
    let mut rx = open_rx(&card, 0, &Options::default());
    card.inject(0, &unicast);
    card.inject(0, &own);
    assert_eq!(drain(&mut rx)[0].0, own);
    assert_eq!(rx.device().counters(0).unwrap().rx_ignored, 1);
    let all = open_rx(&card, 0, &options(|o| o.promiscuous = true));
    assert!(all.device().status(0).unwrap().promiscuous);
    card.inject(0, &unicast);
    assert_eq!(drain(&mut rx)[0].0, unicast, "the mode is the port's");
    drop(all);
    assert!(!rx.device().status(0).unwrap().promiscuous, "it ends with who asked for it");
}

/// Frames of random lengths from a wire, at the card's own pace, while the card pauses between
/// payload and metadata and a reader falls behind now and then. Nothing that is shown is wrong,
/// and no gap goes unannounced.
#[test]
fn a_hundred_thousand_frames_with_tears_and_laps() {
    const FRAMES: u64 = 100_000;
    let (wire, far) = Plug::pair();
    let card = Card::builder().plug(0, wire).build();
    card.faults().tear_ns.store(200, Relaxed);
    let mut rx = open_rx(&card, 0, &Options::default());
    let length = |i: u64| 60 + (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % 1440;
    let sender = std::thread::spawn(move || {
        for i in 0..FRAMES {
            while !far.send(&frame(length(i), i), linerate_sim::WireState::Good) {
                std::thread::yield_now();
            }
        }
    });
    let (mut next, mut shown, mut gaps, mut turn) = (0, 0, 0, 0_u64);
    let mut check = |bytes: &[u8], flags: RxFlags| {
        let i = rig::number(bytes);
        assert_eq!(bytes, frame(length(i), i), "frame {i}");
        assert!(i >= next, "order");
        if i > next {
            gaps += 1;
            assert!(flags.contains(RxFlags::LOSS_BEFORE), "{} frames lost silently", i - next);
        }
        (next, shown) = (i + 1, shown + 1);
    };
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let over = sender.is_finished() && card.counters(0).rx_count as u64 == FRAMES;
        turn += 1;
        let n = if turn.is_multiple_of(2) {
            rx.poll(64, |f| check(f.bytes, f.meta.flags)).unwrap()
        } else {
            let burst = rx.burst(64).unwrap();
            burst.iter().for_each(|f| check(f.bytes, f.meta.flags));
            burst.len()
        };
        if over && n == 0 {
            break;
        }
        if turn.is_multiple_of(5000) {
            // Far more than the ring holds.
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(std::time::Instant::now() < patience, "stuck at {next}");
    }
    sender.join().unwrap();
    let stats = rx.stats();
    assert_eq!(stats.frames, shown);
    assert!(stats.ring_lapped >= gaps, "{stats:?}");
}

#[test]
fn queues_may_move_to_another_thread() {
    fn check<T: Send>() {}
    check::<ExanicRx>();
    check::<linerate_exanic::ExanicTx>();
    check::<linerate_exanic::CutThrough>();
    check::<linerate_exanic::Preloaded>();
}
