//! The per-VI table of operations, in the order of release 9.2.
//!
//! Older releases order it differently and lack the last entries: code never reaches into the
//! VI's own table but through [`Api`](crate::Api), which knows what the headers said.

use libc::{c_char, c_int, c_uint, c_void, iovec, size_t};

use crate::event::ef_event;
use crate::types::{ef_addr, ef_iovec, ef_precisetime, ef_request_id, ef_vi_tx_warm_state};
use crate::vi::ef_vi;

/// `fn(*mut ef_vi, …)` as an optional C function.
macro_rules! op {
    (($($arg:ty),*) -> $ret:ty) => { Option<unsafe extern "C" fn(*mut ef_vi $(, $arg)*) -> $ret> };
    (($($arg:ty),*)) => { Option<unsafe extern "C" fn(*mut ef_vi $(, $arg)*)> };
}

/// `ef_vi::ops` of release 9.2. A simulator fills one and installs it with
/// [`inject::install_ops`](crate::inject::install_ops).
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
#[allow(missing_docs, reason = "each is the C operation of the same name")]
pub struct Ops {
    pub transmit: op!((ef_addr, c_int, ef_request_id) -> c_int),
    pub transmitv: op!((*const ef_iovec, c_int, ef_request_id) -> c_int),
    pub transmitv_init: op!((*const ef_iovec, c_int, ef_request_id) -> c_int),
    pub transmit_push: op!(()),
    pub transmit_pio: op!((c_int, c_int, ef_request_id) -> c_int),
    pub transmit_copy_pio: op!((c_int, *const c_void, c_int, ef_request_id) -> c_int),
    pub start_transmit_warm: op!((*mut ef_vi_tx_warm_state, *mut c_char)),
    pub stop_transmit_warm: op!((*mut ef_vi_tx_warm_state)),
    pub transmit_pio_warm: op!(()),
    pub transmit_copy_pio_warm: op!((c_int, *const c_void, c_int)),
    pub transmitv_ctpio: op!((size_t, *const iovec, c_int, c_uint)),
    pub transmitv_ctpio_copy: op!((size_t, *const iovec, c_int, c_uint, *mut c_void)),
    pub transmit_alt_select: op!((c_uint) -> c_int),
    pub transmit_alt_select_default: op!(() -> c_int),
    pub transmit_alt_stop: op!((c_uint) -> c_int),
    pub transmit_alt_go: op!((c_uint) -> c_int),
    pub receive_set_discards: op!((c_uint) -> c_int),
    pub receive_get_discards: op!(() -> u64),
    pub transmit_alt_discard: op!((c_uint) -> c_int),
    pub receive_init: op!((ef_addr, ef_request_id) -> c_int),
    pub receive_push: op!(()),
    pub receive_get_timestamp: op!((*const c_void, *mut ef_precisetime) -> c_int),
    pub eventq_poll: op!((*mut ef_event, c_int) -> c_int),
    pub eventq_prime: op!(()),
    pub eventq_timer_prime: op!((c_uint)),
    pub eventq_timer_run: op!((c_uint)),
    pub eventq_timer_clear: op!(()),
    pub eventq_timer_zero: op!(()),
    pub eventq_has_event: Option<unsafe extern "C" fn(*const ef_vi) -> c_int>,
    pub eventq_has_many_events: Option<unsafe extern "C" fn(*const ef_vi, c_int) -> c_int>,
    pub transmit_ctpio_fallback: op!((ef_addr, size_t, ef_request_id) -> c_int),
    pub transmitv_ctpio_fallback: op!((*const ef_iovec, c_int, ef_request_id) -> c_int),
    pub receive_poll: op!((*mut ef_event, c_int) -> c_int),
    pub receive_get_filter_id: op!((*const ef_event, *const c_void) -> i32),
    pub future_eventq_poll: op!((*mut ef_event, c_int) -> c_int),
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Ops>() == 280);
    assert!(offset_of!(Ops, transmitv_ctpio) == 80);
    assert!(offset_of!(Ops, receive_init) == 152);
    assert!(offset_of!(Ops, eventq_poll) == 176);
    assert!(offset_of!(Ops, transmit_ctpio_fallback) == 240);
    assert!(offset_of!(Ops, future_eventq_poll) == 272);
};
