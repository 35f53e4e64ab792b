//! A queue has one owner.
use linerate_udp::{UdpRx, UdpTx};

fn two(rx: &UdpRx, tx: &UdpTx) -> (UdpRx, UdpTx) {
    let rx: UdpRx = rx.clone(); //~ E0308
    let tx: UdpTx = tx.clone(); //~ E0308
    (rx, tx)
}

fn main() {
    let _ = two;
}
