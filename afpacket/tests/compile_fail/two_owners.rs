//! A queue has one owner.
use linerate_afpacket::{PacketRx, PacketTx};

fn two(rx: &PacketRx, tx: &PacketTx) -> (PacketRx, PacketTx) {
    let rx: PacketRx = rx.clone(); //~ E0308
    let tx: PacketTx = tx.clone(); //~ E0308
    (rx, tx)
}

fn main() {
    let _ = two;
}
