//! A frame is gone when its window is released.
use linerate_common::{Error, FrameRx};
use linerate_efvi::EfviRx;

fn late(rx: &mut EfviRx) -> Result<u8, Error> {
    rx.acquire(1)?;
    let frame = rx.frame(0);
    rx.release(); //~ E0502
    Ok(frame.bytes[0])
}

fn main() {
    let _ = late;
}
