//! Which ports this host has, and which one is behind a network interface.

use std::ffi::{CString, c_char};

use linerate_common::{ErrorKind, SetupError};
use linerate_exanic_sys::{Api, exanic_port_info_t};

use super::{linked, text};
use crate::{error, library};

/// Every port of every ExaNIC on this host as device and port number (`exanic_get_all_ports`).
///
/// # Errors
///
/// Built without libexanic, or the interfaces cannot be listed.
pub fn ports() -> Result<Vec<(String, u32)>, SetupError> {
    ports_with(linked()?)
}

/// [`ports`] through another table.
///
/// # Errors
///
/// As [`ports`].
pub fn ports_with(api: &'static Api) -> Result<Vec<(String, u32)>, SetupError> {
    const ROOM: usize = 64;
    let empty = exanic_port_info_t { device: [0; 16], port_number: 0 };
    let mut table = [empty; ROOM];
    let locked = library::lock();
    // SAFETY: a table and its size in bytes.
    let n = unsafe { (api.get_all_ports)(table.as_mut_ptr(), size_of_val(&table)) };
    let n = usize::try_from(n).map_err(|_| locked.failed(api, "exanic_get_all_ports"))?;
    let found = table.iter().take(n.min(ROOM));
    Ok(found.map(|p| (text(&p.device), p.port_number.unsigned_abs())).collect())
}

/// The card and port behind a network interface (`exanic_find_port_by_interface_name`).
///
/// # Errors
///
/// No such interface, not an ExaNIC's, or a bond, which libexanic cannot open.
pub fn port_of_interface(interface: &str) -> Result<(String, u32), SetupError> {
    port_of_interface_with(linked()?, interface)
}

/// [`port_of_interface`] through another table.
///
/// # Errors
///
/// As [`port_of_interface`].
pub fn port_of_interface_with(
    api: &'static Api,
    interface: &str,
) -> Result<(String, u32), SetupError> {
    const CALL: &str = "exanic_find_port_by_interface_name";
    let name = CString::new(interface)
        .map_err(|_| error::argument(CALL, "a NUL in the interface's name"))?;
    let (mut device, mut port): ([c_char; 64], _) = ([0; 64], 0);
    let locked = library::lock();
    // SAFETY: a NUL-terminated string, a buffer with its size, and an int.
    let rc = unsafe {
        (api.find_port_by_interface_name)(
            name.as_ptr(),
            device.as_mut_ptr(),
            device.len(),
            &raw mut port,
        )
    };
    if rc != 0 {
        return Err(locked.failed(api, CALL).on(format!("exanic:{interface}")));
    }
    let device = text(&device);
    // A bond is answered with a path that no function of the library opens.
    if device.contains('/') {
        let e = SetupError::new(ErrorKind::Unsupported, CALL, "bonds cannot be bypassed");
        return Err(e.on(format!("exanic:{interface}")).remedy("open the bond's ports one by one"));
    }
    Ok((device, port.unsigned_abs()))
}
