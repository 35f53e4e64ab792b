//! A queue has one owner.
use linerate_verbs::{VerbsRx, VerbsTx};

fn two(rx: &VerbsRx, tx: &VerbsTx) -> (VerbsRx, VerbsTx) {
    let rx: VerbsRx = rx.clone(); //~ E0308
    let tx: VerbsTx = tx.clone(); //~ E0308
    (rx, tx)
}

fn main() {
    let _ = two;
}
