//! A sender handle of the library: a part of the card's transmit memory, the command register,
//! and a feedback slot.
//!
//! The library's own transmit functions wait without limit for room, so they are not used: the
//! memory is written, commands are given and feedback is read here, through the public fields of
//! `exanic_tx_t`. The library hands the resources out and takes them back.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use linerate_common::SetupError;
use linerate_exanic_sys::tx::{FRAME_OFFSET, NO_FEEDBACK, raw_header, store_fence};
use linerate_exanic_sys::{exanic_tx_t, layout, regs};

use crate::device::registers::RegisterWriter;
use crate::device::{Device, misfit};
use crate::error;
use crate::feedback::Feedback;
use crate::library;
use crate::reader::port_number;

const PAGE: usize = 4096;
const ACQUIRE: &str = "exanic_acquire_tx_buffer";

/// One owner's transmit memory.
#[derive(Debug)]
pub(crate) struct Sender {
    device: Arc<Device>,
    handle: NonNull<exanic_tx_t>,
    /// On the card, write-combining. Never read.
    memory: NonNull<u8>,
    bytes: usize,
    /// Where `memory` lies in the transmit region.
    offset: u32,
    feedback: Feedback,
    slot: u16,
    command: RegisterWriter,
    mtu: usize,
    queue: usize,
    /// The card may still read the memory: it is not given back.
    abandoned: bool,
}

// SAFETY: one owner writes the memory.
unsafe impl Send for Sender {}

impl Sender {
    pub(crate) fn open(device: &Arc<Device>, port: u32, bytes: usize) -> Result<Self, SetupError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE) || bytes > 1 << 24 {
            return Err(error::argument(ACQUIRE, "transmit memory comes in pages of 4096 bytes"));
        }
        let api = device.api();
        let locked = library::lock();
        // SAFETY: a live handle; the library checks the port, the driver the size.
        let handle = unsafe { (api.acquire_tx_buffer)(device.raw(), port_number(port), bytes) };
        let handle = NonNull::new(handle).ok_or_else(|| locked.failed(api, ACQUIRE))?;
        // SAFETY: a sender just made, on which nothing was sent.
        let fits =
            unsafe { layout::check_tx(handle.as_ptr(), device.raw(), port_number(port), bytes) };
        // SAFETY: as above; plain loads, whatever the layout.
        let (memory, feedback, offset, slot, queue) = unsafe {
            let tx = &*handle.as_ptr();
            (tx.buffer, tx.feedback, tx.buffer_offset, tx.feedback_slot, tx.queue_len)
        };
        let pointers = NonNull::new(memory).zip(NonNull::new(feedback));
        let (Ok(()), Some((memory, feedback))) = (fits, pointers) else {
            // SAFETY: the sender just made, given back once.
            unsafe { (api.release_tx_buffer)(handle.as_ptr()) };
            return Err(misfit(ACQUIRE, fits.err().unwrap_or("no transmit memory")));
        };
        // SAFETY: a live sender.
        let mtu = unsafe { (api.get_tx_mtu)(handle.as_ptr()) };
        Ok(Self {
            device: Arc::clone(device),
            handle,
            memory: memory.cast(),
            bytes,
            offset,
            // SAFETY: the library maps the slot until the sender is released.
            feedback: unsafe { Feedback::new(feedback.cast()) },
            slot: slot as u16,
            command: device.writer(regs::port(port, regs::PORT_TX_COMMAND)),
            // A chunk's length has 16 bits.
            mtu: mtu.min(bytes - FRAME_OFFSET).min(usize::from(u16::MAX) - FRAME_OFFSET),
            queue: queue.unsigned_abs() as usize,
            abandoned: false,
        })
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Longest frame, as the library reckons it.
    pub(crate) fn mtu(&self) -> usize {
        self.mtu
    }

    /// Commands that may be in flight: overrunning the card's queue is nobody's error but ours.
    pub(crate) fn queue(&self) -> usize {
        self.queue
    }

    /// The header of a chunk whose completion is fed back as `id`.
    #[inline]
    pub(crate) fn header(&self, id: u16, frame_bytes: usize) -> [u8; FRAME_OFFSET] {
        debug_assert!(self.slot & NO_FEEDBACK == 0);
        raw_header(id, self.slot, frame_bytes as u16)
    }

    /// Writes a whole chunk to the card: its header and its frame.
    ///
    /// # Panics
    ///
    /// If it does not fit the memory.
    #[inline(always)]
    pub(crate) fn write_chunk(&mut self, at: usize, header: [u8; FRAME_OFFSET], frame: &[u8]) {
        assert!(at < self.bytes && frame.len() + FRAME_OFFSET <= self.bytes - at);
        // SAFETY: within the memory that the library gave this owner, by the line above. The
        // card reads it between a command and its feedback; the callers keep to that.
        unsafe {
            let to = self.memory.as_ptr().add(at);
            to.cast::<[u8; FRAME_OFFSET]>().write_unaligned(header);
            to.add(FRAME_OFFSET).copy_from_nonoverlapping(frame.as_ptr(), frame.len());
        }
    }

    /// Writes to the card.
    ///
    /// # Panics
    ///
    /// If it does not fit the memory.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.bytes && bytes.len() <= self.bytes - at);
        // SAFETY: within the memory that the library gave this owner, by the line above. The
        // card reads it between a command and its feedback; the callers keep to that.
        unsafe {
            self.memory.as_ptr().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// Sends the chunk at `at`: one fence, one store.
    #[inline]
    pub(crate) fn command(&self, at: usize) {
        // The chunk must be on the card before the command is.
        store_fence();
        // SAFETY: this holds the device, which stays open.
        unsafe { self.command.write(self.offset.wrapping_add(at as u32)) };
    }

    /// Pushes what was written out to the card now, as the vendor does it: with a store to a
    /// register that cannot be written.
    pub(crate) fn flush(&self) {
        store_fence();
        self.device.write_register(regs::PCIE_IF_VER, 0xdead_beef);
    }

    /// The id that was fed back last.
    #[inline]
    pub(crate) fn fed_back(&self) -> u16 {
        self.feedback.last()
    }
}

impl Sender {
    /// Leaves the memory taken for as long as the process lives: the card has not said that it
    /// read every chunk it was told to send. The driver knows nothing of commands in flight, so
    /// whoever got the memory next would write into frames that go out later.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
    }
}

/// Memory that was not given back, and its card: closing that would give it back as well.
struct Abandoned {
    _device: Arc<Device>,
    _handle: NonNull<exanic_tx_t>,
}

// SAFETY: nobody uses it again.
unsafe impl Send for Abandoned {}

static ABANDONED: Mutex<Vec<Abandoned>> = Mutex::new(Vec::new());

impl Drop for Sender {
    fn drop(&mut self) {
        if self.abandoned {
            let mut kept = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
            let device = Arc::clone(&self.device);
            return kept.push(Abandoned { _device: device, _handle: self.handle });
        }
        let _locked = library::lock();
        // SAFETY: released once, by its owner; the card's handle is still open, and no command
        // is in flight: the queues wait for that, or abandon this.
        unsafe { (self.device.api().release_tx_buffer)(self.handle.as_ptr()) };
    }
}
