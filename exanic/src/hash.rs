//! Flow hashing: the readers of one port's hash buffers, begun and ended together.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use linerate_common::SetupError;
use linerate_exanic_sys::{exanic_rx_t, ids};

use crate::claims::Claim;
use crate::device::Device;
use crate::error;
use crate::library;
use crate::reader::{Reader, port_number};

/// What a TCP or UDP flow is hashed over. All else stays in the default ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum HashOver {
    /// Source and destination port.
    Ports,
    /// Source and destination address.
    Addresses,
    /// Both.
    #[default]
    PortsAndAddresses,
}

impl HashOver {
    fn number(self) -> i32 {
        match self {
            Self::Ports => ids::hash::PORT,
            Self::Addresses => ids::hash::IP,
            Self::PortsAndAddresses => ids::hash::PORT_IP,
        }
    }
}

/// Hashing on one port. The last reader to go ends it and gives all buffers back: releasing one
/// of them alone would end hashing for the others.
#[derive(Debug)]
pub(crate) struct Group {
    device: Arc<Device>,
    port: u32,
    handles: Mutex<Vec<Handle>>,
    claim: Option<Claim>,
}

#[derive(Debug)]
struct Handle(NonNull<exanic_rx_t>);

// SAFETY: only kept here, to be released at the end.
unsafe impl Send for Handle {}

/// Turns hashing on and opens a reader for each buffer.
pub(crate) fn open(
    device: &Arc<Device>,
    port: u32,
    buffers: usize,
    over: HashOver,
) -> Result<Vec<Reader>, SetupError> {
    const CALL: &str = "exanic_enable_flow_hashing";
    if !buffers.is_power_of_two() || buffers > 256 {
        return Err(error::argument(
            CALL,
            "the number of buffers must be a power of two up to 256",
        ));
    }
    let api = device.api();
    let group = Arc::new(Group {
        device: Arc::clone(device),
        port,
        handles: Mutex::default(),
        claim: Some(Claim::hashing(device.name(), port)?),
    });
    let locked = library::lock();
    // SAFETY: a live handle; the library checks the port.
    let got = unsafe {
        (api.enable_flow_hashing)(device.raw(), port_number(port), buffers as i32, over.number())
    };
    let got = u32::try_from(got).ok().filter(|n| *n > 0);
    let failed = locked.failed(api, CALL);
    drop(locked);
    // Fewer than asked is the card's limit: the caller sees how many there are.
    let got = got.ok_or(failed)?;
    (1..=got).map(|buffer| group.reader(buffer)).collect()
}

impl Group {
    fn reader(self: &Arc<Self>, buffer: u32) -> Result<Reader, SetupError> {
        let (device, api) = (&self.device, self.device.api());
        let locked = library::lock();
        // SAFETY: a live handle; the library checks the port, the driver the buffer.
        let handle =
            unsafe { (api.acquire_rx_buffer)(device.raw(), port_number(self.port), buffer as i32) };
        let handle =
            NonNull::new(handle).ok_or_else(|| locked.failed(api, "exanic_acquire_rx_buffer"))?;
        drop(locked);
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).push(Handle(handle));
        Reader::of_group(device, handle, self.port, self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let api = self.device.api();
        let _locked = library::lock();
        // SAFETY: a live handle; turning it off twice is harmless.
        unsafe { (api.disable_flow_hashing)(self.device.raw(), port_number(self.port)) };
        for handle in self.handles.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // SAFETY: each released once; the readers that used them are gone, as each holds the
            // group.
            unsafe { (api.release_rx_buffer)(handle.0.as_ptr()) };
        }
        self.claim = None;
    }
}
