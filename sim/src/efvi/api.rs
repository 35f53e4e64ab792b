//! The library's exported functions.

mod datapath;
mod filters;
mod info;
mod setup;

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use libc::c_char;
use linerate_efvi_sys::{Api, Library, Sometimes, ef_driver_handle};

use super::card::{Inner, lock};
use super::filter;
use super::vi::{Set, Vi};

/// The simulator as an ef_vi implementation, for every [`Card`](super::Card) of this process.
#[must_use]
pub fn library() -> Library {
    // SAFETY: the functions below behave as their namesakes, for as long as the program runs;
    // VIs are made by `inject::make_vi` in this build's layout.
    unsafe { Library::injected(&API) }
}

type Dh = ef_driver_handle;

/// What hangs on a driver handle.
#[derive(Default)]
struct Handle {
    card: Option<Arc<Inner>>,
    vis: Vec<Arc<Vi>>,
}

static HANDLES: LazyLock<Mutex<HashMap<Dh, Handle>>> = LazyLock::new(Mutex::default);
static SETS: LazyLock<Mutex<HashMap<u32, Arc<Set>>>> = LazyLock::new(Mutex::default);

/// Numbers for filters, VIs and sets.
fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn card_of(dh: Dh) -> Option<Arc<Inner>> {
    lock(&HANDLES).get(&dh)?.card.clone()
}

/// A C string that the caller vouches for.
unsafe fn text<'a>(s: *const c_char) -> &'a str {
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(s) }.to_str().unwrap_or_default()
}

/// A table that the library lends out for ever.
struct Table<T>(T);
// SAFETY: never written; the pointers in it are to string literals.
unsafe impl<T> Sync for Table<T> {}

static API: Api = Api {
    vi_version_str: setup::version,
    vi_driver_interface_str: setup::version,
    driver_open: setup::driver_open,
    driver_close: setup::driver_close,
    pd_alloc_by_name: setup::pd_alloc_by_name,
    pd_interface_name: setup::pd_interface_name,
    pd_free: setup::pd_free,
    vi_init: setup::vi_init,
    vi_alloc_from_pd: setup::vi_alloc_from_pd,
    vi_free: setup::vi_free,
    vi_mtu: setup::vi_mtu,
    vi_get_mac: setup::vi_get_mac,
    vi_set_alloc_from_pd: setup::set_alloc,
    vi_alloc_from_set: setup::vi_alloc_from_set,
    vi_set_free: setup::set_free,
    memreg_alloc: setup::memreg_alloc,
    memreg_free: setup::memreg_free,
    filter_spec_init: filter::init,
    filter_spec_set_ip4_local: filter::ip4_local,
    filter_spec_set_ip4_full: filter::ip4_full,
    filter_spec_set_ip6_local: filter::ip6_local,
    filter_spec_set_ip6_full: filter::ip6_full,
    filter_spec_set_vlan: filter::vlan,
    filter_spec_set_eth_local: filter::eth_local,
    filter_spec_set_eth_type: filter::eth_type,
    filter_spec_set_ip_proto: filter::ip_proto,
    filter_spec_set_unicast_all: filter::unicast_all,
    filter_spec_set_multicast_all: filter::multicast_all,
    filter_spec_set_unicast_mismatch: filter::unicast_mismatch,
    filter_spec_set_multicast_mismatch: filter::multicast_mismatch,
    filter_spec_set_port_sniff: filter::port_sniff,
    filter_spec_set_tx_port_sniff: filter::tx_port_sniff,
    filter_spec_set_block_kernel: filter::block_kernel,
    vi_filter_add: filters::filter_add,
    vi_filter_del: filters::filter_del,
    vi_set_filter_add: filters::set_filter_add,
    vi_set_filter_del: filters::set_filter_del,
    vi_receive_query_layout: datapath::query_layout,
    vi_receive_unbundle: datapath::receive_unbundle,
    vi_receive_get_timestamp_with_sync_flags: datapath::old_timestamp,
    efct_vi_rxpkt_get: datapath::rxpkt_get,
    efct_vi_rxpkt_release: datapath::rxpkt_release,
    efct_vi_rx_future_peek: datapath::future_peek,
    efct_vi_rx_future_poll: datapath::future_poll,
    vi_transmit_init: datapath::transmit_init,
    vi_transmit_init_undo: datapath::transmit_init_undo,
    vi_transmit_unbundle: datapath::transmit_unbundle,
    vi_set_tx_push_threshold: datapath::set_push_threshold,
    pio_alloc: datapath::pio_alloc,
    pio_free: datapath::pio_free,
    pio_link_vi: datapath::pio_link,
    pio_unlink_vi: datapath::pio_unlink,
    vi_get_pio_size: datapath::pio_size,
    vi_transmit_alt_alloc: datapath::alt_alloc,
    vi_transmit_alt_free: datapath::alt_free,
    vi_transmit_alt_num_ids: datapath::alt_num_ids,
    vi_transmit_alt_query_overhead: datapath::alt_overhead,
    eventq_wait: info::eventq_wait,
    eventq_capacity: info::eventq_capacity,
    vi_prime: info::vi_prime,
    vi_capabilities_get: info::capabilities_get,
    vi_capabilities_max: info::capabilities_max,
    vi_stats_query_layout: info::stats_layout,
    vi_stats_query: info::stats_query,
    sometimes: Sometimes {
        pd_capabilities_get: Some(info::pd_capabilities_get),
        vi_reinit_txq_post_error: Some(info::reinit_txq),
        eventq_has_many_events: Some(info::has_many_events),
        efct_vi_rxpkt_get_timestamp: Some(datapath::old_packet_timestamp),
    },
};
