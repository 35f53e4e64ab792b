//! Readers of receive rings, and the filter buffers and flow hashing that they come by.

use std::ffi::c_int;
use std::sync::Arc;

use linerate_exanic_sys::rx::{Chunk, Info, RING_CHUNKS};
use linerate_exanic_sys::{exanic_rx_t, exanic_t};

use super::{checked, fail, usable};
use crate::exanic::FILTER_BUFFERS;
use crate::exanic::card::{Shared, lock};
use crate::exanic::memory::RingMemory;
use crate::exanic::registry::{self, card_of};
use crate::exanic::steer::Hash;

/// A reader and what keeps its ring mapped.
#[repr(C)]
struct Reader {
    /// First, so that a pointer to it is one to the whole.
    public: exanic_rx_t,
    _ring: Arc<RingMemory>,
}

/// Allocates a filter buffer unless this process refers to it already.
fn allocate(card: &Shared, port: usize, filter: usize) {
    if lock(&card.resources).refer(port, filter) {
        card.rx(port).allocate(filter);
    }
}

/// # Safety
///
/// `exanic` is an open handle of `card`.
unsafe fn reader(
    card: &Shared,
    exanic: *mut exanic_t,
    port: usize,
    buffer: usize,
) -> *mut exanic_rx_t {
    let Some(ring) = card.rx(port).ring(buffer).map(|ring| Arc::clone(&ring.memory)) else {
        fail("rx mmap failed: Invalid argument");
        return std::ptr::null_mut();
    };
    // SAFETY: integers and pointers, for which zero is a value.
    let mut public: exanic_rx_t = unsafe { std::mem::zeroed() };
    public.exanic = exanic;
    public.port_number = port as c_int;
    public.buffer_number = buffer as c_int;
    public.buffer = ring.as_ptr().cast();
    // SAFETY: an open handle.
    unsafe { registry::retain(exanic) };
    let reader = Box::into_raw(Box::new(Reader { public, _ring: ring })).cast();
    // SAFETY: a reader just made.
    unsafe { rx_catchup(reader) };
    reader
}

pub(super) unsafe extern "C" fn acquire_rx_buffer(
    exanic: *mut exanic_t,
    port: c_int,
    buffer: c_int,
) -> *mut exanic_rx_t {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = usable(&card, port) else { return std::ptr::null_mut() };
    let buffer = usize::try_from(buffer).unwrap_or(0);
    if buffer > FILTER_BUFFERS {
        fail("EXANICCTL_RX_FILTER_BUFFER_ALLOC_EX failed: Invalid argument");
        return std::ptr::null_mut();
    }
    if buffer > 0 {
        allocate(&card, port, buffer - 1);
    }
    // SAFETY: the same handle.
    unsafe { reader(&card, exanic, port, buffer) }
}

pub(super) unsafe extern "C" fn acquire_unused_filter_buffer(
    exanic: *mut exanic_t,
    port: c_int,
) -> *mut exanic_rx_t {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = usable(&card, port) else { return std::ptr::null_mut() };
    let Some(filter) = lock(&card.resources).unused(port) else {
        fail("EXANICCTL_RX_FILTER_BUFFER_ALLOC_EX failed: Cannot allocate memory");
        return std::ptr::null_mut();
    };
    allocate(&card, port, filter);
    // SAFETY: the same handle.
    unsafe { reader(&card, exanic, port, filter + 1) }
}

pub(super) unsafe extern "C" fn release_rx_buffer(rx: *mut exanic_rx_t) {
    if rx.is_null() {
        return;
    }
    // SAFETY: a reader of this table, given up by its owner.
    let reader = unsafe { Box::from_raw(rx.cast::<Reader>()) };
    let exanic = reader.public.exanic;
    // SAFETY: a reader counts as an owner of its handle.
    let card = unsafe { card_of(exanic) };
    let port = reader.public.port_number as usize;
    if let Some(filter) = (reader.public.buffer_number as usize).checked_sub(1) {
        // As the driver: the buffer and its rules go, whoever else in the process reads it.
        lock(&card.resources).forget(port, filter);
        card.rx(port).free(filter);
    }
    // SAFETY: as above.
    unsafe { registry::release(exanic) };
}

pub(super) unsafe extern "C" fn enable_flow_hashing(
    exanic: *mut exanic_t,
    port: c_int,
    max_buffers: c_int,
    function: c_int,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let buffers = usize::try_from(max_buffers).unwrap_or(0);
    if !buffers.is_power_of_two() {
        fail("max buffers must be a power of 2");
        return -1;
    }
    let Some(port) = usable(&card, port) else { return -1 };
    let buffers = buffers.min(FILTER_BUFFERS);
    for filter in 0..buffers {
        allocate(&card, port, filter);
    }
    // The real one ignores it when the driver refuses the function.
    if (0..3).contains(&function) {
        card.rx(port).rules.hash = Some(Hash { buffers, function });
    }
    buffers as c_int
}

pub(super) unsafe extern "C" fn disable_flow_hashing(exanic: *mut exanic_t, port: c_int) {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    if let Some(port) = checked(port) {
        card.rx(port).rules.hash = None;
    }
}

/// Moves behind the newest end of a frame, found the plain way: all chunks, newest first.
pub(super) unsafe extern "C" fn rx_catchup(rx: *mut exanic_rx_t) {
    // SAFETY: a reader of this table, used by one thread; its ring is mapped.
    let rx = unsafe { &mut *rx };
    let info = |index: u32| {
        // SAFETY: below RING_CHUNKS.
        let chunk = unsafe { &*rx.buffer.cast::<Chunk>().add(index as usize) };
        Info(chunk.info.load(std::sync::atomic::Ordering::Acquire))
    };
    let first = info(0).generation();
    let written = (0..RING_CHUNKS).find(|i| info(*i).generation() != first).unwrap_or(RING_CHUNKS);
    let end = (0..RING_CHUNKS)
        .map(|back| (written + RING_CHUNKS - 1 - back) % RING_CHUNKS)
        .find(|index| info(*index).length() != 0)
        .unwrap_or((written + RING_CHUNKS - 1) % RING_CHUNKS);
    let generation = info(end).generation();
    rx.next_chunk = (end + 1) % RING_CHUNKS;
    rx.generation = if rx.next_chunk == 0 { generation.wrapping_add(1) } else { generation };
}
