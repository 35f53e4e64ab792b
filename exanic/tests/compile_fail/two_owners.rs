//! A queue has one owner.
use linerate_exanic::{ExanicRx, ExanicTx};

fn two(rx: &ExanicRx, tx: &ExanicTx) -> (ExanicRx, ExanicTx) {
    let rx: ExanicRx = rx.clone(); //~ E0308
    let tx: ExanicTx = tx.clone(); //~ E0308
    (rx, tx)
}

fn main() {
    let _ = two;
}
