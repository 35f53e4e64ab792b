//! A queue is not closed under an open window.
use linerate_common::loopback::LoopRx;
use linerate_common::{Error, FrameRxExt};

fn close(mut rx: LoopRx) -> Result<usize, Error> {
    let burst = rx.burst(1)?;
    drop(rx); //~ E0505
    Ok(burst.len())
}

fn main() {
    let _ = close;
}
