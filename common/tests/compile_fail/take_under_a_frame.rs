//! A frame that is looked at is not taken away.
use linerate_common::{BufRx, Error, FrameRxExt};

fn both(rx: &mut dyn BufRx) -> Result<u8, Error> {
    let mut burst = rx.burst(1)?;
    let frame = burst.frame(0);
    let _buf = burst.take(0); //~ E0502
    Ok(frame.bytes[0])
}

fn main() {
    let _ = both;
}
