//! The four rings of a socket: memory that we share with the kernel.
//!
//! A ring is an array of slots with two free-running 32-bit indices. The producer fills slots and
//! then moves `producer` on; the consumer reads them and then moves `consumer` on. Of the four
//! rings we produce into two (fill, transmit) and consume from two (receive, completion).
//!
//! # Which barriers, and why these
//!
//! * A slot must be written before the index that hands it over is seen to move: each side stores
//!   its own index with `Release` and loads the other side's with `Acquire`. That orders slot
//!   contents, and, for the receive and completion rings, the frame's bytes as well.
//! * The other side's index is another core's cache line. It is loaded only when the cached copy
//!   says that there is nothing left to do, and then covers all that has come meanwhile.
//! * `need_wakeup` is the one place where that is not enough. We store `producer`, then load the
//!   flag; the kernel sets the flag, then loads `producer`. With acquire and release alone a CPU
//!   may let our load overtake our store (x86 does: that is its store buffer). Then we read the
//!   flag as it was before the kernel set it, the kernel reads the index as it was before we moved
//!   it, and both go to sleep over a full ring. A `SeqCst` fence between the store and the load
//!   forbids it. The transmit ring needs the fence, because nobody may call `kick` again for a
//!   long time. The fill ring does without: a spinning reader looks at its flag again at each empty
//!   turn and so cannot miss it for good, and a reader that sleeps enters the kernel, which wakes
//!   the driver itself.
//!
//! Indices that the kernel wrote are input. Were one out of range, the count would be clamped to
//! the ring's size and every descriptor still be checked by whoever reads it: a broken ring can
//! cost frames, but never memory safety.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicU32, fence};

/// Set by the kernel in a ring's flags: it sleeps and wants to be told about new entries.
const XDP_RING_NEED_WAKEUP: u32 = 1;

/// One frame in the receive or transmit ring.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Desc {
    /// Offset of its first byte in the region.
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) options: u32,
}

/// Where a ring's parts are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawRing<T> {
    pub(crate) producer: NonNull<AtomicU32>,
    pub(crate) consumer: NonNull<AtomicU32>,
    pub(crate) flags: NonNull<AtomicU32>,
    pub(crate) slots: NonNull<T>,
    /// A power of two.
    pub(crate) size: u32,
}

/// The slots that one side may use next, for the loop over a burst: a copy of what the ring's own
/// fields say, which the compiler can keep in registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots<T> {
    slots: NonNull<T>,
    /// Index of the first.
    first: u32,
    mask: u32,
}

impl<T: Copy> Slots<T> {
    /// What is in the slot that is `ahead` of the first. It is within the ring for any number, and
    /// of use below what [`Consumer::available`] said.
    #[inline(always)]
    pub(crate) fn read(self, ahead: u32) -> T {
        let at = self.first.wrapping_add(ahead) & self.mask;
        // SAFETY: masked, so inside the ring, which outlives the side that this is a copy of; the
        // producer does not write it before `release`.
        unsafe { self.slots.add(at as usize).read() }
    }

    /// Fills the slot that is `ahead` of the first, which must be free.
    #[inline(always)]
    pub(crate) fn write(self, ahead: u32, value: T) {
        let at = self.first.wrapping_add(ahead) & self.mask;
        // SAFETY: masked, so inside the ring, which outlives the side that this is a copy of; the
        // consumer does not read it before `submit`.
        unsafe { self.slots.add(at as usize).write(value) };
    }
}

/// Slots that lie one after another in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<T> {
    pub(crate) slots: NonNull<T>,
    pub(crate) len: u32,
}

impl<T: Copy> Slots<T> {
    /// From the slot that is `ahead` of the first to the ring's end, at most `max`.
    #[inline(always)]
    pub(crate) fn stretch(self, ahead: u32, max: u32) -> Stretch<T> {
        let at = self.first.wrapping_add(ahead) & self.mask;
        // SAFETY: masked, so inside the ring.
        let slots = unsafe { self.slots.add(at as usize) };
        Stretch { slots, len: (self.mask + 1 - at).min(max) }
    }

    /// The first `n` slots, if they do not go over the ring's end.
    #[inline(always)]
    pub(crate) fn straight(self, n: u32) -> Option<NonNull<T>> {
        let at = self.first & self.mask;
        // SAFETY: masked, so inside the ring.
        (n <= self.mask + 1 - at).then(|| unsafe { self.slots.add(at as usize) })
    }
}

/// The side that fills slots.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    raw: RawRing<T>,
    /// Slots handed over so far: what `producer` in shared memory says.
    head: u32,
    /// The consumer's index when it was last looked at.
    tail: u32,
}

// SAFETY: the pointers lead into a mapping that the owner of the ring keeps; one thread at a time
// uses this side of it, and the other side is synchronised with through the atomics.
unsafe impl<T: Send> Send for Producer<T> {}

impl<T: Copy> Producer<T> {
    /// # Safety
    ///
    /// The parts are valid for as long as the ring is used, `slots` for `size` entries, `size` is a
    /// power of two, and nobody else in this process produces into it.
    pub(crate) unsafe fn new(raw: RawRing<T>) -> Self {
        // SAFETY: valid as the caller vouches.
        let (head, tail) = unsafe {
            (
                raw.producer.as_ref().load(Ordering::Relaxed),
                raw.consumer.as_ref().load(Ordering::Acquire),
            )
        };
        Self { raw, head, tail }
    }

    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.raw.size
    }

    /// Takes note of what the consumer has taken.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        // SAFETY: valid since `new`.
        self.tail = unsafe { self.raw.consumer.as_ref() }.load(Ordering::Acquire);
    }

    /// Entries that the consumer has not taken, as far as we know.
    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        self.head.wrapping_sub(self.tail).min(self.raw.size)
    }

    /// Writes the slot that is `ahead` of what was submitted. It must be free: both queues see to
    /// that by never having more frames out than the ring has slots.
    #[inline]
    pub(crate) fn write(&mut self, ahead: u32, value: T) {
        self.slots().write(ahead, value);
    }

    /// Writes the slot of this number, counted as [`head`](Self::head) is. It must be free too.
    #[inline]
    pub(crate) fn put(&mut self, number: u32, value: T) {
        self.write(number.wrapping_sub(self.head), value);
    }

    /// The number of the first slot that was not submitted.
    #[inline]
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// The slots after what was submitted.
    #[inline]
    pub(crate) fn slots(&mut self) -> Slots<T> {
        Slots { slots: self.raw.slots, first: self.head, mask: self.raw.size - 1 }
    }

    /// Hands the next `n` slots over, with one store.
    #[inline]
    pub(crate) fn submit(&mut self, n: u32) {
        self.head = self.head.wrapping_add(n);
        // SAFETY: valid since `new`.
        unsafe { self.raw.producer.as_ref() }.store(self.head, Ordering::Release);
    }

    /// Does the kernel sleep? See the module's notes for when this may be asked without a fence.
    #[inline]
    pub(crate) fn wants_wakeup(&self) -> bool {
        // SAFETY: valid since `new`.
        unsafe { self.raw.flags.as_ref() }.load(Ordering::Relaxed) & XDP_RING_NEED_WAKEUP != 0
    }

    /// Does the kernel sleep, now that what we submitted is visible to it?
    #[inline]
    pub(crate) fn wants_wakeup_after_submit(&self) -> bool {
        fence(Ordering::SeqCst);
        self.wants_wakeup()
    }
}

/// The side that reads slots.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    raw: RawRing<T>,
    /// The producer's index when it was last looked at.
    head: u32,
    /// Slots given back so far: what `consumer` in shared memory says.
    tail: u32,
}

// SAFETY: as for Producer.
unsafe impl<T: Send> Send for Consumer<T> {}

impl<T: Copy> Consumer<T> {
    /// # Safety
    ///
    /// As [`Producer::new`], and nobody else in this process consumes from it.
    pub(crate) unsafe fn new(raw: RawRing<T>) -> Self {
        // SAFETY: valid as the caller vouches.
        let (head, tail) = unsafe {
            (
                raw.producer.as_ref().load(Ordering::Acquire),
                raw.consumer.as_ref().load(Ordering::Relaxed),
            )
        };
        Self { raw, head, tail }
    }

    #[inline]
    fn available_cached(&self) -> u32 {
        self.head.wrapping_sub(self.tail).min(self.raw.size)
    }

    /// Entries that wait, at most `max`; looks at the producer's index when none is known.
    #[inline]
    pub(crate) fn available(&mut self, max: u32) -> u32 {
        let mut n = self.available_cached();
        if n == 0 {
            // SAFETY: valid since `new`.
            self.head = unsafe { self.raw.producer.as_ref() }.load(Ordering::Acquire);
            n = self.available_cached();
        }
        n.min(max)
    }

    /// The entry that is `ahead` of what was released. It must be [`available`](Self::available).
    #[inline]
    pub(crate) fn read(&self, ahead: u32) -> T {
        self.slots().read(ahead)
    }

    /// The slots after what was released.
    #[inline]
    pub(crate) fn slots(&self) -> Slots<T> {
        Slots { slots: self.raw.slots, first: self.tail, mask: self.raw.size - 1 }
    }

    /// Gives the next `n` slots back, with one store.
    #[inline]
    pub(crate) fn release(&mut self, n: u32) {
        self.tail = self.tail.wrapping_add(n);
        // SAFETY: valid since `new`.
        unsafe { self.raw.consumer.as_ref() }.store(self.tail, Ordering::Release);
    }
}

#[cfg(all(loom, test))]
mod models;

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A ring in ordinary memory, with its indices anywhere.
    struct Memory {
        words: Box<[AtomicU32; 3]>,
        slots: Box<[u64]>,
    }

    impl Memory {
        fn new(size: usize, start: u32) -> Self {
            let words = [start, start, 0].map(AtomicU32::new);
            Self { words: Box::new(words), slots: vec![0; size].into_boxed_slice() }
        }

        fn raw(&mut self) -> RawRing<u64> {
            RawRing {
                producer: NonNull::from(&self.words[0]),
                consumer: NonNull::from(&self.words[1]),
                flags: NonNull::from(&self.words[2]),
                slots: NonNull::new(self.slots.as_mut_ptr()).unwrap(),
                size: self.slots.len() as u32,
            }
        }
    }

    #[test]
    fn both_sides_agree_with_a_queue_across_the_wrap() {
        let mut memory = Memory::new(8, u32::MAX - 20);
        let raw = memory.raw();
        // SAFETY: the memory outlives both sides; one producer, one consumer.
        let (mut p, mut c) = unsafe { (Producer::new(raw), Consumer::new(raw)) };
        let mut model = VecDeque::new();
        let (mut next, mut state) = (0u64, 1u32);
        for _ in 0..2000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = state >> 29;
            if state & 1 << 20 == 0 {
                p.refresh();
                let n = n.min(p.size() - p.pending());
                for i in 0..n {
                    p.write(i, next);
                    model.push_back(next);
                    next += 1;
                }
                p.submit(n);
            } else {
                // `available` may know of fewer than there are, but never of none wrongly.
                let have = c.available(n);
                assert!(have as usize <= model.len() && (have > 0 || model.is_empty() || n == 0));
                for i in 0..have {
                    assert_eq!(c.read(i), model.pop_front().unwrap());
                }
                c.release(have);
            }
            p.refresh();
            assert_eq!(p.pending() as usize, model.len());
        }
        assert!(next > 1000);
    }

    #[test]
    fn indices_out_of_range_are_clamped() {
        let mut memory = Memory::new(8, 0);
        let raw = memory.raw();
        // SAFETY: as above.
        let (mut p, mut c) = unsafe { (Producer::new(raw), Consumer::new(raw)) };
        memory.words[0].store(1_000_000, Ordering::Relaxed);
        assert_eq!(c.available(64), 8);
        memory.words[1].store(77, Ordering::Relaxed); // ahead of the producer
        p.refresh();
        assert_eq!(p.pending(), 8);
        p.write(12, 1); // wraps, stays inside
    }

    #[test]
    fn two_threads_pass_a_million_numbers() {
        const N: u64 = if cfg!(miri) { 500 } else { 1_000_000 };
        let mut memory = Memory::new(64, u32::MAX - 100);
        let raw = memory.raw();
        // SAFETY: as above; the scope ends before the memory goes.
        let (mut p, mut c) = unsafe { (Producer::new(raw), Consumer::new(raw)) };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                while next < N {
                    p.refresh();
                    let n = (p.size() - p.pending()).min(16).min((N - next) as u32);
                    for i in 0..n {
                        p.write(i, next + u64::from(i));
                    }
                    p.submit(n);
                    next += u64::from(n);
                    if n == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut want = 0;
            while want < N {
                let n = c.available(16);
                for i in 0..n {
                    assert_eq!(c.read(i), want);
                    want += 1;
                }
                c.release(n);
                if n == 0 {
                    std::thread::yield_now();
                }
            }
        });
    }
}
