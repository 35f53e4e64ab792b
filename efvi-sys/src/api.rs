//! [`Api`]: the table of C functions that is the only way to call ef_vi.
//!
//! The fields are the functions that the library exports; the methods (in `inlines.rs`) are what
//! the C headers define inline, or as macros over a VI's own table of operations.
//!
//! All of them follow the C rules: 0 or more is success, a negative number is `-errno`.

use libc::{c_char, c_int, c_uint, c_void, in6_addr, timespec, timeval};

use crate::event::ef_event;
use crate::types::*;
use crate::vi::{ef_vi, ef_vi_state};

type Dh = ef_driver_handle;
type Spec = *mut ef_filter_spec;

/// The functions of one ef_vi implementation: the linked library, or a simulator.
///
/// Whoever fills the table answers for it; see [`Library::injected`](crate::Library::injected).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each is the C function of the same name, less its `ef_`")]
#[rustfmt::skip]
pub struct Api {
    pub vi_version_str: unsafe extern "C" fn() -> *const c_char,
    pub vi_driver_interface_str: unsafe extern "C" fn() -> *const c_char,

    pub driver_open: unsafe extern "C" fn(*mut Dh) -> c_int,
    pub driver_close: unsafe extern "C" fn(Dh) -> c_int,
    pub pd_alloc_by_name: unsafe extern "C" fn(*mut ef_pd, Dh, *const c_char, c_uint) -> c_int,
    pub pd_interface_name: unsafe extern "C" fn(*mut ef_pd) -> *const c_char,
    pub pd_free: unsafe extern "C" fn(*mut ef_pd, Dh) -> c_int,

    /// `ef_vi_init`, which zeroes exactly one `struct ef_vi`: the size probe of `check.rs`.
    pub vi_init: unsafe extern "C" fn(*mut ef_vi, c_int, c_int, c_int, u64, u8, *mut ef_vi_state) -> c_int,
    pub vi_alloc_from_pd: unsafe extern "C" fn(*mut ef_vi, Dh, *mut ef_pd, Dh, c_int, c_int, c_int, *mut ef_vi, Dh, u64) -> c_int,
    pub vi_free: unsafe extern "C" fn(*mut ef_vi, Dh) -> c_int,
    pub vi_mtu: unsafe extern "C" fn(*mut ef_vi, Dh) -> c_uint,
    pub vi_get_mac: unsafe extern "C" fn(*mut ef_vi, Dh, *mut c_void) -> c_int,
    pub vi_set_alloc_from_pd: unsafe extern "C" fn(*mut ef_vi_set, Dh, *mut ef_pd, Dh, c_int) -> c_int,
    pub vi_alloc_from_set: unsafe extern "C" fn(*mut ef_vi, Dh, *mut ef_vi_set, Dh, c_int, c_int, c_int, c_int, *mut ef_vi, Dh, u64) -> c_int,
    pub vi_set_free: unsafe extern "C" fn(*mut ef_vi_set, Dh) -> c_int,

    pub memreg_alloc: unsafe extern "C" fn(*mut ef_memreg, Dh, *mut ef_pd, Dh, *mut c_void, usize) -> c_int,
    pub memreg_free: unsafe extern "C" fn(*mut ef_memreg, Dh) -> c_int,

    pub filter_spec_init: unsafe extern "C" fn(Spec, c_uint),
    pub filter_spec_set_ip4_local: unsafe extern "C" fn(Spec, c_int, c_uint, c_int) -> c_int,
    pub filter_spec_set_ip4_full: unsafe extern "C" fn(Spec, c_int, c_uint, c_int, c_uint, c_int) -> c_int,
    pub filter_spec_set_ip6_local: unsafe extern "C" fn(Spec, c_int, *const in6_addr, c_int) -> c_int,
    pub filter_spec_set_ip6_full: unsafe extern "C" fn(Spec, c_int, *const in6_addr, c_int, *const in6_addr, c_int) -> c_int,
    pub filter_spec_set_vlan: unsafe extern "C" fn(Spec, c_int) -> c_int,
    pub filter_spec_set_eth_local: unsafe extern "C" fn(Spec, c_int, *const c_void) -> c_int,
    pub filter_spec_set_eth_type: unsafe extern "C" fn(Spec, u16) -> c_int,
    pub filter_spec_set_ip_proto: unsafe extern "C" fn(Spec, u8) -> c_int,
    pub filter_spec_set_unicast_all: unsafe extern "C" fn(Spec) -> c_int,
    pub filter_spec_set_multicast_all: unsafe extern "C" fn(Spec) -> c_int,
    pub filter_spec_set_unicast_mismatch: unsafe extern "C" fn(Spec) -> c_int,
    pub filter_spec_set_multicast_mismatch: unsafe extern "C" fn(Spec) -> c_int,
    pub filter_spec_set_port_sniff: unsafe extern "C" fn(Spec, c_int) -> c_int,
    pub filter_spec_set_tx_port_sniff: unsafe extern "C" fn(Spec) -> c_int,
    pub filter_spec_set_block_kernel: unsafe extern "C" fn(Spec) -> c_int,
    pub vi_filter_add: unsafe extern "C" fn(*mut ef_vi, Dh, *const ef_filter_spec, *mut ef_filter_cookie) -> c_int,
    pub vi_filter_del: unsafe extern "C" fn(*mut ef_vi, Dh, *mut ef_filter_cookie) -> c_int,
    pub vi_set_filter_add: unsafe extern "C" fn(*mut ef_vi_set, Dh, *const ef_filter_spec, *mut ef_filter_cookie) -> c_int,
    pub vi_set_filter_del: unsafe extern "C" fn(*mut ef_vi_set, Dh, *mut ef_filter_cookie) -> c_int,

    pub vi_receive_query_layout: unsafe extern "C" fn(*mut ef_vi, *mut *const ef_vi_layout_entry, *mut c_int) -> c_int,
    pub vi_receive_unbundle: unsafe extern "C" fn(*mut ef_vi, *const ef_event, *mut ef_request_id) -> c_int,
    pub vi_receive_get_timestamp_with_sync_flags: unsafe extern "C" fn(*mut ef_vi, *const c_void, *mut timespec, *mut c_uint) -> c_int,
    pub efct_vi_rxpkt_get: unsafe extern "C" fn(*mut ef_vi, u32) -> *const c_void,
    pub efct_vi_rxpkt_release: unsafe extern "C" fn(*mut ef_vi, u32),
    pub efct_vi_rx_future_peek: unsafe extern "C" fn(*mut ef_vi) -> *const c_void,
    pub efct_vi_rx_future_poll: unsafe extern "C" fn(*mut ef_vi, *mut ef_event, c_int) -> c_int,

    pub vi_transmit_init: unsafe extern "C" fn(*mut ef_vi, ef_addr, c_int, ef_request_id) -> c_int,
    pub vi_transmit_init_undo: unsafe extern "C" fn(*mut ef_vi),
    pub vi_transmit_unbundle: unsafe extern "C" fn(*mut ef_vi, *const ef_event, *mut ef_request_id) -> c_int,
    pub vi_set_tx_push_threshold: unsafe extern "C" fn(*mut ef_vi, c_uint),
    pub pio_alloc: unsafe extern "C" fn(*mut ef_pio, Dh, *mut ef_pd, c_uint, Dh) -> c_int,
    pub pio_free: unsafe extern "C" fn(*mut ef_pio, Dh) -> c_int,
    pub pio_link_vi: unsafe extern "C" fn(*mut ef_pio, Dh, *mut ef_vi, Dh) -> c_int,
    pub pio_unlink_vi: unsafe extern "C" fn(*mut ef_pio, Dh, *mut ef_vi, Dh) -> c_int,
    pub vi_get_pio_size: unsafe extern "C" fn(*mut ef_vi) -> c_int,
    pub vi_transmit_alt_alloc: unsafe extern "C" fn(*mut ef_vi, Dh, c_int, usize) -> c_int,
    pub vi_transmit_alt_free: unsafe extern "C" fn(*mut ef_vi, Dh) -> c_int,
    pub vi_transmit_alt_num_ids: unsafe extern "C" fn(*mut ef_vi) -> c_uint,
    pub vi_transmit_alt_query_overhead: unsafe extern "C" fn(*mut ef_vi, *mut ef_vi_transmit_alt_overhead) -> c_int,

    pub eventq_wait: unsafe extern "C" fn(*mut ef_vi, Dh, c_uint, *const timeval) -> c_int,
    pub eventq_capacity: unsafe extern "C" fn(*mut ef_vi) -> c_int,
    pub vi_prime: unsafe extern "C" fn(*mut ef_vi, Dh, c_uint) -> c_int,

    pub vi_capabilities_get: unsafe extern "C" fn(Dh, c_int, c_uint, *mut libc::c_ulong) -> c_int,
    pub vi_capabilities_max: unsafe extern "C" fn() -> c_int,
    pub vi_stats_query_layout: unsafe extern "C" fn(*mut ef_vi, *mut *const ef_vi_stats_layout) -> c_int,
    pub vi_stats_query: unsafe extern "C" fn(*mut ef_vi, Dh, *mut c_void, c_int) -> c_int,

    /// What not every release exports.
    pub sometimes: Sometimes,
}

/// Functions that only some releases export.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each is the C function of the same name, less its `ef_`")]
#[rustfmt::skip]
pub struct Sometimes {
    /// 9.1 and later: capabilities of the datapath that the protection domain is on.
    pub pd_capabilities_get: Option<unsafe extern "C" fn(Dh, *mut ef_pd, Dh, c_uint, *mut libc::c_ulong) -> c_int>,
    /// 9.1 and later: makes a send queue usable again after a `TX_ERROR` event.
    pub vi_reinit_txq_post_error: Option<unsafe extern "C" fn(*mut ef_vi) -> c_int>,
    /// Before 9.0: look-ahead into an event queue (later releases have an operation for it).
    pub eventq_has_many_events: Option<unsafe extern "C" fn(*const ef_vi, c_int) -> c_int>,
    /// Before 9.0: timestamp of an `RX_REF` frame.
    pub efct_vi_rxpkt_get_timestamp: Option<unsafe extern "C" fn(*mut ef_vi, u32, *mut timespec, *mut c_uint) -> c_int>,
}
