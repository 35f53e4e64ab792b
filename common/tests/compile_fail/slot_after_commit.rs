//! A slot belongs to the card once it is committed.
use linerate_common::FrameTx;

fn late(tx: &mut dyn FrameTx) {
    if let Some(slot) = tx.reserve(60) {
        tx.commit(60); //~ E0499
        slot[0] = 1;
    }
}

fn main() {
    let _ = late;
}
