//! The library's exported functions.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use libc::{c_char, c_int, c_uint, c_ulong, c_void, timespec, timeval};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::inject::{self, Setup};
use linerate_efvi_sys::{
    Api, Library, Sometimes, ef_addr, ef_driver_handle, ef_event, ef_filter_cookie, ef_filter_spec,
    ef_memreg, ef_pd, ef_pio, ef_precisetime, ef_request_id, ef_vi, ef_vi_layout_entry,
    ef_vi_nic_type, ef_vi_set, ef_vi_state, ef_vi_stats_field_layout, ef_vi_stats_layout,
    ef_vi_transmit_alt_overhead,
};

use super::card::{self, Inner, Kind, lock};
use super::filter::{self, Filter};
use super::memory;
use super::ops::{self, FIFO_BYTES, of, publish};
use super::vi::{LENGTH_AT, PIO_BYTES, PREFIX, Set, Source, Vi};

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
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
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

unsafe extern "C" fn version() -> *const c_char {
    c"linerate-sim".as_ptr()
}

unsafe extern "C" fn driver_open(dh: *mut Dh) -> c_int {
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
unsafe extern "C" fn driver_close(dh: Dh) -> c_int {
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

unsafe extern "C" fn pd_alloc_by_name(
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
    if let Some(handle) = lock(&HANDLES).get_mut(&dh) {
        handle.card = Some(card);
    }
    // SAFETY: the caller vouches for the place.
    unsafe {
        pd.write(ef_pd {
            pd_flags: flags,
            pd_resource_id: next(),
            pd_intf_name: std::ptr::null_mut(),
            pd_cluster_name: std::ptr::null_mut(),
            pd_cluster_sock: -1,
            pd_cluster_dh: -1,
            pd_cluster_viset_resource_id: 0,
            pd_cluster_viset_index: 0,
        });
    }
    0
}

unsafe extern "C" fn pd_interface_name(_: *mut ef_pd) -> *const c_char {
    std::ptr::null()
}

unsafe extern "C" fn pd_free(_: *mut ef_pd, _: Dh) -> c_int {
    0
}

unsafe extern "C" fn vi_init(
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
unsafe extern "C" fn vi_alloc_from_pd(
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
unsafe extern "C" fn vi_alloc_from_set(
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
unsafe extern "C" fn vi_free(vi: *mut ef_vi, _: Dh) -> c_int {
    // SAFETY: the caller vouches for the VI and uses it no more.
    unsafe { inject::unmake_vi(vi) };
    0
}

unsafe extern "C" fn vi_mtu(vi: *mut ef_vi, _: Dh) -> c_uint {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.card.settings.max_frame
}

unsafe extern "C" fn vi_get_mac(_: *mut ef_vi, _: Dh, mac: *mut c_void) -> c_int {
    // SAFETY: the caller vouches for six bytes.
    unsafe { mac.cast::<[u8; 6]>().write([2, 0, 0, 0, 0, 2]) };
    0
}

unsafe extern "C" fn set_alloc(
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

unsafe extern "C" fn set_free(set: *mut ef_vi_set, _: Dh) -> c_int {
    // SAFETY: the caller vouches for the set.
    lock(&SETS).remove(&unsafe { (*set).vis_res_id });
    0
}

unsafe extern "C" fn memreg_alloc(
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

unsafe extern "C" fn memreg_free(mr: *mut ef_memreg, _: Dh) -> c_int {
    // SAFETY: made by `memreg_alloc`: a boxed slice whose first entry counts the others.
    unsafe {
        let base = (*mr).mr_dma_addrs_base;
        let n = *base as usize + 1;
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(base, n)));
    }
    0
}

/// Installs a filter in `filters`.
///
/// # Safety
///
/// As the C functions.
unsafe fn add_filter(
    filters: &mut Vec<Filter>,
    spec: *const ef_filter_spec,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        let Some(kind) = filter::read(&*spec) else { return -libc::EPROTONOSUPPORT };
        if filters.iter().any(|f| f.kind == kind) {
            return -libc::EEXIST;
        }
        let id = if kind.is_special() { -1 } else { next() as i32 & 0x7fff };
        filters.push(Filter { id, kind });
        let filter_type = (*spec).r#type as i32;
        cookie.write(ef_filter_cookie { filter_id: id, filter_type });
    }
    0
}

/// Removes a filter; of the special kinds only sniffing can be found again.
unsafe fn del_filter(filters: &mut Vec<Filter>, cookie: *mut ef_filter_cookie) -> c_int {
    // SAFETY: the caller vouches for it.
    let id = unsafe { (*cookie).filter_id };
    let at = filters.iter().position(|f| match id {
        -1 => f.kind == filter::FilterKind::Sniff,
        id => f.id == id,
    });
    match at {
        Some(at) => {
            filters.remove(at);
            0
        }
        None => -libc::EINVAL,
    }
}

unsafe extern "C" fn filter_add(
    vi: *mut ef_vi,
    _: Dh,
    spec: *const ef_filter_spec,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for all three.
    unsafe {
        let v = of(vi);
        if let Some(rc) = v.card.refusal("ef_vi_filter_add") {
            return rc;
        }
        add_filter(&mut v.lock().filters, spec, cookie)
    }
}

unsafe extern "C" fn filter_del(vi: *mut ef_vi, _: Dh, cookie: *mut ef_filter_cookie) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe { del_filter(&mut of(vi).lock().filters, cookie) }
}

unsafe extern "C" fn set_filter_add(
    set: *mut ef_vi_set,
    _: Dh,
    spec: *const ef_filter_spec,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for all three.
    unsafe {
        let Some(set) = lock(&SETS).get(&(*set).vis_res_id).cloned() else { return -libc::EINVAL };
        add_filter(&mut lock(&set.filters), spec, cookie)
    }
}

unsafe extern "C" fn set_filter_del(
    set: *mut ef_vi_set,
    _: Dh,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        let Some(set) = lock(&SETS).get(&(*set).vis_res_id).cloned() else { return -libc::EINVAL };
        del_filter(&mut lock(&set.filters), cookie)
    }
}

/// A table that the library lends out for ever.
struct Table<T>(T);
// SAFETY: never written; the pointers in it are to string literals.
unsafe impl<T> Sync for Table<T> {}

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

unsafe extern "C" fn query_layout(
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

unsafe extern "C" fn receive_unbundle(
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

unsafe extern "C" fn old_timestamp(
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

unsafe extern "C" fn old_packet_timestamp(
    vi: *mut ef_vi,
    id: u32,
    ts: *mut timespec,
    flags: *mut c_uint,
) -> c_int {
    // SAFETY: the caller vouches for all of them.
    unsafe { old_timestamp(vi, rxpkt_get(vi, id), ts, flags) }
}

unsafe extern "C" fn rxpkt_get(vi: *mut ef_vi, id: u32) -> *const c_void {
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

unsafe extern "C" fn rxpkt_release(vi: *mut ef_vi, id: u32) {
    // SAFETY: the caller vouches for the VI.
    let v = unsafe { of(vi) };
    if !v.release_packet(id) {
        v.card.violation(format!("packet {id} was released twice"));
    }
}

unsafe extern "C" fn future_peek(vi: *mut ef_vi) -> *const c_void {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.peek().map_or(std::ptr::null(), |at| at.cast())
}

unsafe extern "C" fn future_poll(vi: *mut ef_vi, evs: *mut ef_event, n: c_int) -> c_int {
    // SAFETY: the caller vouches for the VI and room for n events.
    unsafe { ops::eventq_poll(vi, evs, n) }
}

unsafe extern "C" fn transmit_init(
    vi: *mut ef_vi,
    addr: ef_addr,
    len: c_int,
    id: ef_request_id,
) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { ops::queue(vi, Source::Dma { addr, len: len.max(0) as usize }, id, false) }
}

unsafe extern "C" fn transmit_init_undo(vi: *mut ef_vi) {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        of(vi).unqueue();
        publish(vi);
    }
}

unsafe extern "C" fn transmit_unbundle(
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

unsafe extern "C" fn set_push_threshold(_: *mut ef_vi, _: c_uint) {}

unsafe extern "C" fn pio_alloc(pio: *mut ef_pio, dh: Dh, _: *mut ef_pd, _: c_uint, _: Dh) -> c_int {
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

unsafe extern "C" fn pio_free(_: *mut ef_pio, _: Dh) -> c_int {
    0
}

unsafe extern "C" fn pio_link(_: *mut ef_pio, _: Dh, vi: *mut ef_vi, _: Dh) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.lock().pio = vec![0; PIO_BYTES];
    0
}

unsafe extern "C" fn pio_unlink(_: *mut ef_pio, _: Dh, vi: *mut ef_vi, _: Dh) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.lock().pio.clear();
    0
}

unsafe extern "C" fn pio_size(vi: *mut ef_vi) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.lock().pio.len() as c_int
}

unsafe extern "C" fn alt_alloc(vi: *mut ef_vi, _: Dh, n: c_int, _: usize) -> c_int {
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

unsafe extern "C" fn alt_free(_: *mut ef_vi, _: Dh) -> c_int {
    0
}

unsafe extern "C" fn alt_num_ids(vi: *mut ef_vi) -> c_uint {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.alternatives() as c_uint
}

unsafe extern "C" fn alt_overhead(
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

unsafe extern "C" fn eventq_wait(vi: *mut ef_vi, _: Dh, _: c_uint, limit: *const timeval) -> c_int {
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

unsafe extern "C" fn eventq_capacity(vi: *mut ef_vi) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { (*vi).evq_mask as c_int }
}

unsafe extern "C" fn vi_prime(vi: *mut ef_vi, _: Dh, _: c_uint) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe { of(vi) }.prime();
    0
}

/// Before 9.0, where VIs have no operation for it.
unsafe extern "C" fn has_many_events(vi: *const ef_vi, n: c_int) -> c_int {
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

unsafe extern "C" fn capabilities_get(dh: Dh, _: c_int, cap: c_uint, value: *mut c_ulong) -> c_int {
    match card_of(dh).and_then(|card| capability(&card, cap)) {
        Some(v) => {
            // SAFETY: the caller vouches for the place.
            unsafe { value.write(v) };
            0
        }
        None => -libc::EOPNOTSUPP,
    }
}

unsafe extern "C" fn pd_capabilities_get(
    dh: Dh,
    _: *mut ef_pd,
    _: Dh,
    cap: c_uint,
    value: *mut c_ulong,
) -> c_int {
    // SAFETY: as the caller vouches.
    unsafe { capabilities_get(dh, 0, cap, value) }
}

unsafe extern "C" fn capabilities_max() -> c_int {
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

unsafe extern "C" fn stats_layout(vi: *mut ef_vi, layout: *mut *const ef_vi_stats_layout) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        if of(vi).card.kind == Kind::Shared {
            return -libc::EINVAL;
        }
        layout.write((&raw const STATS.0).cast());
    }
    0
}

unsafe extern "C" fn stats_query(vi: *mut ef_vi, _: Dh, data: *mut c_void, _: c_int) -> c_int {
    // SAFETY: the caller vouches for the VI and for 16 bytes.
    unsafe {
        let counters = [0, 0, of(vi).lock().no_descriptor, 0];
        data.cast::<[u32; 4]>().write(counters);
    }
    0
}

unsafe extern "C" fn reinit_txq(vi: *mut ef_vi) -> c_int {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        of(vi).restart_transmit();
        publish(vi);
    }
    0
}

static API: Api = Api {
    vi_version_str: version,
    vi_driver_interface_str: version,
    driver_open,
    driver_close,
    pd_alloc_by_name,
    pd_interface_name,
    pd_free,
    vi_init,
    vi_alloc_from_pd,
    vi_free,
    vi_mtu,
    vi_get_mac,
    vi_set_alloc_from_pd: set_alloc,
    vi_alloc_from_set,
    vi_set_free: set_free,
    memreg_alloc,
    memreg_free,
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
    vi_filter_add: filter_add,
    vi_filter_del: filter_del,
    vi_set_filter_add: set_filter_add,
    vi_set_filter_del: set_filter_del,
    vi_receive_query_layout: query_layout,
    vi_receive_unbundle: receive_unbundle,
    vi_receive_get_timestamp_with_sync_flags: old_timestamp,
    efct_vi_rxpkt_get: rxpkt_get,
    efct_vi_rxpkt_release: rxpkt_release,
    efct_vi_rx_future_peek: future_peek,
    efct_vi_rx_future_poll: future_poll,
    vi_transmit_init: transmit_init,
    vi_transmit_init_undo: transmit_init_undo,
    vi_transmit_unbundle: transmit_unbundle,
    vi_set_tx_push_threshold: set_push_threshold,
    pio_alloc,
    pio_free,
    pio_link_vi: pio_link,
    pio_unlink_vi: pio_unlink,
    vi_get_pio_size: pio_size,
    vi_transmit_alt_alloc: alt_alloc,
    vi_transmit_alt_free: alt_free,
    vi_transmit_alt_num_ids: alt_num_ids,
    vi_transmit_alt_query_overhead: alt_overhead,
    eventq_wait,
    eventq_capacity,
    vi_prime,
    vi_capabilities_get: capabilities_get,
    vi_capabilities_max: capabilities_max,
    vi_stats_query_layout: stats_layout,
    vi_stats_query: stats_query,
    sometimes: Sometimes {
        pd_capabilities_get: Some(pd_capabilities_get),
        vi_reinit_txq_post_error: Some(reinit_txq),
        eventq_has_many_events: Some(has_many_events),
        efct_vi_rxpkt_get_timestamp: Some(old_packet_timestamp),
    },
};
