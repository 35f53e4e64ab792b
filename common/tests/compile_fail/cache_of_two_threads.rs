//! A queue's stock of frames is not shared between threads.
use linerate_common::pool::FrameCache;

fn share(cache: &mut FrameCache) {
    std::thread::scope(|scope| {
        scope.spawn(|| cache.alloc());
        scope.spawn(|| cache.alloc()); //~ E0499
    });
}

fn main() {
    let _ = share;
}
