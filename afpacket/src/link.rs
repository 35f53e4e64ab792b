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
/// and has all of `wanted` (`IFF_UP`, `IFF_RUNNING`).
///
/// # Errors
///
/// [`ErrorKind::DeviceGone`], [`ErrorKind::LinkDown`].
pub(crate) fn state(socket: &Socket, wanted: c_int) -> Result<(), Error> {
    let gone = Error::new(ErrorKind::DeviceGone, "bind");
    let index = socket.bound_to()?;
    if index <= 0 {
        return Err(gone);
    }
    // SAFETY: ifreq is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = index;
    let named = socket.interface_ioctl("SIOCGIFNAME", libc::SIOCGIFNAME as _, &mut request);
    match named.and_then(|()| flags(socket, &mut request)) {
        Ok(flags) if flags & wanted == wanted => Ok(()),
        Ok(_) => Err(Error::new(ErrorKind::LinkDown, "SIOCGIFFLAGS")),
        Err(e) if e.errno == libc::ENODEV => Err(gone),
        Err(e) => Err(e),
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
