//! A frame that is still arriving is not looked at while others are taken.
use linerate_common::{Error, FrameRx};
use linerate_efvi::SharedRx;

fn late(rx: &mut SharedRx) -> Result<Option<u8>, Error> {
    let Some(future) = rx.future() else { return Ok(None) };
    rx.poll(64, |_| ())?; //~ E0499
    Ok(future.byte(0))
}

fn main() {
    let _ = late;
}
