//! A buffer that was pushed is the card's.
use linerate_common::pool::Pool;
use linerate_common::{Buf, BufTx};

fn keep(tx: &mut dyn BufTx, buf: Buf, pool: &Pool) {
    let _ = tx.push(buf);
    let _ = pool.bytes(&buf); //~ E0382
}

fn main() {
    let _ = keep;
}
