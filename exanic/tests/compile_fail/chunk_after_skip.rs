//! A chunk is gone when its frame is passed over.
use linerate_exanic::{Arrival, CutThrough};

fn late(feed: &mut CutThrough) -> bool {
    let Arrival::Chunk(chunk) = feed.next_chunk() else { return false };
    feed.skip_frame(); //~ E0499
    chunk.still_valid()
}

fn main() {
    let _ = late;
}
