//! The program's memory as the card sees it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use linerate_efvi_sys::ef_driver_handle;

use super::card::lock;

/// A registration. The card's addresses have nothing to do with the program's, so that one taken
/// for the other is noticed.
#[derive(Debug, Clone, Copy)]
struct Region {
    dh: ef_driver_handle,
    iova: u64,
    start: usize,
    len: usize,
}

static REGIONS: Mutex<Vec<Region>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(1 << 40);

/// Registers memory; returns the card's address of its first byte. On a shared card that is the
/// program's own.
pub(super) fn register(dh: ef_driver_handle, start: *mut u8, len: usize, identity: bool) -> u64 {
    let room = (len as u64).next_multiple_of(1 << 21) + (1 << 21);
    let iova = if identity { start as u64 } else { NEXT.fetch_add(room, Ordering::Relaxed) };
    lock(&REGIONS).push(Region { dh, iova, start: start as usize, len });
    iova
}

/// Forgets what a driver handle registered: its last close.
pub(super) fn forget(dh: ef_driver_handle) {
    lock(&REGIONS).retain(|region| region.dh != dh);
}

/// Where `len` bytes at the card's address `iova` are in the program, if registered on `dh`.
pub(super) fn translate(dh: ef_driver_handle, iova: u64, len: usize) -> Option<*mut u8> {
    let regions = lock(&REGIONS);
    let region = regions
        .iter()
        .find(|r| r.dh == dh && iova >= r.iova && iova + len as u64 <= r.iova + r.len as u64)?;
    Some((region.start + (iova - region.iova) as usize) as *mut u8)
}
