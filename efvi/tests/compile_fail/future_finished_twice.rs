//! A frame that was still arriving is shown once.
use linerate_common::Error;
use linerate_efvi::SharedRx;

fn twice(rx: &mut SharedRx) -> Result<usize, Error> {
    let Some(future) = rx.future() else { return Ok(0) };
    future.finish(|_| ())?;
    future.finish(|_| ()) //~ E0382
}

fn main() {
    let _ = twice;
}
