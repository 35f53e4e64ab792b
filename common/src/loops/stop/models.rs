//! What a loop finds that sees the handle stopped.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::StopHandle;

#[test]
fn what_was_written_before_stop_is_seen_after_it() {
    loom::model(|| {
        let stop = StopHandle::new().expect("a descriptor");
        let note = Arc::new(UnsafeCell::new(0));
        let (other, written) = (stop.clone(), note.clone());
        let thread = thread::spawn(move || {
            // SAFETY: the reader looks only after it saw the handle stopped, or loom complains.
            written.with_mut(|note| unsafe { *note = 7 });
            other.stop();
        });
        if stop.is_stopped() {
            // SAFETY: as above.
            assert_eq!(note.with(|note| unsafe { *note }), 7);
        }
        thread.join().expect("no panic");
        assert!(stop.is_stopped());
        stop.reset();
        assert!(!stop.is_stopped());
    });
}
