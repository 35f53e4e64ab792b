//! How a pool is asked for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::{ErrorKind, SetupError};

use super::free_list::FreeList;
use super::{DmaRegion, Huge, Inner, Numa, Pool, RegionOptions};

/// Asks for a [`Pool`].
#[derive(Debug, Clone)]
#[must_use]
pub struct PoolBuilder {
    frames: u32,
    frame_bytes: u32,
    headroom: u16,
    region: RegionOptions,
}

impl Default for PoolBuilder {
    fn default() -> Self {
        Self { frames: 4096, frame_bytes: 2048, headroom: 256, region: RegionOptions::default() }
    }
}

impl PoolBuilder {
    /// Number of frames, at least 1.
    pub fn frames(mut self, frames: u32) -> Self {
        self.frames = frames;
        self
    }

    /// Bytes a frame: 2048 (frames up to 1792 B behind the default headroom) or 4096.
    pub fn frame_bytes(mut self, bytes: u32) -> Self {
        self.frame_bytes = bytes;
        self
    }

    /// Bytes in front of the data, a multiple of 64 below half a frame.
    pub fn headroom(mut self, bytes: u16) -> Self {
        self.headroom = bytes;
        self
    }

    /// Which page size to use.
    pub fn huge(mut self, huge: Huge) -> Self {
        self.region.huge = huge;
        self
    }

    /// Which NUMA node the memory should be on.
    pub fn numa(mut self, numa: Numa) -> Self {
        self.region.numa = numa;
        self
    }

    /// Whether to lock the memory against swapping (tried by default).
    pub fn lock(mut self, lock: bool) -> Self {
        self.region.lock = lock;
        self
    }

    /// Maps the memory.
    ///
    /// # Errors
    ///
    /// A number is out of range, the memory cannot be had, or a page size was
    /// [required](Huge::Require) that has no free pages.
    pub fn build(self) -> Result<Pool, SetupError> {
        let wrong = |what: String| {
            SetupError::new(ErrorKind::BadArgument, "pool", what)
                .remedy("use 1 to 16777216 frames of 2048 or 4096 bytes, headroom 0 to 1024 by 64")
        };
        if !(1..=1 << 24).contains(&self.frames) {
            return Err(wrong(format!("{} frames", self.frames)));
        }
        if ![2048, 4096].contains(&self.frame_bytes) {
            return Err(wrong(format!("{} bytes a frame", self.frame_bytes)));
        }
        if !self.headroom.is_multiple_of(64) || u32::from(self.headroom) > self.frame_bytes / 2 {
            return Err(wrong(format!("{} bytes headroom", self.headroom)));
        }
        let len = self.frames as usize * self.frame_bytes as usize;
        let region = Arc::new(DmaRegion::map(len, &self.region)?);
        Ok(Pool(Arc::new(Inner {
            region,
            tag: next_tag()?,
            frames: self.frames,
            frame_bytes: self.frame_bytes,
            headroom: self.headroom,
            free: FreeList::full(self.frames),
            held: Mutex::new(Vec::new()),
        })))
    }
}

/// Tags are never used twice: a `Buf` of a pool long gone must not open another one's frames.
fn next_tag() -> Result<u32, SetupError> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tag| tag.checked_add(1)).map_err(
        |_| {
            SetupError::new(ErrorKind::Os, "pool", "this process has built 2^32 pools")
                .remedy("restart the program, and reuse pools")
        },
    )
}
