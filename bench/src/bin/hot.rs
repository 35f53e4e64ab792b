//! Runs one case: `hot CARD LOOP [FRAME_BYTES]`. Prints how many frames were measured, and sums
//! over what was seen. Meant to be run under callgrind, by `instructions`.

use linerate_bench::{CARDS, LOOPS, case, linerate_bench_measured};

/// Rounds before measuring, so that caches, page tables and lazy bindings are what they stay.
const WARM_UP: usize = 4;
const ROUNDS: usize = 16;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [card, way, rest @ ..] = &words[..] else {
        eprintln!("usage: hot CARD LOOP [FRAME_BYTES]\ncards: {CARDS:?}\nloops: {LOOPS:?}");
        std::process::exit(2);
    };
    let bytes = rest.first().and_then(|b| b.parse().ok()).unwrap_or(60);
    let Some(mut case) = case(card, way, bytes) else {
        eprintln!("there is no {card} {way}");
        std::process::exit(3);
    };
    let mut frames = 0;
    for round in 0..WARM_UP + ROUNDS {
        (case.stage)();
        if round < WARM_UP {
            (case.hot)();
        } else {
            frames += linerate_bench_measured(&mut *case.hot);
        }
    }
    let seen = (case.seen)();
    println!("frames {frames}");
    println!("seen {} {} {:x}", seen.frames, seen.bytes, seen.words);
}
