//! While a guard lives, the queue is its own: no statistics, no sleeping.
use linerate_common::{Error, FrameRx, FrameRxExt};

fn look(rx: &mut dyn FrameRx) -> Result<(), Error> {
    let burst = rx.burst(1)?;
    let _ = rx.stats(); //~ E0499
    let _ = rx.waitable().is_some(); //~ E0499
    drop(burst);
    Ok(())
}

fn main() {
    let _ = look;
}
