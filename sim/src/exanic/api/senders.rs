//! Senders: transmit memory with a feedback slot.

use std::ffi::c_int;
use std::sync::atomic::Ordering::Relaxed;

use linerate_exanic_sys::{exanic_t, exanic_tx_t};

use super::{fail, usable};
use crate::exanic::card::lock;
use crate::exanic::registry::{self, card_of};

/// A sender.
#[repr(C)]
struct Sender {
    /// First, so that a pointer to it is one to the whole.
    public: exanic_tx_t,
    offsets: Box<[u32]>,
}

pub(super) unsafe extern "C" fn acquire_tx_buffer(
    exanic: *mut exanic_t,
    port: c_int,
    bytes: usize,
) -> *mut exanic_tx_t {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = usable(&card, port) else { return std::ptr::null_mut() };
    let bytes = if bytes == 0 { registry::PAGE } else { bytes };
    if bytes % registry::PAGE != 0 {
        fail("TX buffer size must be a multiple of page size (4096 bytes)");
        return std::ptr::null_mut();
    }
    let mut books = lock(&card.resources);
    let Some(offset) = books.take_tx(port, bytes) else {
        fail("EXANICCTL_TX_BUFFER_ALLOC failed: Cannot allocate memory");
        return std::ptr::null_mut();
    };
    let Some(slot) = books.take_feedback() else {
        books.give_tx(offset, bytes);
        fail("EXANICCTL_TX_FEEDBACK_ALLOC failed: Cannot allocate memory");
        return std::ptr::null_mut();
    };
    drop(books);
    let queue = 1_usize << (bytes / 512).ilog2();
    let mut offsets = vec![0; queue].into_boxed_slice();
    offsets[0] = bytes as u32;
    card.memory.feedback.0[slot].store(0, Relaxed);
    // SAFETY: integers and pointers, for which zero is a value.
    let mut public: exanic_tx_t = unsafe { std::mem::zeroed() };
    public.exanic = exanic;
    public.port_number = port as c_int;
    public.feedback_slot = slot as c_int;
    public.feedback = std::ptr::from_ref(&card.memory.feedback.0[slot]).cast_mut().cast();
    // SAFETY: within transmit memory, where the books gave it out.
    public.buffer = unsafe { card.memory.tx.as_ptr().add(offset) }.cast();
    public.buffer_offset = offset as u32;
    public.buffer_size = bytes as u32;
    public.rollover_seq = 1;
    public.next_seq = 1;
    public.queue_len = queue as c_int;
    public.feedback_offsets = offsets.as_mut_ptr();
    // SAFETY: an open handle.
    unsafe { registry::retain(exanic) };
    Box::into_raw(Box::new(Sender { public, offsets })).cast()
}

pub(super) unsafe extern "C" fn release_tx_buffer(tx: *mut exanic_tx_t) {
    if tx.is_null() {
        return;
    }
    // SAFETY: a sender of this table, given up by its owner.
    let sender = unsafe { Box::from_raw(tx.cast::<Sender>()) };
    let exanic = sender.public.exanic;
    // SAFETY: a sender counts as an owner of its handle.
    let card = unsafe { card_of(exanic) };
    let mut books = lock(&card.resources);
    books.give_tx(sender.public.buffer_offset as usize, sender.public.buffer_size as usize);
    books.give_feedback(sender.public.feedback_slot as usize);
    drop(books);
    drop(sender.offsets);
    // SAFETY: as above.
    unsafe { registry::release(exanic) };
}

pub(super) unsafe extern "C" fn get_tx_mtu(tx: *mut exanic_tx_t) -> usize {
    // SAFETY: a sender of this table.
    let bytes = unsafe { (*tx).buffer_size } as usize;
    bytes / 2 - 522
}
