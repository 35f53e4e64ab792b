//! Receiving and sending, where the library has a function for it and not an operation of the VI.

use libc::{c_int, c_uint, c_void, timespec};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::{
    ef_addr, ef_event, ef_pd, ef_pio, ef_precisetime, ef_request_id, ef_vi, ef_vi_layout_entry,
    ef_vi_transmit_alt_overhead, inject,
};

use super::{Dh, Table, card_of, next};
use crate::efvi::card::Kind;
use crate::efvi::ops::{self, of, publish};
use crate::efvi::vi::{LENGTH_AT, PIO_BYTES, PREFIX, Source};

static LAYOUT: Table<[ef_vi_layout_entry; 2]> = Table([
    ef_vi_layout_entry {
        evle_type: sys::EF_VI_LAYOUT_FRAME,
        evle_offset: PREFIX as c_int,
        evle_description: c"frame".as_ptr(),
    },
    ef_vi_layout_entry {
        evle_type: sys::EF_VI_LAYOUT_PACKET_LENGTH,
        evle_offset: LENGTH_AT as c_int,
        evle_description: c"length".as_ptr(),
    },
]);

pub(super) unsafe extern "C" fn query_layout(
    vi: *mut ef_vi,
    entries: *mut *const ef_vi_layout_entry,
    n: *mut c_int,
) -> c_int {
    // SAFETY: the caller vouches for all three.
    unsafe {
        if of(vi).prefix() == 0 {
            return -libc::EINVAL;
        }
        entries.write(LAYOUT.0.as_ptr());
        n.write(2);
    }
    0
}

pub(super) unsafe extern "C" fn receive_unbundle(
    vi: *mut ef_vi,
    event: *const ef_event,
    ids: *mut ef_request_id,
) -> c_int {
    // SAFETY: the caller vouches for the VI, the event, and room for a batch of ids.
    unsafe {
        let ids = std::slice::from_raw_parts_mut(ids, sys::EF_VI_RECEIVE_BATCH);
        let n = of(vi).receive_unbundle(&*event, ids);
        publish(vi);
        n as c_int
    }
}

pub(super) unsafe extern "C" fn old_timestamp(
    vi: *mut ef_vi,
    pkt: *const c_void,
    ts: *mut timespec,
    flags: *mut c_uint,
) -> c_int {
    let mut precise = ef_precisetime::default();
    // SAFETY: the caller vouches for all of them.
    unsafe {
        let get = ops::table(of(vi).card.kind, false).receive_get_timestamp;
        let rc = get.map_or(-libc::EOPNOTSUPP, |get| get(vi, pkt, &mut precise));
        ts.write(timespec { tv_sec: precise.tv_sec, tv_nsec: precise.tv_nsec.into() });
        flags.write(precise.tv_flags.into());
        rc
    }
}

pub(super) unsafe extern "C" fn old_packet_timestamp(
    vi: *mut ef_vi,
    id: u32,
    ts: *mut timespec,
    flags: *mut c_uint,
) -> c_int {
    // SAFETY: the caller vouches for all of them.
    unsafe { old_timestamp(vi, rxpkt_get(vi, id), ts, flags) }
}

pub(super) unsafe extern "C" fn rxpkt_get(vi: *mut ef_vi, id: u32) -> *const c_void {
    // SAFETY: the caller vouches for the VI.
    let v = unsafe { of(vi) };
    match v.packet(id) {
        Some(at) => at.cast(),
        None => {
            v.card.violation(format!("packet {id} is not there to be read"));
            std::ptr::null()
        }
    }
}

pub(super) unsafe extern "C" fn rxpkt_release(vi: *mut ef_vi, id: u32) {
    // SAFETY: the caller vouches for the VI.
    let v = unsafe { of(vi) };
    if !v.release_packet(id) {
        v.card.violation(format!("packet {id} was released twice"));
    }
}

pub(super) unsafe extern "C" fn future_peek(vi: *mut ef_vi) -> *const c_void {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.peek().map_or(std::ptr::null(), |at| at.cast())
}

pub(super) unsafe extern "C" fn future_poll(vi: *mut ef_vi, evs: *mut ef_event, n: c_int) -> c_int {
    // SAFETY: the caller vouches for the VI and room for n events.
    unsafe { ops::eventq_poll(vi, evs, n) }
}

pub(super) unsafe extern "C" fn transmit_init(
    vi: *mut ef_vi,
    addr: ef_addr,
    len: c_int,
    id: ef_request_id,
) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { ops::queue(vi, Source::Dma { addr, len: len.max(0) as usize }, id, false) }
}

pub(super) unsafe extern "C" fn transmit_init_undo(vi: *mut ef_vi) {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        of(vi).unqueue();
        publish(vi);
    }
}

pub(super) unsafe extern "C" fn transmit_unbundle(
    vi: *mut ef_vi,
    event: *const ef_event,
    ids: *mut ef_request_id,
) -> c_int {
    // SAFETY: the caller vouches for the VI, the event, and room for a batch of ids.
    unsafe {
        let ids = std::slice::from_raw_parts_mut(ids, sys::EF_VI_TRANSMIT_BATCH);
        let n = of(vi).transmit_unbundle(&*event, ids);
        publish(vi);
        n as c_int
    }
}

pub(super) unsafe extern "C" fn set_push_threshold(_: *mut ef_vi, _: c_uint) {}

pub(super) unsafe extern "C" fn pio_alloc(
    pio: *mut ef_pio,
    dh: Dh,
    _: *mut ef_pd,
    _: c_uint,
    _: Dh,
) -> c_int {
    if !card_of(dh).is_some_and(|card| card.settings.pio && card.kind == Kind::Ring) {
        return -libc::EOPNOTSUPP;
    }
    // SAFETY: the caller vouches for the place.
    unsafe {
        pio.write(ef_pio {
            pio_buffer: std::ptr::null_mut(),
            pio_io: std::ptr::null_mut(),
            pio_resource_id: next(),
            pio_len: PIO_BYTES as c_uint,
        });
    }
    0
}

pub(super) unsafe extern "C" fn pio_free(_: *mut ef_pio, _: Dh) -> c_int {
    0
}

pub(super) unsafe extern "C" fn pio_link(_: *mut ef_pio, _: Dh, vi: *mut ef_vi, _: Dh) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.lock().pio = vec![0; PIO_BYTES];
    0
}

pub(super) unsafe extern "C" fn pio_unlink(_: *mut ef_pio, _: Dh, vi: *mut ef_vi, _: Dh) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.lock().pio.clear();
    0
}

pub(super) unsafe extern "C" fn pio_size(vi: *mut ef_vi) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.lock().pio.len() as c_int
}

pub(super) unsafe extern "C" fn alt_alloc(vi: *mut ef_vi, _: Dh, n: c_int, _: usize) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        let v = of(vi);
        if v.flags & sys::EF_VI_TX_ALT == 0 {
            return -libc::EINVAL;
        }
        v.make_alternatives(n.max(0) as usize);
        inject::set_alternatives(vi, n.max(0) as u32);
    }
    0
}

pub(super) unsafe extern "C" fn alt_free(_: *mut ef_vi, _: Dh) -> c_int {
    0
}

pub(super) unsafe extern "C" fn alt_num_ids(vi: *mut ef_vi) -> c_uint {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.alternatives() as c_uint
}

pub(super) unsafe extern "C" fn alt_overhead(
    _: *mut ef_vi,
    overhead: *mut ef_vi_transmit_alt_overhead,
) -> c_int {
    // SAFETY: the caller vouches for the place.
    unsafe {
        let mask = !31;
        overhead.write(ef_vi_transmit_alt_overhead { pre_round: 31, mask, post_round: 32 });
    }
    0
}
