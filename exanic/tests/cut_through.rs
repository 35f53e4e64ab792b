//! Chunks as they arrive.

mod rig;

use linerate_common::NO_TS;
use linerate_exanic::{Arrival, CutThrough, FrameStatus, Options};
use linerate_sim::exanic::{Card, FrameState};
use rig::{frame, open};

fn bench() -> (Card, CutThrough) {
    let card = Card::builder().manual_clock(rig::START).build();
    let cut = open(&card, 0, &Options::default()).cut_through();
    (card, cut.expect("a reader"))
}

#[test]
fn the_beginning_is_there_before_the_end() {
    let (card, mut cut) = bench();
    let sent = frame(1000, 1);
    let mut arriving = card.arriving(0, &sent, FrameState::Good).unwrap();
    assert!(matches!(cut.next_chunk(), Arrival::Nothing));
    let mut got = Vec::new();
    let mut stamps = Vec::new();
    while arriving.chunk() {
        let Arrival::Chunk(chunk) = cut.next_chunk() else { panic!("a chunk") };
        assert_eq!((chunk.offset(), chunk.is_first()), (got.len(), got.is_empty()));
        assert_eq!(chunk.end().is_some(), arriving.chunks_left() == 0);
        let mut bytes = [0; 120];
        let n = chunk.copy_to(&mut bytes);
        assert!(chunk.still_valid());
        assert_eq!(n, chunk.len());
        got.extend_from_slice(&bytes[..n]);
        stamps.push(chunk.ts_ns());
        assert!(matches!(cut.next_chunk(), Arrival::Nothing));
    }
    assert_eq!(got, [sent.as_slice(), &crc32fast::hash(&sent).to_le_bytes()].concat());
    assert!(stamps[0] != NO_TS && stamps.iter().all(|ts| *ts == stamps[0]));
    assert_eq!((cut.stats().frames, cut.stats().bytes), (1, 1004));
}

#[test]
fn single_fields_are_loaded_and_checked() {
    let (card, mut cut) = bench();
    let sent = frame(200, 7);
    card.inject(0, &sent);
    let Arrival::Chunk(chunk) = cut.next_chunk() else { panic!("a chunk") };
    for at in 0..=112 {
        assert_eq!(chunk.load::<8>(at), sent[at..at + 8]);
    }
    let beyond = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chunk.load::<2>(119)));
    assert!(beyond.is_err());
    let mut few = [0; 10];
    assert_eq!(chunk.copy_to(&mut few), 10);
    assert_eq!(few, sent[..10]);
}

#[test]
fn the_rest_of_a_frame_can_be_passed_over() {
    let (card, mut cut) = bench();
    let mut arriving = card.arriving(0, &frame(1500, 1), FrameState::Good).unwrap();
    arriving.chunk();
    let Arrival::Chunk(first) = cut.next_chunk() else { panic!("a chunk") };
    assert!(first.is_first());
    cut.skip_frame();
    for _ in 0..5 {
        arriving.chunk();
        assert!(matches!(cut.next_chunk(), Arrival::Nothing));
    }
    arriving.finish();
    card.inject(0, &frame(60, 2));
    let Arrival::Chunk(next) = cut.next_chunk() else { panic!("the next frame") };
    assert_eq!((next.is_first(), next.load::<8>(14)), (true, 2_u64.to_be_bytes()));
    // Between frames there is nothing to pass over.
    cut.skip_frame();
    card.inject(0, &frame(60, 3));
    let Arrival::Chunk(next) = cut.next_chunk() else { panic!("the next frame") };
    assert_eq!(next.load::<8>(14), 3_u64.to_be_bytes());
    assert_eq!(cut.stats().frames, 3);
}

#[test]
fn the_end_says_how_the_frame_was() {
    let (card, mut cut) = bench();
    for (state, status) in [
        (FrameState::Corrupt, FrameStatus::Corrupt),
        (FrameState::Aborted, FrameStatus::Aborted),
        (FrameState::Good, FrameStatus::Good),
    ] {
        card.inject_as(0, &frame(60, 1), state);
        let Arrival::Chunk(chunk) = cut.next_chunk() else { panic!("a chunk") };
        assert_eq!(chunk.end(), Some(status));
    }
    assert_eq!((cut.stats().crc, cut.stats().malformed, cut.stats().frames), (1, 1, 1));
}

#[test]
fn bytes_that_were_overwritten_are_known_to_be() {
    let (card, mut cut) = bench();
    card.inject(0, &frame(60, 1));
    card.inject(0, &frame(60, 2));
    assert!(matches!(cut.next_chunk(), Arrival::Chunk(_)));
    let Arrival::Chunk(chunk) = cut.next_chunk() else { panic!("a chunk") };
    assert!(chunk.still_valid());
    // The card comes round: first to the chunk before, then into this one, payload first.
    card.flood(0, &frame(60, 8), 16_384 - 2);
    assert!(chunk.still_valid());
    card.inject(0, &frame(60, 9));
    let mut arriving = card.arriving(0, &frame(60, 10), FrameState::Good).unwrap();
    arriving.payload();
    assert_eq!(chunk.load::<8>(14), 10_u64.to_be_bytes(), "the new bytes are in place");
    assert!(!chunk.still_valid());
    arriving.finish();
    assert!(matches!(cut.next_chunk(), Arrival::Lapped));
}

#[test]
fn laps_are_noticed_even_256_of_them() {
    for laps in [1, 255, 256, 257] {
        let (card, mut cut) = bench();
        card.inject(0, &frame(60, 1));
        assert!(matches!(cut.next_chunk(), Arrival::Chunk(_)));
        card.flood(0, &frame(60, 2), laps * 16_384);
        assert!(matches!(cut.next_chunk(), Arrival::Lapped), "{laps} laps");
        assert!(matches!(cut.next_chunk(), Arrival::Nothing));
        assert_eq!(cut.stats().ring_lapped, 1);
    }
}
