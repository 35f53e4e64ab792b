//! A queue has one owner.
use linerate_efvi::{EfviRx, EfviTx};

fn two(rx: &EfviRx, tx: &EfviTx) -> (EfviRx, EfviTx) {
    let rx: EfviRx = rx.clone(); //~ E0308
    let tx: EfviTx = tx.clone(); //~ E0308
    (rx, tx)
}

fn main() {
    let _ = two;
}
