//! `struct ef_vi` as release 9.2 lays it out on x86-64, for builds without an SDK.
//!
//! Only the fields that [`Api`](crate::Api) reads have names; the rest is padding. The
//! simulator makes such VIs; no real library is ever given one.

use libc::{c_char, c_int, c_uint};

use crate::ops::Ops;
use crate::types::{ef_driver_handle, ef_vi_nic_type};

/// A virtual interface.
#[repr(C)]
pub struct ef_vi {
    pub inited: c_uint,
    pub vi_resource_id: c_uint,
    pub vi_i: c_uint,
    pub dh: ef_driver_handle,
    pub rx_buffer_len: c_uint,
    pub rx_prefix_len: c_uint,
    _24: [u64; 9],
    pub vi_ctpio_mmap_ptr: *mut c_char,
    _104: [u64; 5],
    pub evq_base: *mut c_char,
    pub evq_mask: c_uint,
    _156: [u32; 5],
    pub vi_txq: ef_vi_txq,
    pub vi_rxq: ef_vi_rxq,
    pub ep_state: *mut ef_vi_state,
    pub vi_flags: u64,
    pub vi_out_flags: u32,
    pub vi_stats: *mut ef_vi_stats,
    pub evq_vi: *mut ef_vi,
    pub vi_qs: [*mut ef_vi; 32],
    pub vi_qs_n: c_int,
    _540: [u32; 107],
    pub tx_alt_num: c_uint,
    _976: [u64; 2],
    pub nic_type: ef_vi_nic_type,
    _996: [u32; 9],
    pub ops: Ops,
    _1312: [u64; 3],
}

/// The send ring.
#[repr(C)]
pub struct ef_vi_txq {
    pub mask: u32,
    pub ct_fifo_bytes: u32,
    _8: [u64; 4],
}

/// The receive ring.
#[repr(C)]
pub struct ef_vi_rxq {
    pub mask: u32,
    _8: [u64; 2],
}

/// Indices of all rings.
#[repr(C)]
pub struct ef_vi_state {
    pub evq: ef_eventq_state,
    pub txq: ef_vi_txq_state,
    pub rxq: ef_vi_rxq_state,
}

/// The event queue's position.
#[repr(C)]
pub struct ef_eventq_state {
    pub evq_ptr: u32,
    _4: [u32; 7],
    pub min_unused_evq_slots: i32,
}

/// The send ring's position.
#[repr(C)]
pub struct ef_vi_txq_state {
    _previous: u32,
    pub added: u32,
    pub removed: u32,
    pub ct_added: u32,
    pub ct_removed: u32,
    _20: [u32; 2],
}

/// The receive ring's position.
#[repr(C)]
pub struct ef_vi_rxq_state {
    _posted: u32,
    pub added: u32,
    pub removed: u32,
    _12: [u32; 3],
    _24: [u64; 49],
}

/// What the library itself counts.
#[repr(C)]
pub struct ef_vi_stats {
    pub rx_ev_lost: u32,
    pub rx_ev_bad_desc_i: u32,
    pub rx_ev_bad_q_label: u32,
    pub evq_gap: u32,
    _16: [u64; 104],
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<ef_vi>() == 1336 && align_of::<ef_vi>() == 8);
    assert!(offset_of!(ef_vi, rx_prefix_len) == 20);
    assert!(offset_of!(ef_vi, vi_ctpio_mmap_ptr) == 96);
    assert!(offset_of!(ef_vi, evq_base) == 144);
    assert!(offset_of!(ef_vi, evq_mask) == 152);
    assert!(offset_of!(ef_vi, vi_txq) == 176 && size_of::<ef_vi_txq>() == 40);
    assert!(offset_of!(ef_vi, vi_rxq) == 216 && size_of::<ef_vi_rxq>() == 24);
    assert!(offset_of!(ef_vi, ep_state) == 240);
    assert!(offset_of!(ef_vi, vi_flags) == 248);
    assert!(offset_of!(ef_vi, vi_out_flags) == 256);
    assert!(offset_of!(ef_vi, vi_stats) == 264);
    assert!(offset_of!(ef_vi, evq_vi) == 272);
    assert!(offset_of!(ef_vi, vi_qs) == 280);
    assert!(offset_of!(ef_vi, vi_qs_n) == 536);
    assert!(offset_of!(ef_vi, tx_alt_num) == 968);
    assert!(offset_of!(ef_vi, nic_type) == 992);
    assert!(offset_of!(ef_vi, ops) == 1032);
    assert!(size_of::<ef_vi_state>() == 480);
    assert!(offset_of!(ef_vi_state, txq) == 36 && size_of::<ef_vi_txq_state>() == 28);
    assert!(offset_of!(ef_vi_state, rxq) == 64 && size_of::<ef_vi_rxq_state>() == 416);
    assert!(offset_of!(ef_eventq_state, min_unused_evq_slots) == 32);
    assert!(offset_of!(ef_vi_txq_state, ct_added) == 12);
    assert!(size_of::<ef_vi_stats>() == 848);
};
