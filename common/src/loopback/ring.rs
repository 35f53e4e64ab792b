//! The ring between two threads: one produces, one consumes, nobody waits.
//!
//! Each side keeps its own index in a field of its own and a *cached* copy of the other side's.
//! The shared index is read only when the cached one says full (or empty), so in a steady stream
//! the cache line that holds it moves between the cores once a burst instead of once an entry.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicUsize, UnsafeCell};

/// An index on a cache line of its own: 128 bytes, since x86 prefetches lines in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicUsize);

/// Indices run freely and are masked on use; `tail - head` entries are full.
struct Shared<T> {
    /// First entry that has not been consumed. Written by the consumer.
    head: Line,
    /// First entry that has not been produced. Written by the producer.
    tail: Line,
    entries: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

impl<T> Shared<T> {
    /// The entry at a freely running index.
    #[inline(always)]
    fn cell(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        let mask = self.entries.len() - 1;
        // SAFETY: `ring` made at least one, and what is masked with the last index is no more
        // than that.
        unsafe { self.entries.get_unchecked(index & mask) }
    }
}

// SAFETY: an entry is written by the producer while it is outside head..tail and read by the
// consumer while it is inside; the Release store and Acquire load of the index that moves it
// order the two. `Producer` and `Consumer` exist once each and take `&mut self` to move theirs.
unsafe impl<T: Send> Sync for Shared<T> {}

/// A ring of `slots` entries, rounded up to a power of two.
pub(super) fn ring<T: Copy + Send>(slots: usize) -> (Producer<T>, Consumer<T>) {
    let slots = slots.max(1).next_power_of_two();
    let entries = (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared { head: Line::default(), tail: Line::default(), entries });
    let producer = Producer { shared: Arc::clone(&shared), tail: 0, head: 0 };
    (producer, Consumer { shared, head: 0, tail: 0 })
}

/// The end that writes.
pub(super) struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Next entry to write: ours. The shared one lags behind until `publish`.
    tail: usize,
    /// The consumer's index as we last saw it.
    head: usize,
}

impl<T: Copy + Send> Producer<T> {
    /// Writes an entry that the consumer does not see yet. `false`: the ring is full.
    #[inline]
    pub(super) fn stage(&mut self, entry: T) -> bool {
        let slots = self.shared.entries.len();
        if self.tail.wrapping_sub(self.head) == slots {
            // Acquire: the consumer has read what was in the entry before we overwrite it.
            self.head = self.shared.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head) == slots {
                return false;
            }
        }
        let cell = self.shared.cell(self.tail);
        // SAFETY: the entry is outside head..tail, so it is ours (see `Sync` above).
        cell.with_mut(|place| unsafe { (*place).write(entry) });
        self.tail = self.tail.wrapping_add(1);
        true
    }

    /// Shows everything staged to the consumer.
    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: the entries, and what they refer to, are visible before the index.
        self.shared.tail.0.store(self.tail, Ordering::Release);
    }
}

/// The end that reads.
pub(super) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Next entry to read: ours. The shared one lags behind until `publish`.
    head: usize,
    /// The producer's index as we last saw it.
    tail: usize,
}

impl<T: Copy + Send> Consumer<T> {
    /// Entries that the producer has shown by now.
    #[inline]
    pub(super) fn visible(&self) -> usize {
        // Relaxed: nothing is read by this count; `ready` looks again.
        self.shared.tail.0.load(Ordering::Relaxed).wrapping_sub(self.head)
    }

    /// Entries that can be read without looking at the shared index.
    #[inline]
    fn cached(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    /// Entries that can be read, at most `max`. Looks at the shared index only when fewer than
    /// `max` are known.
    #[inline]
    pub(super) fn ready(&mut self, max: usize) -> usize {
        if self.cached() < max {
            // Acquire: pairs with the producer's Release.
            self.tail = self.shared.tail.0.load(Ordering::Acquire);
        }
        self.cached().min(max)
    }

    /// The next entry. `None`: none is known; ask [`ready`](Self::ready) first.
    #[inline]
    pub(super) fn next(&mut self) -> Option<T> {
        if self.cached() == 0 {
            return None;
        }
        let cell = self.shared.cell(self.head);
        // SAFETY: the entry is inside head..tail, so it was written and is not written again
        // before `publish` moves the head past it (see `Sync` above). `T: Copy`: reading it
        // leaves nothing behind to drop.
        let entry = cell.with(|place| unsafe { (*place).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        Some(entry)
    }

    /// Gives the entries that were read back to the producer.
    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: our reads are done before the producer may overwrite.
        self.shared.head.0.store(self.head, Ordering::Release);
    }
}

#[cfg(all(loom, test))]
mod models;

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    use proptest::prelude::*;

    /// What may happen to a ring.
    #[derive(Debug, Clone, Copy)]
    enum Op {
        Stage,
        PublishProduced,
        Ready(usize),
        Next,
        PublishConsumed,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            4 => Just(Op::Stage),
            2 => Just(Op::PublishProduced),
            2 => (0..12_usize).prop_map(Op::Ready),
            4 => Just(Op::Next),
            2 => Just(Op::PublishConsumed),
        ];
        prop::collection::vec(op, 0..400)
    }

    proptest! {
        /// Against a queue and two sets of bounds: nothing appears before it is published,
        /// nothing is overwritten before it is given back, order holds across wrap-around.
        #[test]
        fn behaves_as_a_bounded_queue(ops in ops(), slots in 1..9_usize, start in any::<usize>()) {
            let (mut tx, mut rx) = ring::<u32>(slots);
            let slots = slots.next_power_of_two();
            // Begin anywhere, also just before the indices wrap.
            (tx.tail, tx.head, rx.head, rx.tail) = (start, start, start, start);
            tx.publish();
            rx.publish();
            let mut staged = VecDeque::new();
            let mut visible = VecDeque::new();
            let (mut unreturned, mut next) = (0, 0);
            for op in ops {
                match op {
                    Op::Stage => {
                        let full = staged.len() + visible.len() + unreturned == slots;
                        prop_assert_eq!(tx.stage(next), !full);
                        if !full {
                            staged.push_back(next);
                            next += 1;
                        }
                    }
                    Op::PublishProduced => {
                        tx.publish();
                        visible.append(&mut staged);
                    }
                    Op::Ready(max) => prop_assert_eq!(rx.ready(max), max.min(visible.len())),
                    Op::Next => {
                        rx.ready(1);
                        let got = rx.next();
                        prop_assert_eq!(got, visible.pop_front());
                        unreturned += usize::from(got.is_some());
                    }
                    Op::PublishConsumed => {
                        rx.publish();
                        unreturned = 0;
                    }
                }
            }
        }
    }

    #[test]
    fn two_threads_pass_everything_in_order() {
        const COUNT: u64 = if cfg!(miri) { 300 } else { 100_000 };
        let (mut tx, mut rx) = ring::<[u64; 2]>(16);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for i in 0..COUNT {
                    while !tx.stage([i, !i]) {
                        tx.publish();
                        std::thread::yield_now();
                    }
                    if i % 5 == 0 {
                        tx.publish();
                    }
                }
                tx.publish();
            });
            let mut expect = 0;
            while expect < COUNT {
                if rx.ready(8) == 0 {
                    std::thread::yield_now();
                }
                while let Some(entry) = rx.next() {
                    assert_eq!(entry, [expect, !expect]);
                    expect += 1;
                }
                rx.publish();
            }
        });
    }
}
