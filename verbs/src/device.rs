//! Devices: which there are, which network interface is behind each port, and what they can do.

use std::ffi::CStr;
use std::fs;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use linerate_common::{ErrorKind, SetupError};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::error::{check, last};
use crate::event::{self, Watchers};
use crate::library::Library;

/// Names of the RDMA devices that libibverbs finds.
///
/// # Errors
///
/// The library is missing, or the kernel has no RDMA.
pub fn devices(library: Library) -> Result<Vec<String>, SetupError> {
    let list = DeviceList::get(library)?;
    Ok(list.iter().map(|device| name_of(library, device)).collect())
}

/// The device and port (from 1) behind a network interface, from sysfs.
#[must_use]
pub fn port_of_interface(interface: &str) -> Option<(String, u8)> {
    let infiniband = Path::new("/sys/class/infiniband");
    for device in fs::read_dir(infiniband).ok()?.flatten() {
        let Ok(ports) = fs::read_dir(device.path().join("ports")) else { continue };
        for port in ports.flatten() {
            let Ok(ndevs) = fs::read_dir(port.path().join("gid_attrs/ndevs")) else { continue };
            let here = ndevs.flatten().any(|entry| {
                fs::read_to_string(entry.path()).is_ok_and(|name| name.trim() == interface)
            });
            if here {
                let number = port.file_name().to_str()?.parse().ok()?;
                return Some((device.file_name().to_str()?.to_owned(), number));
            }
        }
    }
    None
}

/// The network interface behind a device's port, from sysfs.
#[must_use]
pub fn interface_of_port(device: &str, port: u8) -> Option<String> {
    let ndevs = format!("/sys/class/infiniband/{device}/ports/{port}/gid_attrs/ndevs");
    let entries = fs::read_dir(ndevs).ok()?;
    entries.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path()).ok()?;
        (!name.trim().is_empty()).then(|| name.trim().to_owned())
    })
}

/// An open device. What is made from it keeps it open.
#[derive(Debug)]
pub struct Context {
    raw: NonNull<sys::ibv_context>,
    library: Library,
    name: String,
    pub(crate) watchers: Watchers,
}

// SAFETY: libibverbs locks a context's control calls; the raw pointer is only handed to it.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// What a device says it can do. Limits are upper bounds: creating is the only proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// Longest queue, in work requests.
    pub max_qp_wr: u32,
    /// Longest completion queue.
    pub max_cqe: u32,
    /// Ports, numbered from 1.
    pub ports: u8,
    /// Can steer flows to queue pairs.
    pub flow_steering: bool,
    /// Bits of the completion timestamp that count; 0: no timestamps.
    pub timestamp_mask: u64,
    /// Clock behind raw timestamps, in Hz; 0: unknown.
    pub clock_hz: u64,
    /// Checks and fills in IP and UDP/TCP checksums.
    pub checksums: bool,
    /// Can leave the frame check sequence in place.
    pub scatter_fcs: bool,
    /// Can take VLAN tags out.
    pub vlan_stripping: bool,
    /// Longest table for spreading frames over several receive queues; 0: it cannot.
    pub max_spread: u32,
    /// What the spreading can look at (`IBV_RX_HASH_*`).
    pub hash_fields: u64,
}

impl Context {
    /// Opens a device by name (`"mlx5_0"`).
    ///
    /// # Errors
    ///
    /// There is no such device (the error lists those there are), or no right to it.
    pub fn open(library: Library, name: &str) -> Result<Arc<Self>, SetupError> {
        let list = DeviceList::get(library)?;
        let Some(device) = list.iter().find(|device| name_of(library, *device) == name) else {
            let names: Vec<_> = list.iter().map(|device| name_of(library, device)).collect();
            let known = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(SetupError::new(
                ErrorKind::DeviceGone,
                "ibv_open_device",
                "no such device",
            )
            .on(format!("verbs:{name}"))
            .remedy(format!("RDMA devices here: {known}")));
        };
        // SAFETY: the device is of the list, which lives.
        unsafe { Self::from_device(library, device) }
    }

    /// Opens a device that the caller has by pointer: one that no list has, as a simulated one.
    ///
    /// # Safety
    ///
    /// `device` is valid for `ibv_open_device`, and remains so while the context lives.
    ///
    /// # Errors
    ///
    /// The device cannot be opened.
    pub unsafe fn from_device(
        library: Library,
        device: NonNull<sys::ibv_device>,
    ) -> Result<Arc<Self>, SetupError> {
        let name = name_of(library, device);
        // SAFETY: the caller's promise.
        let raw = unsafe { (library.ibv_open_device)(device.as_ptr()) };
        match NonNull::new(raw) {
            Some(raw) => {
                let watchers = Watchers::default();
                let context = Arc::new(Self { raw, library, name, watchers });
                event::prepare(context.as_raw()).map_err(|e| e.on(context.name()))?;
                Ok(context)
            }
            None => Err(last("ibv_open_device").on(format!("verbs:{name}"))),
        }
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The library it was opened with.
    #[must_use]
    pub fn library(&self) -> Library {
        self.library
    }

    /// The context for calls of your own. It is owned by us: do not close it.
    #[must_use]
    pub fn as_raw(&self) -> *mut sys::ibv_context {
        self.raw.as_ptr()
    }

    /// What the device says it can do.
    ///
    /// # Errors
    ///
    /// The device does not answer.
    pub fn caps(&self) -> Result<Caps, SetupError> {
        // SAFETY: all-zero is a value of this plain struct.
        let mut attr: sys::ibv_device_attr_ex = unsafe { std::mem::zeroed() };
        // SAFETY: a live context and a zeroed struct.
        let rc = unsafe { inline::query_device_ex(self.as_raw(), &mut attr) };
        if rc != 0 {
            // The extended query is missing: the basic one has what receiving needs.
            // SAFETY: as above.
            let rc = unsafe { (self.library.ibv_query_device)(self.as_raw(), &mut attr.orig_attr) };
            check("ibv_query_device", rc).map_err(|e| e.on(&self.name))?;
        }
        let basic = &attr.orig_attr;
        let rss = &attr.rss_caps;
        let spreads = rss.supported_qpts & (1 << sys::IBV_QPT_RAW_PACKET) != 0
            && u32::from(rss.rx_hash_function) & u32::from(sys::IBV_RX_HASH_FUNC_TOEPLITZ) != 0;
        Ok(Caps {
            max_qp_wr: u32::try_from(basic.max_qp_wr).unwrap_or(0),
            max_cqe: u32::try_from(basic.max_cqe).unwrap_or(0),
            ports: basic.phys_port_cnt,
            flow_steering: basic.device_cap_flags & sys::IBV_DEVICE_MANAGED_FLOW_STEERING != 0,
            timestamp_mask: attr.completion_timestamp_mask,
            clock_hz: attr.hca_core_clock.saturating_mul(1000),
            checksums: attr.raw_packet_caps & sys::IBV_RAW_PACKET_CAP_IP_CSUM != 0
                || basic.device_cap_flags & sys::IBV_DEVICE_RAW_IP_CSUM != 0,
            scatter_fcs: attr.raw_packet_caps & sys::IBV_RAW_PACKET_CAP_SCATTER_FCS != 0,
            vlan_stripping: attr.raw_packet_caps & sys::IBV_RAW_PACKET_CAP_CVLAN_STRIPPING != 0,
            max_spread: if spreads { rss.max_rwq_indirection_table_size } else { 0 },
            hash_fields: if spreads { rss.rx_hash_fields_mask } else { 0 },
        })
    }

    /// Is the port up, and is it Ethernet?
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn port(&self, port: u8) -> Result<PortState, SetupError> {
        // SAFETY: all-zero is a value of this plain struct.
        let mut attr: sys::ibv_port_attr = unsafe { std::mem::zeroed() };
        // SAFETY: a live context and a zeroed struct of the size that the inline passes.
        let rc = unsafe { inline::query_port(self.as_raw(), port, &mut attr) };
        check("ibv_query_port", rc).map_err(|e| e.on(format!("verbs:{}/{port}", self.name)))?;
        Ok(PortState {
            up: attr.state == sys::IBV_PORT_ACTIVE,
            ethernet: attr.link_layer == sys::IBV_LINK_LAYER_ETHERNET,
            mtu_bytes: if attr.active_mtu <= 5 { 128 << attr.active_mtu } else { 256 },
            gids: u32::try_from(attr.gid_tbl_len).unwrap_or(0),
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: everything made from it held an Arc of it and is gone.
        unsafe { (self.library.ibv_close_device)(self.as_raw()) };
    }
}

/// State of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortState {
    /// The link is active.
    pub up: bool,
    /// The link layer is Ethernet, not InfiniBand.
    pub ethernet: bool,
    /// Longest payload of a datagram. Raw frames go by the network interface's MTU instead.
    pub mtu_bytes: u32,
    /// Entries of the table of port addresses.
    pub gids: u32,
}

/// `ibv_get_device_list`, freed when dropped. Devices are valid while the list lives or while
/// they are open.
struct DeviceList {
    library: Library,
    raw: NonNull<*mut sys::ibv_device>,
    len: usize,
}

impl DeviceList {
    fn get(library: Library) -> Result<Self, SetupError> {
        let mut len = 0;
        // SAFETY: writes the count and returns an array of that many pointers, or null.
        let raw = unsafe { (library.ibv_get_device_list)(&mut len) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { library, raw, len: usize::try_from(len).unwrap_or(0) }),
            None => Err(last("ibv_get_device_list").on("verbs")),
        }
    }

    fn iter(&self) -> impl Iterator<Item = NonNull<sys::ibv_device>> + '_ {
        // SAFETY: the library gave an array of `len` pointers, which lives as long as `self`.
        let all = unsafe { std::slice::from_raw_parts(self.raw.as_ptr(), self.len) };
        all.iter().filter_map(|device| NonNull::new(*device))
    }
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: the list is ours and not used after.
        unsafe { (self.library.ibv_free_device_list)(self.raw.as_ptr()) };
    }
}

fn name_of(library: Library, device: NonNull<sys::ibv_device>) -> String {
    // SAFETY: a valid device; the name is a string inside it.
    let name = unsafe { (library.ibv_get_device_name)(device.as_ptr()) };
    if name.is_null() {
        return String::new();
    }
    // SAFETY: not null, NUL-terminated.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}
