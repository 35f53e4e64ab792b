//! A frame does not outlive the guard of its window.
use linerate_common::{Error, FrameRx, FrameRxExt};

fn late(rx: &mut dyn FrameRx) -> Result<u8, Error> {
    let burst = rx.burst(64)?;
    let frame = burst.frame(0);
    drop(burst); //~ E0505
    Ok(frame.bytes[0])
}

fn main() {
    let _ = late;
}
