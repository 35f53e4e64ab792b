//! The pool's shared stock of free frames: a lock-free stack of ids.
//!
//! Queues take and return batches through their [`FrameCache`](super::FrameCache), so this costs
//! one compare-and-swap a batch, and a thread that stalls in the middle holds nobody up.
//!
//! The head packs the id of the first free frame with a tag that every successful change
//! increments. A chain that was read link by link is therefore valid exactly if the tag has not
//! moved when the head is swapped: links that another thread rewrote meanwhile may have been
//! read, but then the swap fails and the walk starts again. (2^32 changes between one thread's
//! load and its swap would fool it; at 10 ns a change that thread has slept 43 s.)

use std::sync::atomic::Ordering;

use crate::sync::{AtomicU32, AtomicU64};

const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct FreeList {
    head: AtomicU64,
    next: Box<[AtomicU32]>,
    len: AtomicU32,
}

impl FreeList {
    /// Ids 0 to `frames - 1`, all free.
    pub(super) fn full(frames: u32) -> Self {
        let next = (1..frames).chain([NONE]).map(AtomicU32::new).collect();
        Self { head: AtomicU64::new(0), next, len: AtomicU32::new(frames) }
    }

    pub(super) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Takes up to `out.len()` ids, returns how many.
    pub(super) fn pop(&self, out: &mut [u32]) -> usize {
        // Acquire pairs with the Release of the swaps: the links of what we see are visible.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let mut id = first(head);
            let mut n = 0;
            while n < out.len() && id != NONE {
                let Some(next) = self.next.get(id as usize) else { break };
                out[n] = id;
                n += 1;
                id = next.load(Ordering::Relaxed);
            }
            if n == 0 {
                return 0;
            }
            match self.swap(head, id) {
                Ok(()) => {
                    self.len.fetch_sub(n as u32, Ordering::Relaxed);
                    return n;
                }
                Err(now) => head = now,
            }
        }
    }

    /// Gives ids back. Each must be in range, and the caller's alone.
    pub(super) fn push(&self, ids: &[u32]) {
        let (Some(&top), Some(&bottom)) = (ids.first(), ids.last()) else { return };
        for pair in ids.windows(2) {
            self.next[pair[0] as usize].store(pair[1], Ordering::Relaxed);
        }
        // Counted before they can be taken, so that `len` never goes below zero.
        self.len.fetch_add(ids.len() as u32, Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[bottom as usize].store(first(head), Ordering::Relaxed);
            match self.swap(head, top) {
                Ok(()) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Puts `id` on top if nothing has changed since `head` was read.
    fn swap(&self, head: u64, id: u32) -> Result<(), u64> {
        let tag = (head >> 32).wrapping_add(1);
        let new = tag << 32 | u64::from(id);
        // AcqRel: our links are released with the new head, and the frames' bytes that their last
        // owner wrote are acquired by whoever takes them.
        self.head.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }
}

fn first(head: u64) -> u32 {
    head as u32
}

#[cfg(all(loom, test))]
mod models;

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_every_id_once_and_no_more() {
        let list = FreeList::full(100);
        let mut ids = [0; 128];
        assert_eq!(list.pop(&mut ids[..60]), 60);
        assert_eq!(list.pop(&mut ids[60..]), 40);
        assert_eq!(list.pop(&mut [0]), 0);
        ids[..100].sort_unstable();
        assert!(ids[..100].iter().copied().eq(0..100));
        list.push(&ids[..100]);
        assert_eq!(list.len(), 100);
    }

    /// What a thread sees that sleeps between reading the head and swapping it: the same frame is
    /// on top again, but what it read as the next one is in use by now.
    #[test]
    fn a_swap_that_slept_through_changes_fails() {
        let list = FreeList::full(4);
        // Not in its first generation: one that only tells the first from the rest will not do.
        for _ in 0..3 {
            let mut id = [0];
            list.pop(&mut id);
            list.push(&id);
        }
        let head = list.head.load(Ordering::Acquire);
        let top = first(head);
        let next = list.next[top as usize].load(Ordering::Relaxed);
        let mut ids = [0; 2];
        assert_eq!((list.pop(&mut ids), ids), (2, [top, next]));
        list.push(&[top]);
        assert_eq!(first(list.head.load(Ordering::Acquire)), top);
        assert!(list.swap(head, next).is_err(), "{next} would be handed out twice");
    }

    #[test]
    fn threads_never_hold_the_same_frame() {
        const ROUNDS: usize = if cfg!(miri) { 60 } else { 20_000 };
        let list = FreeList::full(64);
        let owner: Vec<AtomicU32> = (0..64).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for me in 1..=3_u32 {
                let (list, owner) = (&list, &owner);
                scope.spawn(move || {
                    let mut ids = [0; 16];
                    for round in 0..ROUNDS {
                        let n = list.pop(&mut ids[..1 + round % 16]);
                        for id in &ids[..n] {
                            assert_eq!(owner[*id as usize].swap(me, Ordering::Relaxed), 0);
                        }
                        for id in &ids[..n] {
                            owner[*id as usize].store(0, Ordering::Relaxed);
                        }
                        list.push(&ids[..n]);
                    }
                });
            }
        });
        assert_eq!(list.len(), 64);
        assert_eq!(list.pop(&mut [0; 100]), 64);
    }
}
