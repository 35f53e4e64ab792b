//! A buffer that nobody keeps is lost to its pool: the compiler says so.
#![deny(unused_must_use)]
use linerate_common::{Buf, BufTx};

fn lose(tx: &mut dyn BufTx, give: fn() -> Buf) {
    give(); //~ lint
    tx.push(give()); //~ lint
}

fn main() {
    let _ = lose;
}
