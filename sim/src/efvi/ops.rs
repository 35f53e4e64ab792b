//! The VI's own table of operations.
//!
//! Every function here is called by the VI's owner with a VI that `api::vi_alloc` made and
//! `vi_free` has not yet freed: that is what libciul demands of its callers, and what the SAFETY
//! comments below mean by "the caller".

use libc::{c_char, c_int, c_uint, c_void, iovec};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::inject;
use linerate_efvi_sys::{
    Ops, ef_addr, ef_event, ef_iovec, ef_precisetime, ef_request_id, ef_vi, ef_vi_tx_warm_state,
};

use super::card::{Kind, lock};
use super::vi::{Source, Vi};

/// The simulator's side of a VI.
///
/// # Safety
///
/// `vi` was made by `api::vi_alloc` and not freed.
pub(super) unsafe fn of<'a>(vi: *const ef_vi) -> &'a Vi {
    // SAFETY: `vi_alloc` stored the address of a Vi that lives until its driver handle closes.
    unsafe { &*inject::context(vi).cast::<Vi>() }
}

/// Shows the ring positions where the C inlines look for them.
///
/// # Safety
///
/// As [`of`], by the VI's owner.
pub(super) unsafe fn publish(vi: *mut ef_vi) {
    // SAFETY: the caller vouches for it.
    unsafe { inject::set_indices(vi, &of(vi).lock().index) }
}

/// Everything a ring card does.
pub(super) fn table(kind: Kind, ctpio: bool) -> Ops {
    let ring = kind == Kind::Ring;
    Ops {
        transmit: Some(transmit),
        transmitv: Some(transmitv),
        transmitv_init: Some(transmitv_init),
        transmit_push: Some(transmit_push),
        transmit_pio: Some(transmit_pio),
        transmit_copy_pio: Some(transmit_copy_pio),
        start_transmit_warm: Some(start_transmit_warm),
        stop_transmit_warm: Some(stop_transmit_warm),
        transmitv_ctpio: Some(transmitv_ctpio),
        transmit_alt_select: Some(alt_select),
        transmit_alt_select_default: Some(alt_select_default),
        transmit_alt_stop: Some(alt_stop),
        transmit_alt_go: Some(alt_go),
        transmit_alt_discard: Some(alt_discard),
        receive_set_discards: Some(receive_set_discards),
        receive_init: Some(if ring { receive_init } else { no_receive_init }),
        receive_push: Some(if ring { receive_push } else { no_receive_push }),
        receive_get_timestamp: Some(receive_get_timestamp),
        eventq_poll: Some(eventq_poll),
        eventq_has_event: Some(eventq_has_event),
        eventq_has_many_events: Some(eventq_has_many_events),
        transmit_ctpio_fallback: Some(if ctpio { ctpio_fallback } else { no_ctpio_fallback }),
        ..Ops::default()
    }
}

pub(super) unsafe extern "C" fn eventq_poll(vi: *mut ef_vi, evs: *mut ef_event, n: c_int) -> c_int {
    // SAFETY: the caller vouches for the VI and for room for n events.
    unsafe {
        let v = of(vi);
        if n < 2 {
            v.card.violation("ef_eventq_poll with room for less than 2 events");
            return 0;
        }
        if v.lock().is_reset() {
            v.card.violation("ef_eventq_poll after EF_EVENT_TYPE_RESET");
        }
        let got = v.poll(std::slice::from_raw_parts_mut(evs, n as usize));
        publish(vi);
        got as c_int
    }
}

pub(super) unsafe extern "C" fn eventq_has_event(vi: *const ef_vi) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { c_int::from(of(vi).waiting() > 0) }
}

pub(super) unsafe extern "C" fn eventq_has_many_events(vi: *const ef_vi, n: c_int) -> c_int {
    // SAFETY: the caller vouches for the VI.
    let v = unsafe { of(vi) };
    // Shared cards see their send events only.
    let visible = if v.card.kind == Kind::Ring { v.waiting() } else { 0 };
    c_int::from(visible > n.max(0) as usize)
}

unsafe extern "C" fn receive_init(vi: *mut ef_vi, addr: ef_addr, id: ef_request_id) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        let v = of(vi);
        let len = (*vi).rx_buffer_len as usize;
        if !addr.is_multiple_of(64) {
            v.card.violation(format!("receive buffer {addr:#x} is not aligned to 64"));
        }
        if addr / 4096 != (addr + len as u64 - 1) / 4096 {
            v.card.violation(format!("receive buffer {addr:#x} + {len} straddles a page"));
        }
        if id == -1 {
            v.card.violation("the request id -1 marks an empty slot");
        }
        let posted = v.post(addr, len, id);
        publish(vi);
        if posted { 0 } else { -libc::EAGAIN }
    }
}

unsafe extern "C" fn receive_push(vi: *mut ef_vi) {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi).receive_doorbell() }
}

unsafe extern "C" fn no_receive_init(_: *mut ef_vi, _: ef_addr, _: ef_request_id) -> c_int {
    -libc::ENOSYS
}

unsafe extern "C" fn no_receive_push(_: *mut ef_vi) {}

unsafe extern "C" fn receive_set_discards(_: *mut ef_vi, _: c_uint) -> c_int {
    0
}

unsafe extern "C" fn receive_get_timestamp(
    vi: *mut ef_vi,
    pkt: *const c_void,
    ts: *mut ef_precisetime,
) -> c_int {
    // SAFETY: the caller vouches for the VI and the place to write to.
    unsafe {
        let v = of(vi);
        if let Some(errno) = lock(&v.card.state).no_stamps {
            return -errno;
        }
        let found = match v.card.kind {
            Kind::Shared => v.packet_time(pkt.cast()),
            Kind::Ring => {
                let stamped = v.lock();
                stamped.stampable.iter().find(|(at, _)| *at == pkt as usize).map(|(_, ns)| *ns)
            }
        };
        let Some(ns) = found else {
            v.card.violation("a timestamp of a frame that the last poll did not report");
            return -libc::ENODATA;
        };
        ts.write(ef_precisetime {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000) as u32,
            tv_nsec_frac: 0,
            tv_flags: 1 + 2 * u16::from(v.card.settings.clock_synced),
        });
        0
    }
}

/// Puts one frame into the send ring.
///
/// # Safety
///
/// As [`of`], by the VI's owner.
pub(super) unsafe fn queue(vi: *mut ef_vi, source: Source, id: c_int, ctpio: bool) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        let v = of(vi);
        let (Source::Dma { len, .. } | Source::Pio { len, .. }) = source;
        if len == 0 || len > v.card.settings.max_frame as usize {
            v.card.violation(format!("a frame of {len} B to be sent"));
        }
        if v.lock().ctpio.is_some() && !ctpio {
            v.card.violation("a frame was sent between CTPIO and its fallback");
        }
        if v.card.kind == Kind::Shared && fifo_room(v) < len {
            return -libc::EAGAIN;
        }
        let queued = v.queue(source, id, ctpio);
        publish(vi);
        if queued { 0 } else { -libc::EAGAIN }
    }
}

/// Room in a shared card's send FIFO.
fn fifo_room(v: &Vi) -> usize {
    let index = v.lock().index;
    FIFO_BYTES.saturating_sub(index.ct_added.wrapping_sub(index.ct_removed)) as usize
}

/// Bytes of a shared card's send FIFO.
pub(super) const FIFO_BYTES: u32 = 32 * 1024;

unsafe extern "C" fn transmit(
    vi: *mut ef_vi,
    addr: ef_addr,
    len: c_int,
    id: ef_request_id,
) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        let rc = queue(vi, Source::Dma { addr, len: len.max(0) as usize }, id, false);
        if rc == 0 {
            of(vi).transmit_doorbell();
        }
        rc
    }
}

unsafe extern "C" fn transmitv_init(
    vi: *mut ef_vi,
    iov: *const ef_iovec,
    n: c_int,
    id: ef_request_id,
) -> c_int {
    // SAFETY: the caller vouches for the VI and n pieces, of which this card takes one.
    unsafe {
        if n != 1 {
            return -libc::EOPNOTSUPP;
        }
        let ef_iovec { iov_base, iov_len } = *iov;
        queue(vi, Source::Dma { addr: iov_base, len: iov_len as usize }, id, false)
    }
}

unsafe extern "C" fn transmitv(
    vi: *mut ef_vi,
    iov: *const ef_iovec,
    n: c_int,
    id: ef_request_id,
) -> c_int {
    // SAFETY: as `transmitv_init`.
    unsafe {
        let rc = transmitv_init(vi, iov, n, id);
        if rc == 0 {
            of(vi).transmit_doorbell();
        }
        rc
    }
}

unsafe extern "C" fn transmit_push(vi: *mut ef_vi) {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi).transmit_doorbell() }
}

unsafe extern "C" fn transmit_pio(
    vi: *mut ef_vi,
    offset: c_int,
    len: c_int,
    id: ef_request_id,
) -> c_int {
    if offset % 64 != 0 || offset < 0 || len <= 0 {
        return -libc::EINVAL;
    }
    // SAFETY: the caller vouches for the VI.
    unsafe {
        let (offset, len) = (offset as usize, len as usize);
        let v = of(vi);
        if offset + len > v.lock().pio.len() {
            v.card.violation("a frame outside of the PIO region");
            return -libc::EINVAL;
        }
        let rc = queue(vi, Source::Pio { offset, len }, id, false);
        if rc == 0 {
            v.transmit_doorbell();
        }
        rc
    }
}

unsafe extern "C" fn transmit_copy_pio(
    vi: *mut ef_vi,
    offset: c_int,
    frame: *const c_void,
    len: c_int,
    id: ef_request_id,
) -> c_int {
    // SAFETY: the caller vouches for the VI and for `len` bytes of the frame.
    unsafe {
        let bytes = std::slice::from_raw_parts(frame.cast::<u8>(), len.max(0) as usize);
        let start = offset.max(0) as usize;
        match of(vi).lock().pio.get_mut(start..start + bytes.len()) {
            Some(region) => region.copy_from_slice(bytes),
            None => return -libc::EINVAL,
        }
        transmit_pio(vi, offset, len, id)
    }
}

unsafe extern "C" fn transmitv_ctpio(
    vi: *mut ef_vi,
    _: usize,
    iov: *const iovec,
    n: c_int,
    _: c_uint,
) {
    // SAFETY: the caller vouches for the VI and for the pieces.
    unsafe {
        let v = of(vi);
        let shared = v.card.kind == Kind::Shared;
        if !shared && v.flags & sys::EF_VI_TX_CTPIO == 0 {
            v.card.violation("CTPIO on a VI that has none");
            return;
        }
        let pieces = std::slice::from_raw_parts(iov, n.max(0) as usize);
        let bytes = pieces.iter().flat_map(|p| {
            std::slice::from_raw_parts(p.iov_base.cast::<u8>(), p.iov_len).iter().copied()
        });
        let bytes: Vec<u8> = bytes.collect();
        let loses = lock(&v.card.state).ctpio_loses;
        let mut s = v.lock();
        if s.ctpio.replace(bytes).is_some() {
            drop(s);
            v.card.violation("CTPIO without a fallback before it");
            return;
        }
        s.ctpio_won = shared || !loses;
    }
}

unsafe extern "C" fn ctpio_fallback(
    vi: *mut ef_vi,
    addr: ef_addr,
    len: usize,
    id: ef_request_id,
) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        let v = of(vi);
        let (sent, won, warming) = {
            let mut s = v.lock();
            (s.ctpio.take(), s.ctpio_won, s.warming)
        };
        match super::memory::translate(v.dh, addr, len) {
            None => v.card.violation("the CTPIO fallback is not in registered memory"),
            Some(at) => {
                let same = std::slice::from_raw_parts(at, len);
                if sent.as_deref() != Some(same) {
                    v.card.violation("the CTPIO fallback differs from what was written");
                }
            }
        }
        if warming {
            return if v.card.kind == Kind::Shared { 0 } else { -libc::EAGAIN };
        }
        let rc = queue(vi, Source::Dma { addr, len }, id, won);
        if rc == 0 {
            v.transmit_doorbell();
        }
        rc
    }
}

unsafe extern "C" fn no_ctpio_fallback(
    _: *mut ef_vi,
    _: ef_addr,
    _: usize,
    _: ef_request_id,
) -> c_int {
    -libc::EOPNOTSUPP
}

unsafe extern "C" fn start_transmit_warm(
    vi: *mut ef_vi,
    _: *mut ef_vi_tx_warm_state,
    _: *mut c_char,
) {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi).lock().warming = true }
}

unsafe extern "C" fn stop_transmit_warm(vi: *mut ef_vi, _: *mut ef_vi_tx_warm_state) {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi).lock().warming = false }
}

fn invalid_unless(done: bool) -> c_int {
    if done { 0 } else { -libc::EINVAL }
}

unsafe extern "C" fn alt_select(vi: *mut ef_vi, alt: c_uint) -> c_int {
    // SAFETY: the caller vouches for the VI.
    invalid_unless(unsafe { of(vi) }.select(Some(alt as usize)))
}

unsafe extern "C" fn alt_select_default(vi: *mut ef_vi) -> c_int {
    // SAFETY: the caller vouches for the VI.
    invalid_unless(unsafe { of(vi) }.select(None))
}

unsafe extern "C" fn alt_stop(vi: *mut ef_vi, alt: c_uint) -> c_int {
    // SAFETY: the caller vouches for the VI.
    invalid_unless(unsafe { of(vi) }.set_alternative(alt as usize, false, false))
}

unsafe extern "C" fn alt_go(vi: *mut ef_vi, alt: c_uint) -> c_int {
    // SAFETY: the caller vouches for the VI.
    invalid_unless(unsafe { of(vi) }.set_alternative(alt as usize, true, false))
}

unsafe extern "C" fn alt_discard(vi: *mut ef_vi, alt: c_uint) -> c_int {
    // SAFETY: the caller vouches for the VI.
    invalid_unless(unsafe { of(vi) }.set_alternative(alt as usize, false, true))
}
