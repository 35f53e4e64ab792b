//! Frames for every MAC address, for as long as somebody wants them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;

use linerate_common::SetupError;

use crate::device::Device;
use crate::error;
use crate::reader::port_number;

/// Promiscuous mode, ended when dropped. The kernel counts who wants it (a membership of a packet
/// socket), so it ends with a killed process too and never ends somebody else's.
#[derive(Debug)]
pub(crate) struct Promiscuous(How);

#[derive(Debug)]
enum How {
    Kernel { _socket: File },
    Hook { device: Arc<Device>, port: u32 },
}

impl Promiscuous {
    pub(crate) fn on(device: &Arc<Device>, port: u32) -> Result<Self, SetupError> {
        if let Some(set) = device.api().hooks.set_promiscuous {
            // SAFETY: a live handle of this table.
            if unsafe { set(device.raw(), port_number(port), 1) } != 0 {
                return Err(error::argument("set_promiscuous", "no such port"));
            }
            return Ok(Self(How::Hook { device: Arc::clone(device), port }));
        }
        let interface = device.interface(port)?;
        let socket = membership(&interface).map_err(|e| {
            SetupError::os("PACKET_MR_PROMISC", e.raw_os_error().unwrap_or(libc::EIO)).remedy(
                "run as root, or: sudo setcap cap_net_raw+ep PROGRAM, or turn it on for good: \
                 sudo ip link set INTERFACE promisc on",
            )
        })?;
        Ok(Self(How::Kernel { _socket: socket }))
    }
}

impl Drop for Promiscuous {
    fn drop(&mut self) {
        if let How::Hook { device, port } = &self.0
            && let Some(set) = device.api().hooks.set_promiscuous
        {
            // SAFETY: a live handle of this table.
            unsafe { set(device.raw(), port_number(*port), 0) };
        }
    }
}

fn membership(interface: &str) -> io::Result<File> {
    let name = std::ffi::CString::new(interface).unwrap_or_default();
    // SAFETY: a NUL-terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no memory is involved. Protocol 0: the socket receives nothing.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor just opened.
    let socket = unsafe { File::from_raw_fd(fd) };
    // SAFETY: all-zero bytes are a valid packet_mreq.
    let mut request: libc::packet_mreq = unsafe { std::mem::zeroed() };
    request.mr_ifindex = index as i32;
    request.mr_type = libc::PACKET_MR_PROMISC as u16;
    // SAFETY: a struct that outlives the call, with its size.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            size_of_val(&request) as u32,
        )
    };
    if rc == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}
