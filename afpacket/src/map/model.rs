//! The ring as loom sees it: status words of its own kind, and a cell for each unit (a block or a
//! slot), which every access to the unit's bytes goes through. Two threads in one unit, or bytes
//! that are looked at before they are visible, are an error.

use std::ptr::NonNull;
use std::sync::Arc;

use linerate_common::{Error, ErrorKind};
use loom::cell::UnsafeCell;

use crate::sys::Socket;

pub(crate) type Status = loom::sync::atomic::AtomicU32;

/// What both sides share.
#[derive(Debug)]
pub(crate) struct Shared {
    bytes: NonNull<u64>,
    unit_bytes: usize,
    status: Vec<Status>,
    units: Vec<UnsafeCell<()>>,
}

// SAFETY: bytes are reached through `bytes_of`, where loom sees that one thread does so at a time.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The first byte of a unit, for whom it belongs to.
    pub(crate) fn bytes_of(&self, unit: usize) -> *mut u8 {
        self.units[unit].with_mut(|_| ());
        // SAFETY: within the allocation.
        unsafe { self.bytes.as_ptr().cast::<u8>().add(unit * self.unit_bytes) }
    }

    /// Notes that the byte at `at` is looked at.
    pub(crate) fn touch(&self, at: *const u8) {
        let offset = at as usize - self.bytes.as_ptr() as usize;
        self.bytes_of(offset / self.unit_bytes);
    }

    pub(crate) fn status(&self, unit: usize) -> &Status {
        &self.status[unit]
    }

    fn words(&self) -> usize {
        self.units.len() * self.unit_bytes / 8
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let words = std::ptr::slice_from_raw_parts_mut(self.bytes.as_ptr(), self.words());
        // SAFETY: the box that `Map::of_units` took apart.
        drop(unsafe { Box::from_raw(words) });
    }
}

#[derive(Debug)]
pub(crate) struct Map(Arc<Shared>);

impl Map {
    pub(crate) fn of(_: &Socket, _: usize) -> Result<Self, Error> {
        Err(Error::new(ErrorKind::Unsupported, "mmap"))
    }

    pub(crate) fn of_units(units: usize, unit_bytes: usize) -> (Self, Arc<Shared>) {
        let words = Box::leak(vec![0_u64; units * unit_bytes / 8].into_boxed_slice());
        let shared = Arc::new(Shared {
            bytes: NonNull::from(words).cast(),
            unit_bytes,
            status: (0..units).map(|_| Status::new(0)).collect(),
            units: (0..units).map(|_| UnsafeCell::new(())).collect(),
        });
        (Self(shared.clone()), shared)
    }

    pub(crate) unsafe fn status(&self, offset: usize) -> &Status {
        self.0.status(offset / self.0.unit_bytes)
    }

    pub(crate) unsafe fn at(&self, offset: usize) -> *mut u8 {
        let unit = self.0.bytes_of(offset / self.0.unit_bytes);
        // SAFETY: as the caller promises.
        unsafe { unit.add(offset % self.0.unit_bytes) }
    }
}
