//! The interface behind a port.

use std::ffi::CStr;

use libc::c_int;
use linerate_common::{Error, ErrorKind, SetupError};

use crate::sys::{Socket, request_for};

/// What is known about an interface when a port is opened on it.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: c_int,
    /// Longest payload of a frame.
    pub(crate) mtu: u32,
    pub(crate) is_up: bool,
}

impl Interface {
    /// # Errors
    ///
    /// There is no such interface (the error lists those that exist), or its frames are not
    /// Ethernet.
    pub(crate) fn find(socket: &Socket, name: &str) -> Result<Self, SetupError> {
        let missing = || {
            let detail = format!("there is no interface {name:?}");
            SetupError::new(ErrorKind::DeviceGone, "SIOCGIFINDEX", detail).remedy(existing())
        };
        let mut request = request_for(name).ok_or_else(missing)?;
        match socket.interface_ioctl("SIOCGIFINDEX", libc::SIOCGIFINDEX as _, &mut request) {
            Ok(()) => {}
            Err(e) if e.errno == libc::ENODEV => return Err(missing()),
            Err(e) => return Err(e.into()),
        }
        // SAFETY: the ioctl filled this member in, as the others below do theirs.
        let index = unsafe { request.ifr_ifru.ifru_ifindex };
        socket.interface_ioctl("SIOCGIFHWADDR", libc::SIOCGIFHWADDR as _, &mut request)?;
        // SAFETY: as above.
        let kind = unsafe { request.ifr_ifru.ifru_hwaddr.sa_family };
        if !matches!(kind, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK) {
            let detail = format!("the frames of {name} are not Ethernet (hardware type {kind})");
            return Err(SetupError::new(ErrorKind::Unsupported, "SIOCGIFHWADDR", detail)
                .remedy(format!("use sockets on it: udp:{name}")));
        }
        socket.interface_ioctl("SIOCGIFMTU", libc::SIOCGIFMTU as _, &mut request)?;
        // SAFETY: as above.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu }.max(0) as u32;
        let is_up = flags(socket, &mut request)? & libc::IFF_UP != 0;
        Ok(Self { name: name.to_owned(), index, mtu, is_up })
    }

    /// Longest frame that the interface sends, without frame check sequence, with one VLAN tag.
    pub(crate) fn max_frame(&self) -> u32 {
        self.mtu.saturating_add(18)
    }
}

/// Whether the interface that `socket` was bound to, by now perhaps under another name, is there
/// and up.
///
/// # Errors
///
/// [`ErrorKind::DeviceGone`], [`ErrorKind::LinkDown`].
pub(crate) fn is_up(socket: &Socket) -> Result<(), Error> {
    let mut request = bound_interface(socket)?;
    let flags = flags(socket, &mut request).map_err(gone)?;
    match flags & libc::IFF_UP {
        0 => Err(Error::new(ErrorKind::LinkDown, "SIOCGIFFLAGS")),
        _ => Ok(()),
    }
}

/// Whether it has a carrier besides. The flag `IFF_RUNNING` would say so as well, but up to a
/// second late.
///
/// # Errors
///
/// As [`is_up`].
pub(crate) fn has_carrier(socket: &Socket) -> Result<(), Error> {
    const ETHTOOL_GLINK: u32 = 0x0a;
    let mut request = bound_interface(socket)?;
    // `struct ethtool_value`: command and answer.
    let mut value = [ETHTOOL_GLINK, 1];
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    match socket.interface_ioctl("ETHTOOL_GLINK", libc::SIOCETHTOOL as _, &mut request) {
        Ok(()) if value[1] == 0 => Err(Error::new(ErrorKind::LinkDown, "ETHTOOL_GLINK")),
        // A driver that does not tell is taken to have one.
        Ok(()) => Ok(()),
        Err(e) if e.kind == ErrorKind::Unsupported => Ok(()),
        Err(e) => Err(gone(e)),
    }
}

/// A request about the interface that `socket` is bound to.
fn bound_interface(socket: &Socket) -> Result<libc::ifreq, Error> {
    // SAFETY: ifreq is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = socket.bound_to()?;
    socket.interface_ioctl("SIOCGIFNAME", libc::SIOCGIFNAME as _, &mut request).map_err(gone)?;
    Ok(request)
}

/// An interface can go between two calls.
fn gone(e: Error) -> Error {
    match e.errno {
        libc::ENODEV => Error { kind: ErrorKind::DeviceGone, ..e },
        _ => e,
    }
}

fn flags(socket: &Socket, request: &mut libc::ifreq) -> Result<c_int, Error> {
    socket.interface_ioctl("SIOCGIFFLAGS", libc::SIOCGIFFLAGS as _, request)?;
    // SAFETY: the ioctl filled this member in.
    Ok(unsafe { request.ifr_ifru.ifru_flags }.into())
}

/// "interfaces here: lo, eth0".
fn existing() -> String {
    let mut names = Vec::new();
    // SAFETY: the list ends with a null name and is freed once.
    unsafe {
        let list = libc::if_nameindex();
        let mut entry = list;
        while !entry.is_null() && !(*entry).if_name.is_null() {
            names.push(CStr::from_ptr((*entry).if_name).to_string_lossy().into_owned());
            entry = entry.add(1);
        }
        if !list.is_null() {
            libc::if_freenameindex(list);
        }
    }
    match names.is_empty() {
        true => "list them: ip link".into(),
        false => format!("interfaces here: {}", names.join(", ")),
    }
}
