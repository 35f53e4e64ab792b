//! An owned DMA buffer: an index into a pool, not a pointer.

/// One buffer of a pool, owned by whoever holds this.
///
/// Plain data of 12 bytes: hand it to another thread through any queue. It has no `Drop`; a
/// buffer that is dropped instead of pushed or freed is missing from
/// its pool, and the pool's `outstanding()` says so.
#[must_use = "a Buf that is dropped is lost to its pool"]
#[derive(Debug, PartialEq, Eq)]
pub struct Buf {
    pool: u32,
    id: u32,
    off: u16,
    len: u16,
}

impl Buf {
    /// For backends: the frame of `len` bytes at `off` in buffer `id` of the pool tagged `pool`.
    ///
    /// # Safety
    ///
    /// The caller owns buffer `id` of that pool exclusively and gives the ownership up, and
    /// `off + len` lies within one buffer.
    #[inline]
    pub unsafe fn from_parts(pool: u32, id: u32, off: u16, len: u16) -> Self {
        Self { pool, id, off, len }
    }

    /// Length of the frame in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Is the frame empty?
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tag of the pool it belongs to.
    #[inline]
    #[must_use]
    pub fn pool_tag(&self) -> u32 {
        self.pool
    }

    /// Index of the buffer in its pool.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where in the buffer the frame begins.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        usize::from(self.off)
    }
}
