//! A frame does not leave the function that holds its window.
use linerate_common::{Error, FrameRx, FrameRxExt, RxFrame};

fn first(rx: &mut dyn FrameRx) -> Result<RxFrame<'_>, Error> {
    let burst = rx.burst(1)?;
    Ok(burst.frame(0)) //~ E0515
}

fn main() {
    let _ = first;
}
