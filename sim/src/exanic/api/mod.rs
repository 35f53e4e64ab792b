//! libexanic's functions over simulated cards, messages included.
//!
//! Every function is called with handles of this table, as the C library's are; the safe crate
//! upholds that. Each `SAFETY` line here and in the modules below leans on it.

mod filters;
mod ports;
mod readers;
mod senders;

use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use linerate_exanic_sys::ids::{function, hardware_name};
use linerate_exanic_sys::{Api, Hooks, exanic_t, regs};

use crate::exanic::PORTS;
use crate::exanic::card::Shared;
use crate::exanic::registry::{self, card_of};

use filters::{filter_add_ip, filter_add_mac, filter_remove_ip, filter_remove_mac};
use ports::{
    find_port_by_interface_name, get_all_ports, get_interface_name, get_mac_addr, get_num_ports,
    get_port_speed, get_port_stats, get_port_status, get_promiscuous_mode, port_enabled,
    port_rx_usable, port_tx_usable, set_promiscuous,
};
use readers::{
    acquire_rx_buffer, acquire_unused_filter_buffer, disable_flow_hashing, enable_flow_hashing,
    release_rx_buffer, rx_catchup,
};
use senders::{acquire_tx_buffer, get_tx_mtu, release_tx_buffer};

pub(super) static API: Api = Api {
    acquire_handle,
    release_handle,
    get_last_error,
    check_supported,
    acquire_rx_buffer,
    acquire_unused_filter_buffer,
    release_rx_buffer,
    enable_flow_hashing,
    disable_flow_hashing,
    rx_catchup,
    acquire_tx_buffer,
    release_tx_buffer,
    get_tx_mtu,
    filter_add_ip,
    filter_add_mac,
    filter_remove_ip,
    filter_remove_mac,
    get_num_ports,
    port_rx_usable,
    port_tx_usable,
    port_enabled,
    get_port_status,
    get_port_speed,
    get_mac_addr,
    get_promiscuous_mode,
    get_port_stats,
    get_interface_name,
    find_port_by_interface_name,
    get_all_ports,
    hooks: Hooks { register_write: Some(register_write), set_promiscuous: Some(set_promiscuous) },
};

/// One text for the whole process, as in the library; atomic, so that a race garbles it only.
static LAST_ERROR: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];

fn fail(text: &str) {
    for (to, from) in LAST_ERROR.iter().zip(text.bytes().take(255).chain([0])) {
        to.store(from, Relaxed);
    }
}

/// Copies a string with its terminator, cut to `len`.
///
/// # Safety
///
/// `to` has room for `len` bytes.
unsafe fn put(to: *mut c_char, len: usize, text: &str) {
    let bytes = text.as_bytes();
    let n = bytes.len().min(len.saturating_sub(1));
    if len > 0 {
        // SAFETY: n and its terminator fit into len.
        unsafe {
            to.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), n);
            to.add(n).write(0);
        }
    }
}

unsafe extern "C" fn acquire_handle(name: *const c_char) -> *mut exanic_t {
    // SAFETY: a NUL-terminated string, by the C contract.
    let name = unsafe { CStr::from_ptr(name) };
    if let Some(card) = registry::find(name) {
        return registry::open(&card);
    }
    fail("device open failed: No such file or directory");
    std::ptr::null_mut()
}

unsafe extern "C" fn release_handle(exanic: *mut exanic_t) {
    if !exanic.is_null() {
        // SAFETY: an open handle of this table.
        unsafe { registry::release(exanic) };
    }
}

unsafe extern "C" fn get_last_error() -> *const c_char {
    LAST_ERROR.as_ptr().cast()
}

unsafe extern "C" fn check_supported(exanic: *mut exanic_t) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let (id, fun) =
        (card.memory.registers.get(regs::HW_ID), card.memory.registers.get(regs::FUNCTION_ID));
    if hardware_name(id).is_none() {
        fail(&format!("unknown hardware ID: {id}"));
        return -1;
    }
    if function::name(fun).is_none() { -1 } else { 0 }
}

/// The checks before a reader or sender is made.
fn usable(card: &Shared, port: c_int) -> Option<usize> {
    let number = checked(port)?;
    if card.memory.registers.get(regs::port(number as u32, regs::PORT_ENABLED)) == 0 {
        fail("port is not enabled");
        return None;
    }
    Some(number)
}

fn checked(port: c_int) -> Option<usize> {
    let number = usize::try_from(port).ok().filter(|p| *p < PORTS);
    if number.is_none() {
        fail("invalid port number");
    }
    number
}

unsafe extern "C" fn register_write(exanic: *mut exanic_t, index: u32, value: u32) {
    // SAFETY: an open handle of this table, whose card lives as long; no count is taken, as this
    // is on the sender's way.
    unsafe { (*exanic.cast::<registry::Handle>()).card.register_written(index, value) };
}
