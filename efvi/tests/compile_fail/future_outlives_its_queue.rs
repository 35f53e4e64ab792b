//! The card's buffers stay mapped as long as a frame in them is looked at.
use linerate_efvi::SharedRx;

fn late(mut rx: SharedRx) -> Option<u8> {
    let future = rx.future()?;
    drop(rx); //~ E0505
    future.byte(0)
}

fn main() {
    let _ = late;
}
