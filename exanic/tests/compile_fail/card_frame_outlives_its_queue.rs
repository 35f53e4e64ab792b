//! Transmit memory is not given back while a frame is being written there.
use linerate_exanic::ExanicTx;

fn late(mut tx: ExanicTx) {
    if let Some(frame) = tx.reserve_on_card(60) {
        drop(tx); //~ E0505
        frame.send();
    }
}

fn main() {
    let _ = late;
}
