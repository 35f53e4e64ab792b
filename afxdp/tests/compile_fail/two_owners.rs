//! A queue has one owner.
use linerate_afxdp::{XdpRx, XdpTx};

fn two(rx: &XdpRx, tx: &XdpTx) -> (XdpRx, XdpTx) {
    let rx: XdpRx = rx.clone(); //~ E0308
    let tx: XdpTx = tx.clone(); //~ E0308
    (rx, tx)
}

fn main() {
    let _ = two;
}
