//! The memory of a window stays as long as its frames are looked at.
use linerate_common::{Error, FrameRx};
use linerate_efvi::EfviRx;

fn late(mut rx: EfviRx) -> Result<u8, Error> {
    rx.acquire(1)?;
    let frame = rx.frame(0);
    drop(rx); //~ E0505
    Ok(frame.bytes[0])
}

fn main() {
    let _ = late;
}
