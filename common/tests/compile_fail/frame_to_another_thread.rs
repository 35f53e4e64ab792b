//! A frame does not go to a thread that outlives its window: take it, or copy it.
use linerate_common::loopback::LoopRx;
use linerate_common::{Error, FrameRxExt};

fn send_away(mut rx: LoopRx) -> Result<(), Error> {
    let burst = rx.burst(1)?; //~ E0597
    let frame = burst.frame(0); //~ E0597
    std::thread::spawn(move || frame.bytes.len());
    Ok(())
}

fn main() {
    let _ = send_away;
}
