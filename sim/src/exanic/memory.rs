//! The memory a program maps: registers, info page, feedback slots, transmit memory, rings.
//!
//! Card and program touch it from different threads, so all of it is atomics, but for transmit
//! memory: there the program writes plainly, and the card reads only between a command and its
//! feedback, which order the two.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use linerate_exanic_sys::regs;
use linerate_exanic_sys::rx::{Chunk, Info, PAYLOAD_WORDS, RING_CHUNKS};

use super::{PORTS, TX_BYTES_PER_PORT};

const TX_BYTES: usize = PORTS * TX_BYTES_PER_PORT;

/// What the program maps of a card.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) registers: Box<Registers>,
    pub(super) info: Box<InfoPage>,
    pub(super) feedback: Box<Feedback>,
    pub(super) tx: Box<TxRegion>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { registers: zeroed(), info: zeroed(), feedback: zeroed(), tx: zeroed() }
    }
}

/// All zero bits are a valid value, and dropping it does nothing.
///
/// # Safety
///
/// That must be true.
unsafe trait Zeroable {}

#[derive(Debug)]
#[repr(C, align(4096))]
pub(super) struct Registers([AtomicU32; regs::REGION_BYTES / 4]);

impl Registers {
    pub(super) fn get(&self, index: u32) -> u32 {
        self.0[index as usize].load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, index: u32, value: u32) {
        self.0[index as usize].store(value, Ordering::Relaxed);
    }

    pub(super) fn add(&self, index: u32, n: u32) {
        self.0[index as usize].fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn change(&self, index: u32, bits: u32, on: bool) {
        let word = &self.0[index as usize];
        if on {
            word.fetch_or(bits, Ordering::Relaxed)
        } else {
            word.fetch_and(!bits, Ordering::Relaxed)
        };
    }

    pub(super) fn as_ptr(&self) -> *mut u32 {
        self.0.as_ptr().cast_mut().cast()
    }
}

#[derive(Debug)]
#[repr(C, align(4096))]
pub(super) struct InfoPage {
    pub(super) hw_time: AtomicU64,
}

#[derive(Debug)]
#[repr(C, align(4096))]
pub(super) struct Feedback(pub(super) [AtomicU16; 2048]);

/// See the module's notes on who may touch it when.
#[repr(C, align(4096))]
pub(super) struct TxRegion(UnsafeCell<[u8; TX_BYTES]>);

// SAFETY: a program writes only to pages it has allocated and only while no command on them is
// waiting; the card reads only what a command names. The command queue's lock and the feedback
// slot's release and acquire put the one before the other.
unsafe impl Sync for TxRegion {}

impl std::fmt::Debug for TxRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxRegion").finish_non_exhaustive()
    }
}

impl TxRegion {
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.0.get().cast()
    }

    /// Copies what the card would fetch.
    pub(super) fn read(&self, offset: usize, len: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(len).filter(|end| *end <= TX_BYTES)?;
        let mut bytes = vec![0; end - offset];
        // SAFETY: within the region, by the line above; the program does not write a chunk that
        // is being sent, which the safe crate upholds.
        unsafe { self.as_ptr().add(offset).copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        Some(bytes)
    }
}

/// A receive ring, all ones when new, as the driver leaves it.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(super) struct RingMemory([Chunk; RING_CHUNKS as usize]);

impl RingMemory {
    pub(super) fn new() -> Box<Self> {
        let mut ring: Box<Self> = zeroed();
        // SAFETY: nobody else has it yet, and all bits set are a valid value of its atomics.
        unsafe { (&raw mut *ring).write_bytes(0xff, 1) };
        ring
    }

    pub(super) fn as_ptr(&self) -> *mut Chunk {
        self.0.as_ptr().cast_mut()
    }

    /// Writes the payload of chunk `pos`; `bytes` is at most a chunk. What lies beyond it in the
    /// last word is left as rubbish.
    pub(super) fn write_payload(&self, pos: u64, bytes: &[u8]) {
        let chunk = self.at(pos);
        for (word, part) in chunk.payload.iter().zip(bytes.chunks(8)) {
            let mut whole = [0xee; 8];
            whole[..part.len()].copy_from_slice(part);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        debug_assert!(bytes.len() <= PAYLOAD_WORDS * 8);
    }

    /// Writes the metadata that makes chunk `pos` valid.
    pub(super) fn write_info(&self, pos: u64, info: Info) {
        // Release: whoever sees this metadata sees the payload before it.
        self.at(pos).info.store(info.0, Ordering::Release);
        // And whoever sees any of the *next* chunk's payload, and fences, sees this metadata:
        // the other half of the readers' check of the chunk before. A card's writes go over the
        // bus in order and need no such thing.
        fence(Ordering::Release);
    }

    fn at(&self, pos: u64) -> &Chunk {
        &self.0[(pos % u64::from(RING_CHUNKS)) as usize]
    }
}

// SAFETY: arrays of atomics, and of bytes; none of them has a destructor.
unsafe impl Zeroable for Registers {}
// SAFETY: as above.
unsafe impl Zeroable for InfoPage {}
// SAFETY: as above.
unsafe impl Zeroable for Feedback {}
// SAFETY: as above.
unsafe impl Zeroable for TxRegion {}
// SAFETY: as above.
unsafe impl Zeroable for RingMemory {}

/// A zeroed value made where it stays: these are too big for a stack.
fn zeroed<T: Zeroable>() -> Box<T> {
    let layout = Layout::new::<T>();
    // SAFETY: the types here are not empty.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<T>();
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: fresh, aligned, and zero is a valid value.
    unsafe { Box::from_raw(memory) }
}
