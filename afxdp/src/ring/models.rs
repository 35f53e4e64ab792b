//! Every order in which we and the kernel can meet at a ring.

use std::ptr::NonNull;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use loom::thread;

use super::{Consumer, Producer, RawRing, XDP_RING_NEED_WAKEUP};

/// A ring in ordinary memory. Its slots hold numbers of `frames`, which are loom's: a frame that
/// is read before it is visibly written, or written again before it was read, is an error.
struct Memory {
    words: [AtomicU32; 3],
    slots: Vec<u64>,
    frames: Vec<UnsafeCell<u64>>,
}

impl Memory {
    fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            words: [0; 3].map(AtomicU32::new),
            slots: vec![0; slots],
            frames: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    fn raw(&self) -> RawRing<u64> {
        RawRing {
            producer: NonNull::from(&self.words[0]),
            consumer: NonNull::from(&self.words[1]),
            flags: NonNull::from(&self.words[2]),
            slots: NonNull::from(&self.slots[0]),
            size: self.slots.len() as u32,
        }
    }
}

#[test]
fn every_frame_arrives_once_and_in_order() {
    const COUNT: u64 = 4;
    loom::model(|| {
        let memory = Memory::new(2);
        let raw = memory.raw();
        // SAFETY: the memory outlives both sides; one producer, one consumer.
        let (mut p, mut c) = unsafe { (Producer::new(raw), Consumer::new(raw)) };
        let ours = memory.clone();
        let thread = thread::spawn(move || {
            for number in 0..COUNT {
                while p.pending() == p.size() {
                    p.refresh();
                    thread::yield_now();
                }
                // SAFETY: the consumer has given the frame back, or loom complains.
                ours.frames[number as usize % 2].with_mut(|frame| unsafe { *frame = number });
                p.write(0, number % 2);
                p.submit(1);
            }
        });
        let mut want = 0;
        while want < COUNT {
            let n = c.available(2);
            for i in 0..n {
                let at = c.read(i) as usize;
                // SAFETY: the producer has handed it over, or loom complains.
                assert_eq!(memory.frames[at].with(|frame| unsafe { *frame }), want);
                want += 1;
            }
            c.release(n);
            if n == 0 {
                thread::yield_now();
            }
        }
        thread.join().expect("no panic");
    });
}

/// The kernel raises its flag and looks once more before it sleeps; we hand over and look at the
/// flag. One of the two sees the other, always.
#[test]
fn a_kernel_that_goes_to_sleep_is_woken() {
    loom::model(|| {
        let memory = Memory::new(2);
        let raw = memory.raw();
        // SAFETY: as above; the other side is played below.
        let mut p = unsafe { Producer::new(raw) };
        let asleep = Arc::new(AtomicBool::new(false));
        let (theirs, sleeps) = (memory.clone(), asleep.clone());
        let kernel = thread::spawn(move || {
            theirs.words[2].store(XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let nothing_came = theirs.words[0].load(Ordering::Acquire) == 0;
            sleeps.store(nothing_came, Ordering::Relaxed);
        });
        p.write(0, 0);
        p.submit(1);
        let woken = p.wants_wakeup_after_submit();
        kernel.join().expect("no panic");
        assert!(woken || !asleep.load(Ordering::Relaxed), "both sleep over a full ring");
    });
}
