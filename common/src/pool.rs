//! Buffers that cards and the kernel read and write by DMA.
//!
//! A [`DmaRegion`] is one mapping: hugepages where they can be had, on the card's NUMA node,
//! faulted in, locked, and kept out of forked children. A [`Pool`] cuts it into frames. Several
//! queues of several cards can work on one pool, so a frame received on one is sent on another
//! without a copy.
//!
//! # For application authors
//!
//! ```
//! use linerate_common::pool::{Huge, Pool};
//!
//! let pool = Pool::builder().frames(256).huge(Huge::Never).build()?;
//! let mut buf = pool.alloc(100).expect("a fresh pool has free frames");
//! pool.bytes_mut(&mut buf).expect("it is this pool's").fill(0xff);
//! assert_eq!(pool.outstanding(), 1); // `buf` is held by us
//! pool.free(buf).expect("it is this pool's");
//! assert_eq!(pool.outstanding(), 0);
//! # Ok::<(), linerate_common::SetupError>(())
//! ```
//!
//! What could not be had as asked (no free hugepages, no room to lock) is in
//! [`Pool::notices`]: show it to the user.
//!
//! # For backend authors
//!
//! * Register the region with the card through [`DmaRegion::registration`], and let the
//!   registration hold the region's `Arc`: memory outlives every registration of it.
//! * Give each queue a [`FrameCache`]: it hands out frame ids without atomics and knows which
//!   frames are lent to the card.

mod builder;
mod cache;
mod free_list;
mod numa;
mod region;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::buf::Buf;

pub use builder::PoolBuilder;
pub use cache::FrameCache;
pub use numa::{Numa, node_of_interface};
pub use region::{DmaRegion, Huge, PageSize, RegionOptions};

use free_list::FreeList;

/// A region cut into frames of equal size. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    region: Arc<DmaRegion>,
    tag: u32,
    frames: u32,
    frame_bytes: u32,
    headroom: u16,
    free: FreeList,
    /// Frames that each queue's cache answers for, written by the queue alone.
    held: Mutex<Vec<Weak<AtomicU32>>>,
}

impl Pool {
    /// 4096 frames of 2 KiB with 256 B headroom, on 2 MiB pages where possible, unless told
    /// otherwise.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// Identifies the pool in each [`Buf`]: unique in this process.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.0.tag
    }

    /// Number of frames.
    #[inline]
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.0.frames
    }

    /// Size of a frame: 2048 or 4096 bytes. Frame `id` begins at `id * frame_bytes()` in the
    /// region, so none straddles a 4 KiB boundary.
    #[inline]
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.0.frame_bytes as usize
    }

    /// Bytes kept free in front of a frame's data for what cards and drivers put there.
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.0.headroom)
    }

    /// The memory behind the frames.
    #[inline]
    #[must_use]
    pub fn region(&self) -> &Arc<DmaRegion> {
        &self.0.region
    }

    /// What could not be had as asked, each with its remedy.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        self.0.region.notices()
    }

    /// A frame for `len` bytes of any content. `None` when none is free or `len` does not fit
    /// behind the headroom.
    #[must_use]
    pub fn alloc(&self, len: usize) -> Option<Buf> {
        let len = u16::try_from(len).ok()?;
        if usize::from(len) + self.headroom() > self.frame_bytes() {
            return None;
        }
        let mut id = [0];
        if self.0.free.pop(&mut id) == 0 {
            return None;
        }
        // SAFETY: the free list gave us the id, so nobody else has it; the length was checked.
        Some(unsafe { Buf::from_parts(self.tag(), id[0], self.0.headroom, len) })
    }

    /// Takes a buffer back.
    ///
    /// # Errors
    ///
    /// Gives it back when it belongs to another pool.
    pub fn free(&self, buf: Buf) -> Result<(), Buf> {
        if !self.owns(&buf) {
            return Err(buf);
        }
        self.0.free.push(&[buf.id()]);
        Ok(())
    }

    /// The buffer's bytes; `None` when it belongs to another pool.
    #[inline]
    #[must_use]
    pub fn bytes<'a>(&'a self, buf: &'a Buf) -> Option<&'a [u8]> {
        let start = self.start(buf)?;
        // SAFETY: `start` checked that the bytes lie inside the region. A Buf is the only owner
        // of its frame: no queue and no card writes it while we can borrow the Buf.
        Some(unsafe { std::slice::from_raw_parts(start, buf.len()) })
    }

    /// The buffer's bytes for writing; `None` when it belongs to another pool.
    #[inline]
    #[must_use]
    pub fn bytes_mut<'a>(&'a self, buf: &'a mut Buf) -> Option<&'a mut [u8]> {
        let start = self.start(buf)?;
        // SAFETY: as in `bytes`, and `buf` is borrowed exclusively.
        Some(unsafe { std::slice::from_raw_parts_mut(start, buf.len()) })
    }

    /// Frames that are neither free nor with a queue: what the application holds as [`Buf`]s.
    /// More than it knows of are leaks. Exact while no other thread moves frames.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|queue| queue.strong_count() > 0);
        let with_queues: u32 =
            held.iter().filter_map(Weak::upgrade).map(|n| n.load(Ordering::Relaxed)).sum();
        self.frames().saturating_sub(self.0.free.len() + with_queues)
    }

    /// Frames that any queue or caller may still take.
    #[must_use]
    pub fn free_frames(&self) -> u32 {
        self.0.free.len()
    }

    /// A queue's private stock of frames. For backends.
    #[must_use]
    pub fn cache(&self) -> FrameCache {
        let held = Arc::new(AtomicU32::new(0));
        let mut all = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|queue| queue.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        FrameCache::new(self.clone(), held)
    }

    /// Is this one of the pool's buffers?
    #[inline]
    fn owns(&self, buf: &Buf) -> bool {
        buf.pool_tag() == self.tag() && buf.id() < self.frames()
    }

    /// Where the buffer's bytes begin, if all of them lie in one frame of this pool.
    #[inline]
    fn start(&self, buf: &Buf) -> Option<*mut u8> {
        if !self.owns(buf) || buf.offset() + buf.len() > self.frame_bytes() {
            return None;
        }
        let offset = buf.id() as usize * self.frame_bytes() + buf.offset();
        // SAFETY: id < frames, and the region holds frames * frame_bytes bytes.
        Some(unsafe { self.region().as_ptr().add(offset) })
    }
}
