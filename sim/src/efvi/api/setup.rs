//! Driver handles, protection domains, VIs, sets, and registered memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use libc::{c_char, c_int, c_uint, c_void};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::inject::{self, Setup};
use linerate_efvi_sys::{ef_memreg, ef_pd, ef_vi, ef_vi_nic_type, ef_vi_set, ef_vi_state};

use super::{Dh, HANDLES, Handle, SETS, card_of, next, text};
use crate::efvi::card::{self, Kind, lock};
use crate::efvi::memory;
use crate::efvi::ops::{self, FIFO_BYTES, of};
use crate::efvi::vi::{Set, Vi};

pub(super) unsafe extern "C" fn version() -> *const c_char {
    c"linerate-sim".as_ptr()
}

pub(super) unsafe extern "C" fn driver_open(dh: *mut Dh) -> c_int {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if fd < 0 {
        return -libc::EMFILE;
    }
    lock(&HANDLES).insert(fd, Handle::default());
    // SAFETY: the caller vouches for the place.
    unsafe { dh.write(fd) };
    0
}

/// Only now does the card let go of the program's memory.
pub(super) unsafe extern "C" fn driver_close(dh: Dh) -> c_int {
    let Some(handle) = lock(&HANDLES).remove(&dh) else { return -libc::EBADF };
    if let Some(card) = &handle.card {
        lock(&card.state).vis.retain(|vi| vi.dh != dh);
    }
    for vi in &handle.vis {
        // Waits for the hardware, should it be at this VI right now.
        vi.lock().closed = true;
    }
    memory::forget(dh);
    // SAFETY: the eventfd of `driver_open`.
    unsafe { libc::close(dh) }
}

pub(super) unsafe extern "C" fn pd_alloc_by_name(
    pd: *mut ef_pd,
    dh: Dh,
    name: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: the caller vouches for the string.
    let Some(card) = card::find(unsafe { text(name) }) else { return -libc::ENODEV };
    if let Some(rc) = card.refusal("ef_pd_alloc_by_name") {
        return rc;
    }
    let cluster = match card.settings.cluster {
        // Never written through.
        true => c"cluster".as_ptr().cast_mut(),
        false => std::ptr::null_mut(),
    };
    if let Some(handle) = lock(&HANDLES).get_mut(&dh) {
        handle.card = Some(card);
    }
    // SAFETY: the caller vouches for the place.
    unsafe {
        pd.write(ef_pd {
            pd_flags: flags,
            pd_resource_id: next(),
            pd_intf_name: std::ptr::null_mut(),
            pd_cluster_name: cluster,
            pd_cluster_sock: -1,
            pd_cluster_dh: -1,
            pd_cluster_viset_resource_id: 0,
            pd_cluster_viset_index: 0,
        });
    }
    0
}

pub(super) unsafe extern "C" fn pd_interface_name(_: *mut ef_pd) -> *const c_char {
    std::ptr::null()
}

pub(super) unsafe extern "C" fn pd_free(_: *mut ef_pd, _: Dh) -> c_int {
    0
}

pub(super) unsafe extern "C" fn vi_init(
    vi: *mut ef_vi,
    _: c_int,
    _: c_int,
    _: c_int,
    _: u64,
    _: u8,
    _: *mut ef_vi_state,
) -> c_int {
    // SAFETY: the caller vouches for room for one.
    unsafe { vi.write_bytes(0, 1) };
    -libc::EINVAL
}

#[allow(clippy::too_many_arguments, reason = "the C function's")]
pub(super) unsafe extern "C" fn vi_alloc_from_pd(
    vi: *mut ef_vi,
    dh: Dh,
    _: *mut ef_pd,
    _: Dh,
    evq: c_int,
    rxq: c_int,
    txq: c_int,
    evq_vi: *mut ef_vi,
    _: Dh,
    flags: u64,
) -> c_int {
    if !evq_vi.is_null() {
        return -libc::EOPNOTSUPP;
    }
    // SAFETY: the caller vouches for the place.
    unsafe { vi_alloc("ef_vi_alloc_from_pd", vi, dh, [evq, rxq, txq], flags, None) }
}

#[allow(clippy::too_many_arguments, reason = "the C function's")]
pub(super) unsafe extern "C" fn vi_alloc_from_set(
    vi: *mut ef_vi,
    dh: Dh,
    set: *mut ef_vi_set,
    _: Dh,
    _: c_int,
    evq: c_int,
    rxq: c_int,
    txq: c_int,
    _: *mut ef_vi,
    _: Dh,
    flags: u64,
) -> c_int {
    // SAFETY: the caller vouches for the set.
    let id = unsafe { (*set).vis_res_id };
    let Some(set) = lock(&SETS).get(&id).cloned() else { return -libc::EINVAL };
    let me = set.members.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller vouches for the place.
    unsafe { vi_alloc("ef_vi_alloc_from_set", vi, dh, [evq, rxq, txq], flags, Some((set, me))) }
}

/// # Safety
///
/// `vi` has room for one that stays in place.
unsafe fn vi_alloc(
    function: &'static str,
    vi: *mut ef_vi,
    dh: Dh,
    sizes: [c_int; 3],
    flags: u64,
    set: Option<(Arc<Set>, u32)>,
) -> c_int {
    let Some(card) = card_of(dh) else { return -libc::EINVAL };
    if let Some(rc) = card.refusal(function) {
        return rc;
    }
    let [evq, rxq, txq] = sizes.map(|n| if n < 0 { 512 } else { n as u32 });
    let stamps = sys::EF_VI_RX_TIMESTAMPS | sys::EF_VI_TX_TIMESTAMPS;
    let s = &card.settings;
    let impossible = flags & stamps != 0 && !s.timestamps
        || flags & sys::EF_VI_TX_ALT != 0
            && (!s.alternatives || flags & sys::EF_VI_TX_TIMESTAMPS != 0)
        || flags & sys::EF_VI_TX_CTPIO != 0 && !s.ctpio;
    if impossible {
        return -libc::EOPNOTSUPP;
    }
    let ring = |n: u32| n == 0 || n.is_power_of_two() && (64..=4096).contains(&n);
    if !ring(rxq) || !ring(txq) {
        return -libc::EINVAL;
    }
    let shared = card.kind == Kind::Shared;
    let granted = if shared { flags | sys::EF_VI_TX_CTPIO } else { flags };
    let ctpio = granted & sys::EF_VI_TX_CTPIO != 0;
    // As the driver: room for everything that can be under way, and a reserve.
    let events = if sizes[0] < 0 { rxq + 2 * txq + 16 } else { evq };
    let me = Arc::new(Vi::new(Arc::clone(&card), dh, granted, (events, rxq, txq), set));
    let setup = Setup {
        dh,
        resource_id: next(),
        instance: next(),
        nic_type: ef_vi_nic_type {
            arch: if shared { sys::EF_VI_ARCH_EFCT } else { sys::EF_VI_ARCH_EF10 },
            variant: b'C' as c_char,
            revision: 2,
            nic_flags: 0,
        },
        flags: granted,
        out_flags: sys::EF_VI_OUT_CLOCK_SYNC_STATUS,
        rxq_mask: rxq.saturating_sub(1),
        txq_mask: txq.saturating_sub(1),
        ct_fifo_bytes: if shared { FIFO_BYTES } else { 0 },
        rx_prefix_len: me.prefix() as u32,
        rx_buffer_len: 1792,
        evq_mask: events.next_power_of_two() - 1,
        // Never written through: the operations below do not.
        ctpio: if ctpio { std::ptr::dangling_mut() } else { std::ptr::null_mut() },
        context: Arc::as_ptr(&me).cast_mut().cast(),
        ops: ops::table(card.kind, ctpio),
    };
    // SAFETY: the caller vouches for the place.
    unsafe { inject::make_vi(vi, &setup) };
    lock(&card.state).vis.push(Arc::clone(&me));
    if let Some(handle) = lock(&HANDLES).get_mut(&dh) {
        handle.vis.push(me);
    }
    0
}

/// Unmaps the rings. The hardware goes on until the handle closes, as it does on a real card.
pub(super) unsafe extern "C" fn vi_free(vi: *mut ef_vi, _: Dh) -> c_int {
    // SAFETY: the caller vouches for the VI and uses it no more.
    unsafe { inject::unmake_vi(vi) };
    0
}

pub(super) unsafe extern "C" fn vi_mtu(vi: *mut ef_vi, _: Dh) -> c_uint {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.card.settings.max_frame
}

pub(super) unsafe extern "C" fn vi_get_mac(_: *mut ef_vi, _: Dh, mac: *mut c_void) -> c_int {
    // SAFETY: the caller vouches for six bytes.
    unsafe { mac.cast::<[u8; 6]>().write([2, 0, 0, 0, 0, 2]) };
    0
}

pub(super) unsafe extern "C" fn set_alloc(
    set: *mut ef_vi_set,
    dh: Dh,
    pd: *mut ef_pd,
    _: Dh,
    _: c_int,
) -> c_int {
    let Some(card) = card_of(dh) else { return -libc::EINVAL };
    if card.kind == Kind::Shared {
        return -libc::EOPNOTSUPP;
    }
    let id = next();
    lock(&SETS).insert(id, Arc::default());
    // SAFETY: the caller vouches for the place.
    unsafe { set.write(ef_vi_set { vis_res_id: id, vis_pd: pd }) };
    0
}

pub(super) unsafe extern "C" fn set_free(set: *mut ef_vi_set, _: Dh) -> c_int {
    // SAFETY: the caller vouches for the set.
    lock(&SETS).remove(&unsafe { (*set).vis_res_id });
    0
}

pub(super) unsafe extern "C" fn memreg_alloc(
    mr: *mut ef_memreg,
    dh: Dh,
    _: *mut ef_pd,
    _: Dh,
    start: *mut c_void,
    len: usize,
) -> c_int {
    let Some(card) = card_of(dh) else { return -libc::EINVAL };
    if let Some(rc) = card.refusal("ef_memreg_alloc") {
        return rc;
    }
    if !(start as usize).is_multiple_of(4096) {
        return -libc::EINVAL;
    }
    let first = memory::register(dh, start.cast(), len, card.kind == Kind::Shared);
    let pages = (0..len.div_ceil(4096) as u64).map(|page| first + page * 4096);
    let table: Box<[u64]> = pages.collect();
    // Kept until `memreg_free`, with its length in front.
    let table =
        Box::new(std::iter::once(len.div_ceil(4096) as u64).chain(table).collect::<Vec<_>>());
    let table = Box::leak(table.into_boxed_slice());
    // SAFETY: the caller vouches for the place; the table has one entry at least.
    unsafe {
        let base = table.as_mut_ptr();
        mr.write(ef_memreg { mr_dma_addrs: base.add(1), mr_dma_addrs_base: base });
    }
    0
}

pub(super) unsafe extern "C" fn memreg_free(mr: *mut ef_memreg, _: Dh) -> c_int {
    // SAFETY: made by `memreg_alloc`: a boxed slice whose first entry counts the others.
    unsafe {
        let base = (*mr).mr_dma_addrs_base;
        let n = *base as usize + 1;
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(base, n)));
    }
    0
}
