//! An open card.

pub(crate) mod registers;
mod search;
mod status;

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use linerate_common::SetupError;
use linerate_exanic_sys::{Api, exanic_port_stats_t, exanic_t, ids, layout, regs};

use crate::error;
use crate::library;
pub use search::{port_of_interface, port_of_interface_with, ports, ports_with};
pub use status::{PortCounters, PortStatus};

/// An open card. Queues hold it, so it closes with the last of them.
///
/// Cheap to share between threads. Reading registers (status, counters, time) crosses the bus:
/// about a microsecond each.
pub struct Device {
    api: &'static Api,
    handle: NonNull<exanic_t>,
    name: String,
    registers: NonNull<u32>,
    ports: u32,
}

// SAFETY: the library's functions that change shared state run under the process-wide lock;
// registers are read by atomic loads and written by single stores.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Device {
    /// Opens `/dev/NAME` through the library that this build is linked with
    /// (`exanic_acquire_handle`).
    ///
    /// # Errors
    ///
    /// Built without libexanic, no such card, no right to open it, or a library that does not fit
    /// the headers of this build.
    pub fn open(name: &str) -> Result<Arc<Self>, SetupError> {
        Self::open_with(linked()?, name)
    }

    /// Opens a card through another table: a simulated one.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(api: &'static Api, name: &str) -> Result<Arc<Self>, SetupError> {
        Self::try_open(api, name).map_err(|e| e.on(format!("exanic:{name}")))
    }

    fn try_open(api: &'static Api, name: &str) -> Result<Arc<Self>, SetupError> {
        const OPEN: &str = "exanic_acquire_handle";
        if !layout::is_known() {
            return Err(error::unsupported(
                OPEN,
                "the headers of this build are of no known release of libexanic",
            )
            .remedy("build against libexanic 2.7.6, or the latest release"));
        }
        // Longer names would be cut, and then not found in the library's list.
        let c_name = CString::new(name).ok().filter(|_| (1..16).contains(&name.len()));
        let c_name = c_name.ok_or_else(|| {
            error::argument(OPEN, "a device name has 1 to 15 characters, as in exanic0")
        })?;
        let locked = library::lock();
        // SAFETY: a NUL-terminated string, and the library is ours while locked.
        let handle = unsafe { (api.acquire_handle)(c_name.as_ptr()) };
        let handle = NonNull::new(handle).ok_or_else(|| locked.failed(api, OPEN))?;
        // SAFETY: a live handle.
        let ports = unsafe { (api.get_num_ports)(handle.as_ptr()) };
        // SAFETY: a live handle.
        let checked = unsafe { layout::check_card(handle.as_ptr(), ports) }
            .map_err(|what| misfit(OPEN, what))
            .and_then(|()| {
                // SAFETY: a live handle.
                match unsafe { (api.check_supported)(handle.as_ptr()) } {
                    0 => Ok(()),
                    _ => Err(locked.failed(api, "exanic_check_supported")),
                }
            });
        // SAFETY: a live handle, whose layout was just checked.
        let registers = NonNull::new(unsafe { (*handle.as_ptr()).registers });
        match (checked, registers) {
            (Ok(()), Some(registers)) => Ok(Arc::new(Self {
                api,
                handle,
                name: name.to_owned(),
                registers,
                ports: ports.unsigned_abs(),
            })),
            (checked, _) => {
                // SAFETY: the handle that was just acquired, given back once.
                unsafe { (api.release_handle)(handle.as_ptr()) };
                Err(checked.err().unwrap_or_else(|| misfit(OPEN, "no registers")))
            }
        }
    }

    /// Name as in `/dev`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Model, where known.
    #[must_use]
    pub fn model(&self) -> Option<&'static str> {
        ids::hardware_name(self.register(regs::HW_ID))
    }

    /// Number of ports.
    #[must_use]
    pub fn ports(&self) -> u32 {
        self.ports
    }

    /// Ticks per second of the card's clock; 0 when it has none that could be used.
    #[must_use]
    pub fn tick_hz(&self) -> u32 {
        self.register(regs::CLK_HZ)
    }

    /// The network interface behind a port (`exanic_get_interface_name`).
    ///
    /// # Errors
    ///
    /// There is no such port, or it has no interface.
    pub fn interface(&self, port: u32) -> Result<String, SetupError> {
        let mut name: [c_char; 16] = [0; 16];
        let locked = library::lock();
        // SAFETY: a live handle, a number that the library checks, and 16 bytes of room.
        let rc = unsafe {
            (self.api.get_interface_name)(self.raw(), port as i32, name.as_mut_ptr(), name.len())
        };
        if rc != 0 {
            let failed = locked.failed(self.api, "exanic_get_interface_name");
            return Err(failed.on(self.port_name(port)));
        }
        Ok(text(&name))
    }

    /// What a port says about itself.
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn status(&self, port: u32) -> Result<PortStatus, SetupError> {
        const CALL: &str = "exanic_get_mac_addr";
        let mut mac = [0; 6];
        let (api, handle, number) = (self.api, self.raw(), port as i32);
        let locked = library::lock();
        // SAFETY: a live handle, a port number that the library checks, and six bytes of room.
        let (rc, status, enabled, speed_mbps, promiscuous) = unsafe {
            (
                (api.get_mac_addr)(handle, number, mac.as_mut_ptr()),
                (api.get_port_status)(handle, number) as u32,
                (api.port_enabled)(handle, number) != 0,
                (api.get_port_speed)(handle, number),
                (api.get_promiscuous_mode)(handle, number) == 1,
            )
        };
        if rc != 0 {
            return Err(locked.failed(api, CALL).on(self.port_name(port)));
        }
        let has = |bit| status & bit != 0;
        Ok(PortStatus {
            enabled,
            link: has(ids::port_status::LINK),
            signal: has(ids::port_status::SIGNAL),
            speed_mbps,
            mac,
            promiscuous,
            rx_time_ready: !has(ids::port_status::RX_TIME_BAD),
            tx_time_ready: !has(ids::port_status::TX_TIME_BAD),
        })
    }

    /// A port's counters (`exanic_get_port_stats`).
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn counters(&self, port: u32) -> Result<PortCounters, SetupError> {
        let mut stats = exanic_port_stats_t {
            tx_count: 0,
            rx_count: 0,
            rx_ignored_count: 0,
            rx_error_count: 0,
            rx_dropped_count: 0,
        };
        let locked = library::lock();
        // SAFETY: a live handle, a port number that the library checks, and room for the struct.
        if unsafe { (self.api.get_port_stats)(self.raw(), port as i32, &raw mut stats) } != 0 {
            let failed = locked.failed(self.api, "exanic_get_port_stats");
            return Err(failed.on(self.port_name(port)));
        }
        Ok(PortCounters {
            tx: stats.tx_count,
            rx: stats.rx_count,
            rx_ignored: stats.rx_ignored_count,
            rx_error: stats.rx_error_count,
            rx_dropped: stats.rx_dropped_count,
        })
    }

    /// The library's handle, for calls that linerate does not make. Ours: do not release it, and
    /// call nothing that touches the library's globals while another thread may.
    #[must_use]
    pub fn as_raw(&self) -> *mut exanic_t {
        self.raw()
    }

    pub(crate) fn api(&self) -> &'static Api {
        self.api
    }

    pub(crate) fn raw(&self) -> *mut exanic_t {
        self.handle.as_ptr()
    }

    /// `exanic:exanic0/1`, for errors.
    pub(crate) fn port_name(&self, port: u32) -> String {
        format!("exanic:{}/{port}", self.name)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _locked = library::lock();
        // SAFETY: acquired once in `try_open`; every queue holds an Arc of this and is gone.
        unsafe { (self.api.release_handle)(self.raw()) };
    }
}

/// The table of the library that this build is linked with.
pub(crate) fn linked() -> Result<&'static Api, SetupError> {
    Api::linked().map_err(|no_sdk| {
        error::unsupported("exanic_acquire_handle", no_sdk.to_string()).remedy(
            "install libexanic (package exanic-devel, or make install in exanic-software) and \
             build with the feature `sdk`",
        )
    })
}

pub(crate) fn misfit(op: &'static str, what: &str) -> SetupError {
    let detail = format!(
        "libexanic.a is of another release than the headers of this build ({}): {what}",
        layout::release()
    );
    error::unsupported(op, detail).remedy(
        "point EXANIC_INCLUDE_DIR and EXANIC_LIB_DIR at the headers and library of one release \
         and build again",
    )
}

/// A C string in a fixed array.
pub(crate) fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|c| *c as u8).chain([0]).collect();
    CStr::from_bytes_until_nul(&bytes).unwrap_or_default().to_string_lossy().into_owned()
}
