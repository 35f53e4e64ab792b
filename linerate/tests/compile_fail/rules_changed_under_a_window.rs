//! Rules are not changed while a window is open: frames of it may belong to them.
use linerate::{AnyRx, Error, FrameRx};

fn beside(rx: &mut AnyRx) -> Result<u8, Error> {
    rx.acquire(1)?;
    let frame = rx.frame(0);
    let steer = rx.steer(); //~ E0502
    drop(steer);
    Ok(frame.bytes[0])
}

fn main() {
    let _ = beside;
}
