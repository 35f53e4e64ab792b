//! What a queue's stock of frames takes, keeps and gives back.

#![allow(clippy::unwrap_used)]

use linerate_common::pool::{FrameCache, Huge, Pool};

fn pool(frames: u32) -> Pool {
    Pool::builder().frames(frames).huge(Huge::Never).lock(false).build().unwrap()
}

#[test]
fn a_queue_takes_a_32nd_of_a_small_pool_at_once_and_64_frames_of_a_large_one() {
    for (frames, batch) in [(1, 1), (31, 1), (64, 2), (1024, 32), (2048, 64), (8192, 64)] {
        let pool = pool(frames);
        let mut queue = pool.cache();
        assert_eq!((queue.available(), queue.lent(), pool.free_frames()), (0, 0, frames));
        queue.alloc().unwrap();
        assert_eq!((queue.available() as u32, queue.lent()), (batch - 1, 1), "of {frames}");
        assert_eq!(pool.free_frames(), frames - batch, "of {frames}");
    }
}

/// Lends all frames of the pool to one queue and ends every loan; gives the most that the queue
/// has kept.
fn most_kept(pool: &Pool, queue: &mut FrameCache) -> usize {
    let lent: Vec<_> = std::iter::from_fn(|| queue.alloc()).collect();
    assert_eq!((lent.len() as u32, queue.lent()), (pool.frames(), pool.frames()));
    let mut most = 0;
    for id in lent {
        assert!(queue.free(id));
        most = most.max(queue.available());
        assert_eq!(pool.outstanding(), 0);
        assert_eq!(queue.available() as u32 + queue.lent() + pool.free_frames(), pool.frames());
    }
    most
}

#[test]
fn a_queue_keeps_four_batches_and_what_it_reserved() {
    let pool = pool(1024);
    let mut queue = pool.cache();
    assert_eq!(most_kept(&pool, &mut queue), 4 * 32);
    drop(queue);
    assert_eq!(pool.free_frames(), 1024);
    let mut queue = pool.cache();
    queue.reserve(100).unwrap();
    assert_eq!((queue.available(), pool.free_frames()), (100, 924));
    assert_eq!(most_kept(&pool, &mut queue), 4 * 32 + 100);
}

#[test]
fn a_look_at_the_next_frame_takes_nothing() {
    let pool = pool(4);
    let mut queue = pool.cache();
    for left in (1..=4).rev() {
        let next = queue.peek();
        assert!(next.is_some() && next == queue.peek());
        assert_eq!(queue.available() as u32 + pool.free_frames(), left);
        assert_eq!(queue.alloc(), next);
    }
    assert_eq!((queue.peek(), queue.alloc()), (None, None));
}

#[test]
fn loans_are_told_one_by_one_and_as_words_of_bits() {
    let pool = pool(130);
    let mut queue = pool.cache();
    let lent: Vec<_> = std::iter::from_fn(|| queue.alloc()).collect();
    assert_eq!(queue.lent_bits(), [u64::MAX, u64::MAX, 0b11]);
    for id in [0, 63, 64, 127, 129] {
        assert!(queue.is_lent(id) && queue.free(id) && !queue.is_lent(id), "{id}");
    }
    let both_ends = 1 | 1 << 63;
    assert_eq!(queue.lent_bits(), [!both_ends, !both_ends, 0b01]);
    assert!(!queue.is_lent(130) && !queue.is_lent(1 << 20));
    assert_eq!(queue.lent() as usize, lent.len() - 5);
    queue.reclaim();
    assert_eq!((queue.lent(), queue.lent_bits()), (0, &[0; 3][..]));
    assert_eq!(queue.available() as u32 + pool.free_frames(), 130);
}

#[test]
fn bytes_that_do_not_fit_a_frame_are_not_taken() {
    let pool = pool(4);
    let mut queue = pool.cache();
    let id = queue.alloc().unwrap();
    assert!(queue.take(id, 0, 2049).is_none());
    assert!(queue.take(id, 2048, 1).is_none());
    assert!(queue.is_lent(id), "the frame is still with the card");
    let buf = queue.take(id, 1024, 1024).unwrap();
    assert_eq!((buf.offset(), buf.len(), queue.lent(), pool.outstanding()), (1024, 1024, 0, 1));
    assert_eq!(queue.accept(buf), Ok((id, 1024, 1024)));
    assert_eq!((queue.lent(), pool.outstanding()), (1, 0));
}

#[test]
fn a_queue_that_goes_gives_back_what_is_with_the_card_too() {
    let pool = pool(256);
    let mut queue = pool.cache();
    for _ in 0..100 {
        queue.alloc().unwrap();
    }
    drop(queue);
    assert_eq!((pool.free_frames(), pool.outstanding()), (256, 0));
    let mut other = pool.cache();
    let mut ids: Vec<_> = std::iter::from_fn(|| other.alloc()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..256), "each of them once");
}
