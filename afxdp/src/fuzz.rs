//! Doors for `fuzz/`: rings whose other side is not the kernel but a liar.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ring::{Consumer, Desc, Producer, RawRing};

mod descriptors;

pub use descriptors::descriptors;

const SLOTS: usize = 8;

/// Reads `bytes` as values that the other side stores into its index, with a look of ours after
/// each. No count exceeds the ring, and nothing is read or written outside it.
pub fn rings(bytes: &[u8]) {
    let words = [0; 3].map(AtomicU32::new);
    let mut slots = vec![Desc::default(); SLOTS].into_boxed_slice();
    let Some(start) = NonNull::new(slots.as_mut_ptr()) else { return };
    let raw = RawRing {
        producer: NonNull::from(&words[0]),
        consumer: NonNull::from(&words[1]),
        flags: NonNull::from(&words[2]),
        slots: start,
        size: SLOTS as u32,
    };
    // SAFETY: memory that outlives both; one thread.
    let (mut ours, mut theirs) = unsafe { (Producer::new(raw), Consumer::new(raw)) };
    for step in bytes.chunks_exact(6) {
        let &[how, max, a, b, c, d] = step else { break };
        let index = u32::from_le_bytes([a, b, c, d]);
        let max = u32::from(max);
        if how & 1 == 0 {
            words[0].store(index, Ordering::Release);
            let n = theirs.available(max);
            assert!(n <= max && n <= SLOTS as u32);
            for i in 0..n {
                std::hint::black_box(theirs.read(i));
            }
            theirs.release(n);
        } else {
            words[1].store(index, Ordering::Release);
            ours.refresh();
            assert!(ours.pending() <= ours.size());
            for i in 0..max {
                ours.write(i, Desc { addr: u64::from(index), len: max, options: 0 });
            }
            ours.submit(max);
            std::hint::black_box(ours.wants_wakeup_after_submit());
        }
    }
}
