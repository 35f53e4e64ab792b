//! Rings of all kinds, read by an assembler.

use super::*;
use crate::ring::tests::TestRing;
use crate::shared::RING_CHUNKS;
use proptest::prelude::*;

fn bytes_of(words: &[u64], len: usize) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).take(len).collect()
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn every_length_from_1_to_9600_comes_out_whole() {
    let mut ring = TestRing::new();
    let mut walk = Assembler::new(ring.ring(), 120);
    let mut buf = vec![0; 9728 / 8];
    for len in (1..=9600).step_by(if cfg!(miri) { 2399 } else { 1 }) {
        let frame = pattern(len, len as u8);
        ring.put_frame(&frame, len as u32, 0);
        let Step::Frame(whole) = walk.next(&mut buf) else { panic!("length {len}") };
        assert_eq!((whole.len, whole.copied, whole.joint), (len, len, 0));
        assert_eq!(whole.info.timestamp(), len as u32);
        assert_eq!(bytes_of(&buf, len), frame, "length {len}");
        assert_eq!(walk.next(&mut buf), Step::Empty);
    }
}

#[test]
fn a_frame_is_taken_up_where_it_was_left() {
    let mut ring = TestRing::new();
    let mut walk = Assembler::new(ring.ring(), 120);
    let mut buf = vec![0; 64];
    let frame = pattern(300, 7);
    for (i, part) in frame.chunks(120).enumerate() {
        assert_eq!(walk.next(&mut buf), Step::Empty);
        ring.put(part, 1, 0, i == 2);
    }
    assert!(matches!(walk.next(&mut buf), Step::Frame(Whole { len: 300, .. })));
    assert_eq!(bytes_of(&buf, 300), frame);
}

#[test]
fn of_a_frame_that_is_too_long_the_beginning_is_kept() {
    let mut ring = TestRing::new();
    let mut walk = Assembler::new(ring.ring(), 120);
    let mut buf = vec![0; 40];
    let frame = pattern(1000, 9);
    ring.put_frame(&frame, 1, 0);
    let Step::Frame(whole) = walk.next(&mut buf) else { panic!("a frame") };
    assert_eq!((whole.len, whole.copied), (1000, 240));
    assert_eq!(bytes_of(&buf, 240), &frame[..240]);
    // Chunks that did not fit were not begun, and the next frame is none the worse.
    assert_eq!(buf[30..], [0; 10]);
    ring.put_frame(&frame[..64], 2, 0);
    assert!(matches!(walk.next(&mut buf), Step::Frame(Whole { len: 64, copied: 64, .. })));
}

#[test]
fn a_chunk_that_is_being_overwritten_is_not_believed() {
    let mut ring = TestRing::new();
    let mut walk = Assembler::new(ring.ring(), 120);
    let mut buf = vec![0; 16];
    // The reader has a frame of one chunk before it, at index 5, and the card comes round to
    // just before that one.
    for i in 0..5 {
        ring.put_frame(&[1; 60], i, 0);
        assert!(matches!(walk.next(&mut buf), Step::Frame(_)));
    }
    ring.put_frame(&[2; 60], 5, 0);
    while ring.pos % u64::from(RING_CHUNKS) != 4 {
        ring.put_frame(&[3; 60], 6, 0);
    }
    // The last moment: everything but the one chunk before may be overwritten by now.
    let mut early = Assembler { ring: walk.ring, ..walk };
    assert!(matches!(early.next(&mut buf), Step::Frame(_)));
    // The chunk before is overwritten, and the frame's own still shows its old generation.
    ring.put_frame(&[3; 60], 6, 0);
    assert_eq!(walk.next(&mut buf), Step::Lapped);
    assert_eq!(walk.next(&mut buf), Step::Empty, "the newest end");
    ring.put_frame(&[4; 60], 7, 0);
    assert!(matches!(walk.next(&mut buf), Step::Frame(_)));
    assert_eq!(bytes_of(&buf, 60), [4; 60]);
}

#[test]
fn the_short_way_takes_good_single_chunks_and_nothing_else() {
    let mut ring = TestRing::new();
    let mut walk = Assembler::new(ring.ring(), 120);
    let mut buf = [0; PAYLOAD_WORDS];
    assert_eq!(walk.single(&mut buf), None, "nothing there");
    for len in [5, 64, 120] {
        let frame = pattern(len, 3);
        ring.put_frame(&frame, 7, 0);
        let (taken, info) = walk.single(&mut buf).expect("a frame");
        assert_eq!((taken, info.timestamp()), (len, 7));
        assert_eq!(bytes_of(&buf, len), frame);
    }
    let mut long = vec![0; 64];
    // Too short, bad, of two chunks: left for the long way, which finds them untouched.
    for (len, status) in [(4, 0), (64, 2), (121, 0)] {
        ring.put_frame(&pattern(len, 4), 8, status);
        assert_eq!(walk.single(&mut buf), None);
        let Step::Frame(whole) = walk.next(&mut long) else { panic!("length {len}") };
        assert_eq!((whole.len, whole.info.status()), (len, status));
    }
    // The second chunk of a frame is no frame.
    ring.put(&[1; 120], 9, 0, false);
    assert_eq!(walk.next(&mut long), Step::Empty);
    ring.put(&[1; 60], 9, 0, true);
    assert_eq!(walk.single(&mut buf), None);
    assert!(matches!(walk.next(&mut long), Step::Frame(Whole { len: 180, .. })));
    // Overwritten up to the chunk before: still whole to look at, and not believed.
    ring.put_frame(&[2; 60], 10, 0);
    for i in 0..RING_CHUNKS - 1 {
        ring.put_frame(&[3; 60], i, 0);
    }
    assert_eq!(walk.single(&mut buf), None);
    assert_eq!(walk.next(&mut long), Step::Lapped);
}

#[test]
fn a_still_ring_is_known_by_one_look_and_any_change_is_seen() {
    let mut ring = TestRing::new();
    let mut walk = Assembler::new(ring.ring(), 120);
    let mut buf = vec![0; 64];
    assert!(!walk.is_still(), "nobody has looked yet");
    assert_eq!(walk.next(&mut buf), Step::Empty);
    assert!(walk.is_still());
    // A frame, also the first part of one.
    ring.put(&[1; 120], 9, 0, false);
    assert!(!walk.is_still());
    assert_eq!(walk.next(&mut buf), Step::Empty);
    assert!(walk.is_still());
    ring.put(&[1; 60], 9, 0, true);
    assert!(!walk.is_still());
    assert!(matches!(walk.next(&mut buf), Step::Frame(Whole { len: 180, .. })));
    assert!(!walk.is_still(), "a place where nobody has looked");
    assert_eq!(walk.next(&mut buf), Step::Empty);
    // Laps, of any number.
    for laps in [1, 255, 256] {
        assert!(walk.is_still());
        ring.pos += (laps - 1) * u64::from(RING_CHUNKS);
        for i in 0..RING_CHUNKS {
            ring.put_frame(&[2; 60], 1000 * laps as u32 + i, 0);
        }
        assert!(!walk.is_still(), "{laps} laps");
        assert_eq!(walk.next(&mut buf), Step::Lapped);
        assert_eq!(walk.next(&mut buf), Step::Empty);
    }
}

#[test]
fn laps_are_noticed_at_any_number_of_them() {
    let all = [1, 2, 254, 255, 256, 257, 512];
    for laps in if cfg!(miri) { &all[4..5] } else { &all } {
        for more in [0_u64, 1, 5] {
            let mut ring = TestRing::new();
            let mut walk = Assembler::new(ring.ring(), 120);
            let mut buf = vec![0; 16];
            ring.put_frame(&[1; 60], 1, 0);
            assert!(matches!(walk.next(&mut buf), Step::Frame(_)));
            // All that matters of the laps before the last is how many there were.
            ring.pos += (laps - 1) * u64::from(RING_CHUNKS);
            for i in 0..u64::from(RING_CHUNKS) + more {
                ring.put_frame(&[2; 60], 1000 + i as u32, 0);
            }
            assert_eq!(walk.next(&mut buf), Step::Lapped, "{laps} laps and {more}");
            assert_eq!(walk.next(&mut buf), Step::Empty);
            ring.put_frame(&[3; 60], 9, 0);
            assert!(matches!(walk.next(&mut buf), Step::Frame(_)));
            assert_eq!(bytes_of(&buf, 60), [3; 60]);
        }
    }
}

#[test]
fn a_full_ring_less_one_chunk_can_be_read() {
    let mut ring = TestRing::new();
    let mut walk = Assembler::new(ring.ring(), 120);
    let mut buf = vec![0; 16];
    for i in 0..RING_CHUNKS - 1 {
        ring.put_frame(&i.to_ne_bytes(), i, 0);
    }
    for i in 0..RING_CHUNKS - 1 {
        assert!(matches!(walk.next(&mut buf), Step::Frame(_)));
        assert_eq!(bytes_of(&buf, 4), i.to_ne_bytes());
    }
    assert_eq!(walk.next(&mut buf), Step::Empty);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

    /// Frames of any length and status, put chunk by chunk, with looks at any moment.
    #[test]
    fn frames_come_out_in_order_whenever_one_looks(
        frames in prop::collection::vec((1_usize..2000, 0_u8..4, any::<u8>()), 1..60),
        looks in prop::collection::vec(any::<bool>(), 64),
    ) {
        let mut ring = TestRing::new();
        let mut walk = Assembler::new(ring.ring(), 120);
        let mut buf = vec![0; 256];
        let mut looks = looks.iter().cycle();
        let mut seen = 0;
        let mut check = |walk: &mut Assembler| {
            while let Step::Frame(whole) = walk.next(&mut buf) {
                let (len, status, seed) = frames[seen];
                assert_eq!((whole.len, whole.info.status()), (len, status));
                assert_eq!(bytes_of(&buf, len), pattern(len, seed));
                seen += 1;
            }
            seen
        };
        for (i, (len, status, seed)) in frames.iter().enumerate() {
            let frame = pattern(*len, *seed);
            let parts = frame.chunks(120).count();
            for (at, part) in frame.chunks(120).enumerate() {
                let last = at + 1 == parts;
                ring.put(part, i as u32, if last { *status } else { 0 }, last);
                if *looks.next().unwrap() {
                    check(&mut walk);
                }
            }
        }
        prop_assert_eq!(check(&mut walk), frames.len());
    }
}
