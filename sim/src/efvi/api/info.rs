//! Waiting, capabilities, counters.

use std::ffi::CStr;
use std::time::Duration;

use libc::{c_int, c_uint, c_ulong, c_void, timeval};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::{ef_pd, ef_vi, ef_vi_stats_field_layout, ef_vi_stats_layout};

use super::{Dh, Table, card_of};
use crate::efvi::card::{Inner, Kind};
use crate::efvi::ops::{self, of, publish};
use crate::efvi::vi::PIO_BYTES;

pub(super) unsafe extern "C" fn eventq_wait(
    vi: *mut ef_vi,
    _: Dh,
    _: c_uint,
    limit: *const timeval,
) -> c_int {
    // SAFETY: the caller vouches for the VI and for a timeval or null.
    let (v, limit) = unsafe { (of(vi), limit.as_ref()) };
    let limit = limit.map(|t| {
        Duration::from_secs(t.tv_sec.max(0) as u64) + Duration::from_micros(t.tv_usec.max(0) as u64)
    });
    let limit = limit.filter(|t| !t.is_zero());
    match (v.wait(limit), v.card.kind) {
        (true, _) | (false, Kind::Shared) => 0,
        (false, Kind::Ring) => -libc::ETIMEDOUT,
    }
}

pub(super) unsafe extern "C" fn eventq_capacity(vi: *mut ef_vi) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { (*vi).evq_mask as c_int }
}

pub(super) unsafe extern "C" fn vi_prime(vi: *mut ef_vi, _: Dh, _: c_uint) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.prime();
    0
}

/// Before 9.0, where VIs have no operation for it.
pub(super) unsafe extern "C" fn has_many_events(vi: *const ef_vi, n: c_int) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { ops::eventq_has_many_events(vi, n) }
}

fn capability(card: &Inner, cap: c_uint) -> Option<c_ulong> {
    let s = &card.settings;
    let shared = card.kind == Kind::Shared;
    let yes = |b: bool| b.then_some(1);
    match cap {
        sys::EF_VI_CAP_HW_RX_TIMESTAMPING | sys::EF_VI_CAP_HW_TX_TIMESTAMPING => yes(s.timestamps),
        sys::EF_VI_CAP_RX_MERGE => yes(!shared),
        sys::EF_VI_CAP_HW_MULTICAST_REPLICATION => yes(s.replication),
        sys::EF_VI_CAP_CTPIO => yes(s.ctpio || shared),
        sys::EF_VI_CAP_CTPIO_ONLY | sys::EF_VI_CAP_RX_SHARED => yes(shared),
        sys::EF_VI_CAP_PIO => yes(s.pio && !shared),
        sys::EF_VI_CAP_PIO_BUFFER_SIZE => (s.pio && !shared).then_some(PIO_BYTES as c_ulong),
        sys::EF_VI_CAP_TX_ALTERNATIVES => yes(s.alternatives && !shared),
        sys::EF_VI_CAP_MIN_BUFFER_MODE_SIZE => Some(4096),
        sys::EF_VI_CAP_RXQ_SIZES | sys::EF_VI_CAP_TXQ_SIZES => Some(0x1fc0),
        _ => None,
    }
}

pub(super) unsafe extern "C" fn capabilities_get(
    dh: Dh,
    _: c_int,
    cap: c_uint,
    value: *mut c_ulong,
) -> c_int {
    match card_of(dh).and_then(|card| capability(&card, cap)) {
        Some(v) => {
            // SAFETY: the caller vouches for the place.
            unsafe { value.write(v) };
            0
        }
        None => -libc::EOPNOTSUPP,
    }
}

pub(super) unsafe extern "C" fn pd_capabilities_get(
    dh: Dh,
    _: *mut ef_pd,
    _: Dh,
    cap: c_uint,
    value: *mut c_ulong,
) -> c_int {
    // SAFETY: as the caller vouches.
    unsafe { capabilities_get(dh, 0, cap, value) }
}

pub(super) unsafe extern "C" fn capabilities_max() -> c_int {
    57
}

/// The four counters of an EF10 VI, in one allocation with their header.
#[repr(C)]
struct StatsLayout {
    header: ef_vi_stats_layout,
    fields: [ef_vi_stats_field_layout; 4],
}

static STATS: Table<StatsLayout> = Table(StatsLayout {
    header: ef_vi_stats_layout { evsl_data_size: 16, evsl_fields_num: 4, evsl_fields: [] },
    fields: [
        counter(c"RX CRC errors", 0),
        counter(c"RX trunk errors", 4),
        counter(c"RX no descriptor errors", 8),
        counter(c"RX abort errors", 12),
    ],
});

const fn counter(name: &'static CStr, offset: c_int) -> ef_vi_stats_field_layout {
    ef_vi_stats_field_layout {
        evsfl_name: name.as_ptr().cast_mut(),
        evsfl_offset: offset,
        evsfl_size: 4,
    }
}

pub(super) unsafe extern "C" fn stats_layout(
    vi: *mut ef_vi,
    layout: *mut *const ef_vi_stats_layout,
) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        if of(vi).card.kind == Kind::Shared {
            return -libc::EINVAL;
        }
        layout.write((&raw const STATS.0).cast());
    }
    0
}

pub(super) unsafe extern "C" fn stats_query(
    vi: *mut ef_vi,
    _: Dh,
    data: *mut c_void,
    _: c_int,
) -> c_int {
    // SAFETY: the caller vouches for the VI and for 16 bytes.
    unsafe {
        let counters = [0, 0, of(vi).lock().no_descriptor, 0];
        data.cast::<[u32; 4]>().write(counters);
    }
    0
}

pub(super) unsafe extern "C" fn reinit_txq(vi: *mut ef_vi) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        of(vi).restart_transmit();
        publish(vi);
    }
    0
}
