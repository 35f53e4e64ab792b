//! A chunk is gone when the next one is asked for.
use linerate_exanic::{Arrival, CutThrough};

fn late(feed: &mut CutThrough) -> bool {
    let Arrival::Chunk(chunk) = feed.next_chunk() else { return false };
    let next = feed.next_chunk(); //~ E0499
    chunk.still_valid() && matches!(next, Arrival::Nothing)
}

fn main() {
    let _ = late;
}
