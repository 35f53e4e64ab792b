//! Two threads do not read one queue.
use linerate_common::loopback::LoopRx;
use linerate_common::{FrameRx, MAX_BURST};

fn share(rx: &mut LoopRx) {
    std::thread::scope(|scope| {
        scope.spawn(|| rx.acquire(MAX_BURST));
        scope.spawn(|| rx.acquire(MAX_BURST)); //~ E0499
    });
}

fn main() {
    let _ = share;
}
