//! A shared reference opens no window.
use linerate_common::{FrameRx, MAX_BURST};

fn peek(rx: &dyn FrameRx) {
    let _ = rx.acquire(MAX_BURST); //~ E0596
}

fn main() {
    let _ = peek;
}
