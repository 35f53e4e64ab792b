//! The card has its buffer back after `finish`, and the frame does not leave the closure.
use linerate_common::Error;
use linerate_efvi::Future;

fn keep(future: Future<'_>) -> Result<usize, Error> {
    let mut kept = Vec::new();
    future.finish(|frame| kept.push(frame.bytes))?; //~ E0521
    Ok(kept.len())
}

fn main() {
    let _ = keep;
}
