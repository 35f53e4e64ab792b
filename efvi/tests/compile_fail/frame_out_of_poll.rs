//! A frame does not leave the closure that sees it.
use linerate_common::{Error, FrameRx};
use linerate_efvi::EfviRx;

fn keep(rx: &mut EfviRx) -> Result<usize, Error> {
    let mut kept = Vec::new();
    rx.poll(64, |frame| kept.push(frame.bytes))?; //~ E0521
    Ok(kept.len())
}

fn main() {
    let _ = keep;
}
