//! A queue has one open window.
use linerate_common::{Error, FrameRx, FrameRxExt};

fn two(rx: &mut dyn FrameRx) -> Result<usize, Error> {
    let one = rx.burst(1)?;
    let two = rx.burst(1)?; //~ E0499
    Ok(one.len() + two.len())
}

fn main() {
    let _ = two;
}
