//! One slot is reserved at a time.
use linerate_common::FrameTx;

fn two(tx: &mut dyn FrameTx) {
    let one = tx.reserve(60);
    let two = tx.reserve(60); //~ E0499
    let _ = (one, two);
}

fn main() {
    let _ = two;
}
