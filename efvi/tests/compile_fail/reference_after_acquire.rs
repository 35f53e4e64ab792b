//! A packet reference goes back to the card when the next window opens.
use linerate_common::{Error, FrameRx};
use linerate_efvi::SharedRx;

fn late(rx: &mut SharedRx) -> Result<u8, Error> {
    rx.acquire(1)?;
    let frame = rx.frame(0);
    rx.acquire(1)?; //~ E0502
    Ok(frame.bytes[0])
}

fn main() {
    let _ = late;
}
