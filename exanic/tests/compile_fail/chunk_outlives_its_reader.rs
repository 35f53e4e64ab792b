//! The ring stays mapped as long as a chunk of it is looked at.
use linerate_exanic::{Arrival, CutThrough};

fn late(mut feed: CutThrough) -> bool {
    let Arrival::Chunk(chunk) = feed.next_chunk() else { return false };
    drop(feed); //~ E0505
    chunk.still_valid()
}

fn main() {
    let _ = late;
}
