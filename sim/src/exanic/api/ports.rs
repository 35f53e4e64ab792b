//! Ports: what is known of them, and finding them.

use std::ffi::{CStr, c_char, c_int};

use linerate_exanic_sys::ids::{port_flags, port_status};
use linerate_exanic_sys::{exanic_port_info_t, exanic_port_stats_t, exanic_t, regs};

use super::{checked, fail, put};
use crate::exanic::PORTS;
use crate::exanic::registry::{self, card_of};

pub(super) unsafe extern "C" fn get_num_ports(_exanic: *mut exanic_t) -> c_int {
    PORTS as c_int
}

/// # Safety
///
/// `exanic` is an open handle of this table.
unsafe fn port_register(exanic: *mut exanic_t, port: c_int, reg: u32) -> Option<u32> {
    // SAFETY: the caller vouches for it.
    let card = unsafe { card_of(exanic) };
    Some(card.memory.registers.get(regs::port(checked(port)? as u32, reg)))
}

pub(super) unsafe extern "C" fn port_rx_usable(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let status = unsafe { port_register(exanic, port, regs::PORT_STATUS) };
    let unusable = port_status::NOT_IMPLEMENTED | port_status::RX_UNSUPPORTED;
    c_int::from(status.is_some_and(|s| s & unusable == 0))
}

pub(super) unsafe extern "C" fn port_tx_usable(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let status = unsafe { port_register(exanic, port, regs::PORT_STATUS) };
    let unusable = port_status::NOT_IMPLEMENTED | port_status::TX_UNSUPPORTED;
    c_int::from(status.is_some_and(|s| s & unusable == 0))
}

pub(super) unsafe extern "C" fn port_enabled(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    unsafe { port_register(exanic, port, regs::PORT_ENABLED) }.unwrap_or(0) as c_int
}

pub(super) unsafe extern "C" fn get_port_status(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    unsafe { port_register(exanic, port, regs::PORT_STATUS) }.unwrap_or(0) as c_int
}

pub(super) unsafe extern "C" fn get_port_speed(exanic: *mut exanic_t, port: c_int) -> u32 {
    // SAFETY: an open handle of this table.
    unsafe { port_register(exanic, port, regs::PORT_SPEED) }.unwrap_or(u32::MAX)
}

pub(super) unsafe extern "C" fn get_mac_addr(
    exanic: *mut exanic_t,
    port: c_int,
    mac: *mut u8,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = checked(port) else { return -1 };
    // SAFETY: six bytes, by the C contract.
    unsafe { mac.copy_from_nonoverlapping(card.mac(port).as_ptr(), 6) };
    0
}

pub(super) unsafe extern "C" fn get_promiscuous_mode(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let flags = unsafe { port_register(exanic, port, regs::PORT_FLAGS) };
    flags.map_or(-1, |f| c_int::from(f & port_flags::PROMISCUOUS != 0))
}

pub(super) unsafe extern "C" fn set_promiscuous(
    exanic: *mut exanic_t,
    port: c_int,
    on: c_int,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = checked(port) else { return -1 };
    let index = regs::port(port as u32, regs::PORT_FLAGS);
    card.memory.registers.change(index, port_flags::PROMISCUOUS, on != 0);
    0
}

pub(super) unsafe extern "C" fn get_port_stats(
    exanic: *mut exanic_t,
    port: c_int,
    stats: *mut exanic_port_stats_t,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = checked(port) else { return -1 };
    // SAFETY: room for the struct, by the C contract.
    unsafe { stats.write(registry::port_stats(&card, port)) };
    0
}

pub(super) unsafe extern "C" fn get_interface_name(
    exanic: *mut exanic_t,
    port: c_int,
    name: *mut c_char,
    len: usize,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = checked(port) else { return -1 };
    let interface = &card.ports[port].interface;
    if interface.is_empty() {
        fail("interface not available");
        return -1;
    }
    // SAFETY: room for len bytes, by the C contract.
    unsafe { put(name, len, interface) };
    0
}

pub(super) unsafe extern "C" fn find_port_by_interface_name(
    name: *const c_char,
    device: *mut c_char,
    len: usize,
    port: *mut c_int,
) -> c_int {
    // SAFETY: a NUL-terminated string, by the C contract.
    let Some((card, number)) = registry::find_interface(unsafe { CStr::from_ptr(name) }) else {
        fail("not an ExaNIC interface");
        return -1;
    };
    // SAFETY: room for len bytes and for an int, by the C contract.
    unsafe {
        put(device, len, &card.name.to_string_lossy());
        port.write(number as c_int);
    }
    0
}

pub(super) unsafe extern "C" fn get_all_ports(
    table: *mut exanic_port_info_t,
    bytes: usize,
) -> isize {
    let room = bytes / size_of::<exanic_port_info_t>();
    let cards = registry::cards();
    let ports = cards.iter().flat_map(|card| (0..PORTS).map(move |port| (card, port)));
    let mut n = 0;
    for (card, port) in ports.take(room) {
        // SAFETY: n < room entries, by the C contract.
        unsafe {
            let entry = table.add(n);
            put((&raw mut (*entry).device).cast(), 16, &card.name.to_string_lossy());
            (*entry).port_number = port as c_int;
        }
        n += 1;
    }
    n as isize
}
