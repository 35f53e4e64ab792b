//! The table filled from the library that was linked at build time.

use libc::{c_int, c_uint};

use crate::api::{Api, Sometimes};
use crate::bindings as c;
use crate::types::*;
use crate::vi::{ef_vi, ef_vi_state};

// Not in the installed headers, but exported by every release.
unsafe extern "C" {
    fn ef_vi_init(
        vi: *mut ef_vi,
        arch: c_int,
        variant: c_int,
        revision: c_int,
        flags: c::ef_vi_flags,
        nic_flags: u8,
        state: *mut ef_vi_state,
    ) -> c_int;
}

unsafe extern "C" fn vi_init(
    vi: *mut ef_vi,
    arch: c_int,
    variant: c_int,
    revision: c_int,
    flags: u64,
    nic_flags: u8,
    state: *mut ef_vi_state,
) -> c_int {
    let flags = flags as c::ef_vi_flags;
    // SAFETY: passed through; the caller upholds the C function's contract.
    unsafe { ef_vi_init(vi, arch, variant, revision, flags, nic_flags, state) }
}

/// The flags were 32 bits wide before 9.1; the bits that came later do not exist there.
#[allow(clippy::too_many_arguments, reason = "the C function's")]
unsafe extern "C" fn vi_alloc_from_pd(
    vi: *mut ef_vi,
    vi_dh: ef_driver_handle,
    pd: *mut ef_pd,
    pd_dh: ef_driver_handle,
    evq: c_int,
    rxq: c_int,
    txq: c_int,
    evq_vi: *mut ef_vi,
    evq_dh: ef_driver_handle,
    flags: u64,
) -> c_int {
    let flags = flags as c::ef_vi_flags;
    // SAFETY: passed through; the caller upholds the C function's contract.
    unsafe { c::ef_vi_alloc_from_pd(vi, vi_dh, pd, pd_dh, evq, rxq, txq, evq_vi, evq_dh, flags) }
}

/// As [`vi_alloc_from_pd`].
#[allow(clippy::too_many_arguments, reason = "the C function's")]
unsafe extern "C" fn vi_alloc_from_set(
    vi: *mut ef_vi,
    vi_dh: ef_driver_handle,
    set: *mut ef_vi_set,
    set_dh: ef_driver_handle,
    index: c_int,
    evq: c_int,
    rxq: c_int,
    txq: c_int,
    evq_vi: *mut ef_vi,
    evq_dh: ef_driver_handle,
    flags: u64,
) -> c_int {
    let flags = flags as c::ef_vi_flags;
    // SAFETY: passed through; the caller upholds the C function's contract.
    unsafe {
        c::ef_vi_alloc_from_set(vi, vi_dh, set, set_dh, index, evq, rxq, txq, evq_vi, evq_dh, flags)
    }
}

/// What the headers before 9.0 do inline.
#[cfg(not(ef_ops_has_many))]
unsafe extern "C" fn has_many_events(vi: *const ef_vi, n: c_int) -> c_int {
    // SAFETY: passed through; the caller upholds the C functions' contract.
    unsafe {
        if (*vi).evq_phase_bits != 0 {
            c::ef_eventq_check_event_phase_bit(vi, n)
        } else {
            c::ef_eventq_check_event(vi, n)
        }
    }
}

pub(crate) static API: Api = Api {
    vi_version_str: c::ef_vi_version_str,
    vi_driver_interface_str: c::ef_vi_driver_interface_str,
    driver_open: c::ef_driver_open,
    driver_close: c::ef_driver_close,
    pd_alloc_by_name: c::ef_pd_alloc_by_name,
    pd_interface_name: c::ef_pd_interface_name,
    pd_free: c::ef_pd_free,
    vi_init,
    vi_alloc_from_pd,
    vi_free: c::ef_vi_free,
    vi_mtu: c::ef_vi_mtu,
    vi_get_mac: c::ef_vi_get_mac,
    vi_set_alloc_from_pd: c::ef_vi_set_alloc_from_pd,
    vi_alloc_from_set,
    vi_set_free: c::ef_vi_set_free,
    memreg_alloc: c::ef_memreg_alloc,
    memreg_free: c::ef_memreg_free,
    filter_spec_init: c::ef_filter_spec_init,
    filter_spec_set_ip4_local: c::ef_filter_spec_set_ip4_local,
    filter_spec_set_ip4_full: c::ef_filter_spec_set_ip4_full,
    filter_spec_set_ip6_local: c::ef_filter_spec_set_ip6_local,
    filter_spec_set_ip6_full: c::ef_filter_spec_set_ip6_full,
    filter_spec_set_vlan: c::ef_filter_spec_set_vlan,
    filter_spec_set_eth_local: c::ef_filter_spec_set_eth_local,
    filter_spec_set_eth_type: c::ef_filter_spec_set_eth_type,
    filter_spec_set_ip_proto: c::ef_filter_spec_set_ip_proto,
    filter_spec_set_unicast_all: c::ef_filter_spec_set_unicast_all,
    filter_spec_set_multicast_all: c::ef_filter_spec_set_multicast_all,
    filter_spec_set_unicast_mismatch: c::ef_filter_spec_set_unicast_mismatch,
    filter_spec_set_multicast_mismatch: c::ef_filter_spec_set_multicast_mismatch,
    filter_spec_set_port_sniff: c::ef_filter_spec_set_port_sniff,
    filter_spec_set_tx_port_sniff: c::ef_filter_spec_set_tx_port_sniff,
    filter_spec_set_block_kernel: c::ef_filter_spec_set_block_kernel,
    vi_filter_add: c::ef_vi_filter_add,
    vi_filter_del: c::ef_vi_filter_del,
    vi_set_filter_add: c::ef_vi_set_filter_add,
    vi_set_filter_del: c::ef_vi_set_filter_del,
    vi_receive_query_layout: c::ef_vi_receive_query_layout,
    vi_receive_unbundle: c::ef_vi_receive_unbundle,
    vi_receive_get_timestamp_with_sync_flags: c::ef_vi_receive_get_timestamp_with_sync_flags,
    efct_vi_rxpkt_get: c::efct_vi_rxpkt_get,
    efct_vi_rxpkt_release: c::efct_vi_rxpkt_release,
    efct_vi_rx_future_peek: c::efct_vi_rx_future_peek,
    efct_vi_rx_future_poll: c::efct_vi_rx_future_poll,
    vi_transmit_init: c::ef_vi_transmit_init,
    vi_transmit_init_undo: c::ef_vi_transmit_init_undo,
    vi_transmit_unbundle: c::ef_vi_transmit_unbundle,
    vi_set_tx_push_threshold: c::ef_vi_set_tx_push_threshold,
    pio_alloc: c::ef_pio_alloc,
    pio_free: c::ef_pio_free,
    pio_link_vi: c::ef_pio_link_vi,
    pio_unlink_vi: c::ef_pio_unlink_vi,
    vi_get_pio_size: c::ef_vi_get_pio_size,
    vi_transmit_alt_alloc: c::ef_vi_transmit_alt_alloc,
    vi_transmit_alt_free: c::ef_vi_transmit_alt_free,
    vi_transmit_alt_num_ids: c::ef_vi_transmit_alt_num_ids,
    vi_transmit_alt_query_overhead: c::ef_vi_transmit_alt_query_overhead,
    eventq_wait: c::ef_eventq_wait,
    eventq_capacity: c::ef_eventq_capacity,
    vi_prime: c::ef_vi_prime,
    vi_capabilities_get: c::ef_vi_capabilities_get,
    vi_capabilities_max: c::ef_vi_capabilities_max,
    vi_stats_query_layout: c::ef_vi_stats_query_layout,
    vi_stats_query: c::ef_vi_stats_query,
    sometimes: Sometimes {
        #[cfg(ef_fn_pd_capabilities)]
        pd_capabilities_get: Some(c::ef_pd_capabilities_get),
        #[cfg(not(ef_fn_pd_capabilities))]
        pd_capabilities_get: None,
        #[cfg(ef_fn_reinit_txq)]
        vi_reinit_txq_post_error: Some(c::__ef_vi_reinit_txq_post_error),
        #[cfg(not(ef_fn_reinit_txq))]
        vi_reinit_txq_post_error: None,
        #[cfg(ef_ops_has_many)]
        eventq_has_many_events: None,
        #[cfg(not(ef_ops_has_many))]
        eventq_has_many_events: Some(has_many_events),
        #[cfg(ef_ops_timestamp)]
        efct_vi_rxpkt_get_timestamp: None,
        #[cfg(not(ef_ops_timestamp))]
        efct_vi_rxpkt_get_timestamp: Some(c::efct_vi_rxpkt_get_timestamp),
    },
};

// `ef_pd_flags`, `ef_filter_flags` and `ef_vi_capability` are passed as `unsigned`.
const _: () = {
    assert!(size_of::<c::ef_pd_flags>() == size_of::<c_uint>());
    assert!(size_of::<c::ef_filter_flags>() == size_of::<c_uint>());
    assert!(size_of::<c::ef_vi_capability>() == size_of::<c_uint>());
};
