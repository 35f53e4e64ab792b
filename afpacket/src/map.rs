//! The receive ring as mapped memory. For loom there is another, `map/model.rs`.

use std::ptr::NonNull;

use linerate_common::Error;

use crate::sys::Socket;

/// A word by which the kernel and we hand memory to each other.
pub(crate) type Status = std::sync::atomic::AtomicU32;

/// The receive ring, mapped.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is process-wide memory; nothing about it is bound to a thread.
unsafe impl Send for Map {}

impl Map {
    /// Maps the ring that was set up on `socket`, `len` bytes of it.
    pub(crate) fn of(socket: &Socket, len: usize) -> Result<Self, Error> {
        let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, read_write, shared, socket.raw(), 0) };
        match NonNull::new(start.cast()) {
            Some(byte) if start != libc::MAP_FAILED => Ok(Self { start: byte, len }),
            _ => Err(Error::last_os("mmap")),
        }
    }

    /// Memory of our own that plays the ring in tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn anonymous(len: usize) -> Self {
        let (read_write, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, read_write, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Self { start: NonNull::new(start.cast()).expect("mapped"), len }
    }

    /// The status word at `offset`.
    ///
    /// # Safety
    ///
    /// `offset` is that of a status word: within the mapping, aligned, and nothing but atomics
    /// touch it.
    #[inline]
    pub(crate) unsafe fn status(&self, offset: usize) -> &Status {
        // SAFETY: as the caller promises; the kernel too treats it as an atomic word.
        unsafe { Status::from_ptr(self.at(offset).cast()) }
    }

    /// The byte at `offset`.
    ///
    /// # Safety
    ///
    /// `offset` is within the mapping, or at its end.
    #[inline]
    pub(crate) unsafe fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once; whoever borrows from it borrows the ring too.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
