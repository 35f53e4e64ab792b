//! Filter rules.

use std::ffi::c_int;

use linerate_exanic_sys::{exanic_ip_filter_t, exanic_mac_filter_t, exanic_rx_t, exanic_t};

use super::{checked, fail};
use crate::exanic::registry::card_of;

/// The port and filter buffer (from 0) of a reader to steer to.
///
/// # Safety
///
/// `rx` is a reader of this table.
unsafe fn target(rx: *const exanic_rx_t) -> Option<(usize, usize)> {
    // SAFETY: the caller vouches for it.
    let (port, buffer) = unsafe { ((*rx).port_number, (*rx).buffer_number) };
    // Ring 0: refused without a message, as by the library.
    Some((usize::try_from(port).ok()?, usize::try_from(buffer).ok()?.checked_sub(1)?))
}

pub(super) unsafe extern "C" fn filter_add_ip(
    exanic: *mut exanic_t,
    rx: *const exanic_rx_t,
    filter: *const exanic_ip_filter_t,
) -> c_int {
    // SAFETY: handles of this table and a filter that outlives the call.
    let (card, target, filter) = unsafe { (card_of(exanic), target(rx), *filter) };
    let Some((port, buffer)) = target else { return -1 };
    let mut path = card.rx(port);
    let id = if path.is_allocated(buffer) { path.rules.add_ip(filter, buffer) } else { None };
    id.map_or_else(|| refused("EXANICCTL_RX_FILTER_ADD_IP"), |id| id as c_int)
}

pub(super) unsafe extern "C" fn filter_add_mac(
    exanic: *mut exanic_t,
    rx: *const exanic_rx_t,
    filter: *const exanic_mac_filter_t,
) -> c_int {
    // SAFETY: as in `filter_add_ip`.
    let (card, target, filter) = unsafe { (card_of(exanic), target(rx), *filter) };
    let Some((port, buffer)) = target else { return -1 };
    let mut path = card.rx(port);
    let id = if path.is_allocated(buffer) { path.rules.add_mac(filter, buffer) } else { None };
    id.map_or_else(|| refused("EXANICCTL_RX_FILTER_ADD_MAC"), |id| id as c_int)
}

fn refused(call: &str) -> c_int {
    fail(&format!("{call} failed: Cannot allocate memory"));
    -1
}

pub(super) unsafe extern "C" fn filter_remove_ip(
    exanic: *mut exanic_t,
    port: c_int,
    id: c_int,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let removed = checked(port)
        .zip(usize::try_from(id).ok())
        .is_some_and(|(port, id)| card.rx(port).rules.remove_ip(id));
    if removed { 0 } else { -1 }
}

pub(super) unsafe extern "C" fn filter_remove_mac(
    exanic: *mut exanic_t,
    port: c_int,
    id: c_int,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let removed = checked(port)
        .zip(usize::try_from(id).ok())
        .is_some_and(|(port, id)| card.rx(port).rules.remove_mac(id));
    if removed { 0 } else { -1 }
}
