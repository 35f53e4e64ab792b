//! A reader handle of the library: which ring it maps and how it is given back.

use std::ptr::NonNull;
use std::sync::Arc;

use linerate_common::SetupError;
use linerate_exanic_sys::{exanic_rx_t, layout, regs};

use crate::claims::Claim;
use crate::device::{Device, misfit};
use crate::error;
use crate::hash::Group;
use crate::library;
use crate::promiscuous::Promiscuous;
use crate::ring::Ring;

/// An open reader. The library is used to make and release it, and for the rules; the ring is
/// read by this crate (see `assemble/mod.rs`).
#[derive(Debug)]
pub(crate) struct Reader {
    device: Arc<Device>,
    handle: NonNull<exanic_rx_t>,
    port: u32,
    buffer: u32,
    keep: Keep,
    _promiscuous: Option<Promiscuous>,
}

/// What ends with a reader.
#[derive(Debug)]
enum Keep {
    Nothing,
    Claim {
        _claim: Claim,
    },
    /// The group releases all its handles at its end.
    Group {
        _group: Arc<Group>,
    },
}

// SAFETY: one owner uses the handle, under the process-wide lock where the library is called.
unsafe impl Send for Reader {}

const ACQUIRE: &str = "exanic_acquire_rx_buffer";

impl Reader {
    /// A reader of the default ring (`buffer` 0) or of a filter buffer.
    pub(crate) fn open(device: &Arc<Device>, port: u32, buffer: u32) -> Result<Self, SetupError> {
        let keep = match buffer {
            0 => Keep::Nothing,
            _ => Keep::Claim { _claim: Claim::buffer(device.name(), port, buffer)? },
        };
        let locked = library::lock();
        let number =
            i32::try_from(buffer).map_err(|_| error::argument(ACQUIRE, "no such buffer"))?;
        // SAFETY: a live handle; the library checks the port, the driver the buffer.
        let handle =
            unsafe { (device.api().acquire_rx_buffer)(device.raw(), port_number(port), number) };
        let handle = NonNull::new(handle).ok_or_else(|| locked.failed(device.api(), ACQUIRE))?;
        Self::checked(device, handle, port, keep)
    }

    /// A reader of a filter buffer that nobody uses.
    pub(crate) fn open_unused(device: &Arc<Device>, port: u32) -> Result<Self, SetupError> {
        const CALL: &str = "exanic_acquire_unused_filter_buffer";
        // The library computes the offset of the mapping in an int, which overflows there.
        let buffers = device.register(regs::NUM_FILTER_BUFFERS);
        if u64::from(port + 1) * u64::from(buffers) > 1018 {
            return Err(error::unsupported(
                CALL,
                "this card has more buffers than libexanic can map",
            )
            .remedy("name a buffer: RxBuffer::Filter(1)"));
        }
        let locked = library::lock();
        // SAFETY: a live handle; the library checks the port.
        let handle =
            unsafe { (device.api().acquire_unused_filter_buffer)(device.raw(), port_number(port)) };
        let handle = NonNull::new(handle).ok_or_else(|| locked.failed(device.api(), CALL))?;
        // SAFETY: a reader just made; the field has not moved in any release.
        let buffer = unsafe { (*handle.as_ptr()).buffer_number };
        match Claim::buffer(device.name(), port, buffer.unsigned_abs()) {
            Ok(claim) => Self::checked(device, handle, port, Keep::Claim { _claim: claim }),
            Err(e) => {
                // SAFETY: the reader just made, given back once.
                unsafe { (device.api().release_rx_buffer)(handle.as_ptr()) };
                Err(e)
            }
        }
    }

    /// A reader of one of a hashing group's buffers, released by the group.
    pub(crate) fn of_group(
        device: &Arc<Device>,
        handle: NonNull<exanic_rx_t>,
        port: u32,
        group: &Arc<Group>,
    ) -> Result<Self, SetupError> {
        Self::checked(device, handle, port, Keep::Group { _group: Arc::clone(group) })
    }

    fn checked(
        device: &Arc<Device>,
        handle: NonNull<exanic_rx_t>,
        port: u32,
        keep: Keep,
    ) -> Result<Self, SetupError> {
        // SAFETY: a reader of a live handle.
        let fits = unsafe { layout::check_rx(handle.as_ptr(), device.raw(), port_number(port)) };
        if let Err(what) = fits {
            if !matches!(keep, Keep::Group { .. }) {
                // SAFETY: the reader just made, given back once.
                unsafe { (device.api().release_rx_buffer)(handle.as_ptr()) };
            }
            return Err(misfit(ACQUIRE, what));
        }
        // SAFETY: as checked.
        let buffer = unsafe { (*handle.as_ptr()).buffer_number }.unsigned_abs();
        Ok(Self { device: Arc::clone(device), handle, port, buffer, keep, _promiscuous: None })
    }

    /// The same, in promiscuous mode as long as it lives.
    pub(crate) fn with(mut self, promiscuous: Promiscuous) -> Self {
        self._promiscuous = Some(promiscuous);
        self
    }

    /// The mapped ring. Use it only while this reader is open.
    pub(crate) fn ring(&self) -> Result<Ring, SetupError> {
        // SAFETY: an open reader of a checked layout.
        let base = NonNull::new(unsafe { (*self.handle.as_ptr()).buffer });
        let base = base.ok_or_else(|| misfit(ACQUIRE, "no ring"))?;
        // SAFETY: the library maps a whole ring there until the reader is released.
        Ok(unsafe { Ring::new(base.cast()) })
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// 0: the default ring.
    pub(crate) fn buffer(&self) -> u32 {
        self.buffer
    }

    pub(crate) fn is_hashed(&self) -> bool {
        matches!(self.keep, Keep::Group { .. })
    }

    pub(crate) fn raw(&self) -> *mut exanic_rx_t {
        self.handle.as_ptr()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if matches!(self.keep, Keep::Group { .. }) {
            return;
        }
        let _locked = library::lock();
        // SAFETY: released once, by its owner; the card's handle is still open.
        unsafe { (self.device.api().release_rx_buffer)(self.raw()) };
        // The claim ends under the same lock: whoever is handed the buffer next can claim it.
        self.keep = Keep::Nothing;
    }
}

/// As the library wants it; what does not fit an int is no port, and -1 says so.
pub(crate) fn port_number(port: u32) -> i32 {
    i32::try_from(port).unwrap_or(-1)
}
