//! A queue has one owner.
use linerate::{AnyRx, AnyTx};

fn two(rx: &AnyRx, tx: &AnyTx) -> (AnyRx, AnyTx) {
    let rx: AnyRx = rx.clone(); //~ E0308
    let tx: AnyTx = tx.clone(); //~ E0308
    (rx, tx)
}

fn main() {
    let _ = two;
}
