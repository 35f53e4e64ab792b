//! A frame on the card is sent once.
use linerate_exanic::ExanicTx;

fn twice(tx: &mut ExanicTx) {
    if let Some(frame) = tx.reserve_on_card(60) {
        frame.send();
        frame.send(); //~ E0382
    }
}

fn main() {
    let _ = twice;
}
