//! A frame does not leave the closure that sees it.
use linerate::AnyRx;
use linerate_common::{Error, FrameRx};

fn keep(rx: &mut AnyRx) -> Result<usize, Error> {
    let mut kept = Vec::new();
    rx.poll(64, |frame| kept.push(frame.bytes))?; //~ E0521
    Ok(kept.len())
}

fn main() {
    let _ = keep;
}
