//! libexanic's functions over simulated cards, messages included.
//!
//! Every function is called with handles of this table, as the C library's are; the safe crate
//! upholds that. Each `SAFETY` line below leans on it.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use linerate_exanic_sys::ids::{function, hardware_name, port_flags, port_status};
use linerate_exanic_sys::rx::{Chunk, Info, RING_CHUNKS};
use linerate_exanic_sys::{
    Api, Hooks, exanic_ip_filter_t, exanic_mac_filter_t, exanic_port_info_t, exanic_port_stats_t,
    exanic_rx_t, exanic_t, exanic_tx_t, regs,
};

use super::card::{Shared, lock};
use super::memory::RingMemory;
use super::registry::{self, card_of};
use super::steer::Hash;
use super::{FILTER_BUFFERS, PORTS};

pub(super) static API: Api = Api {
    acquire_handle,
    release_handle,
    get_last_error,
    check_supported,
    acquire_rx_buffer,
    acquire_unused_filter_buffer,
    release_rx_buffer,
    enable_flow_hashing,
    disable_flow_hashing,
    rx_catchup,
    acquire_tx_buffer,
    release_tx_buffer,
    get_tx_mtu,
    filter_add_ip,
    filter_add_mac,
    filter_remove_ip,
    filter_remove_mac,
    get_num_ports,
    port_rx_usable,
    port_tx_usable,
    port_enabled,
    get_port_status,
    get_port_speed,
    get_mac_addr,
    get_promiscuous_mode,
    get_port_stats,
    get_interface_name,
    find_port_by_interface_name,
    get_all_ports,
    hooks: Hooks { register_write: Some(register_write), set_promiscuous: Some(set_promiscuous) },
};

/// One text for the whole process, as in the library; atomic, so that a race garbles it only.
static LAST_ERROR: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];

fn fail(text: &str) {
    for (to, from) in LAST_ERROR.iter().zip(text.bytes().take(255).chain([0])) {
        to.store(from, Relaxed);
    }
}

/// Copies a string with its terminator, cut to `len`.
///
/// # Safety
///
/// `to` has room for `len` bytes.
unsafe fn put(to: *mut c_char, len: usize, text: &str) {
    let bytes = text.as_bytes();
    let n = bytes.len().min(len.saturating_sub(1));
    if len > 0 {
        // SAFETY: n and its terminator fit into len.
        unsafe {
            to.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), n);
            to.add(n).write(0);
        }
    }
}

unsafe extern "C" fn acquire_handle(name: *const c_char) -> *mut exanic_t {
    // SAFETY: a NUL-terminated string, by the C contract.
    let name = unsafe { CStr::from_ptr(name) };
    if let Some(card) = registry::find(name) {
        return registry::open(&card);
    }
    fail("device open failed: No such file or directory");
    std::ptr::null_mut()
}

unsafe extern "C" fn release_handle(exanic: *mut exanic_t) {
    if !exanic.is_null() {
        // SAFETY: an open handle of this table.
        unsafe { registry::release(exanic) };
    }
}

unsafe extern "C" fn get_last_error() -> *const c_char {
    LAST_ERROR.as_ptr().cast()
}

unsafe extern "C" fn check_supported(exanic: *mut exanic_t) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let (id, fun) =
        (card.memory.registers.get(regs::HW_ID), card.memory.registers.get(regs::FUNCTION_ID));
    if hardware_name(id).is_none() {
        fail(&format!("unknown hardware ID: {id}"));
        return -1;
    }
    if function::name(fun).is_none() { -1 } else { 0 }
}

/// The checks before a reader or sender is made.
fn usable(card: &Shared, port: c_int) -> Option<usize> {
    let number = checked(port)?;
    if card.memory.registers.get(regs::port(number as u32, regs::PORT_ENABLED)) == 0 {
        fail("port is not enabled");
        return None;
    }
    Some(number)
}

fn checked(port: c_int) -> Option<usize> {
    let number = usize::try_from(port).ok().filter(|p| *p < PORTS);
    if number.is_none() {
        fail("invalid port number");
    }
    number
}

/// A reader and what keeps its ring mapped.
#[repr(C)]
struct Reader {
    /// First, so that a pointer to it is one to the whole.
    public: exanic_rx_t,
    _ring: Arc<RingMemory>,
}

/// Allocates a filter buffer unless this process refers to it already.
fn allocate(card: &Shared, port: usize, filter: usize) {
    if lock(&card.resources).refer(port, filter) {
        card.rx(port).allocate(filter);
    }
}

/// # Safety
///
/// `exanic` is an open handle of `card`.
unsafe fn reader(
    card: &Shared,
    exanic: *mut exanic_t,
    port: usize,
    buffer: usize,
) -> *mut exanic_rx_t {
    let Some(ring) = card.rx(port).ring(buffer).map(|ring| Arc::clone(&ring.memory)) else {
        fail("rx mmap failed: Invalid argument");
        return std::ptr::null_mut();
    };
    // SAFETY: integers and pointers, for which zero is a value.
    let mut public: exanic_rx_t = unsafe { std::mem::zeroed() };
    public.exanic = exanic;
    public.port_number = port as c_int;
    public.buffer_number = buffer as c_int;
    public.buffer = ring.as_ptr().cast();
    // SAFETY: an open handle.
    unsafe { registry::retain(exanic) };
    let reader = Box::into_raw(Box::new(Reader { public, _ring: ring })).cast();
    // SAFETY: a reader just made.
    unsafe { rx_catchup(reader) };
    reader
}

unsafe extern "C" fn acquire_rx_buffer(
    exanic: *mut exanic_t,
    port: c_int,
    buffer: c_int,
) -> *mut exanic_rx_t {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = usable(&card, port) else { return std::ptr::null_mut() };
    let buffer = usize::try_from(buffer).unwrap_or(0);
    if buffer > FILTER_BUFFERS {
        fail("EXANICCTL_RX_FILTER_BUFFER_ALLOC_EX failed: Invalid argument");
        return std::ptr::null_mut();
    }
    if buffer > 0 {
        allocate(&card, port, buffer - 1);
    }
    // SAFETY: the same handle.
    unsafe { reader(&card, exanic, port, buffer) }
}

unsafe extern "C" fn acquire_unused_filter_buffer(
    exanic: *mut exanic_t,
    port: c_int,
) -> *mut exanic_rx_t {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = usable(&card, port) else { return std::ptr::null_mut() };
    let Some(filter) = lock(&card.resources).unused(port) else {
        fail("EXANICCTL_RX_FILTER_BUFFER_ALLOC_EX failed: Cannot allocate memory");
        return std::ptr::null_mut();
    };
    allocate(&card, port, filter);
    // SAFETY: the same handle.
    unsafe { reader(&card, exanic, port, filter + 1) }
}

unsafe extern "C" fn release_rx_buffer(rx: *mut exanic_rx_t) {
    if rx.is_null() {
        return;
    }
    // SAFETY: a reader of this table, given up by its owner.
    let reader = unsafe { Box::from_raw(rx.cast::<Reader>()) };
    let exanic = reader.public.exanic;
    // SAFETY: a reader counts as an owner of its handle.
    let card = unsafe { card_of(exanic) };
    let port = reader.public.port_number as usize;
    if let Some(filter) = (reader.public.buffer_number as usize).checked_sub(1) {
        // As the driver: the buffer and its rules go, whoever else in the process reads it.
        lock(&card.resources).forget(port, filter);
        card.rx(port).free(filter);
    }
    // SAFETY: as above.
    unsafe { registry::release(exanic) };
}

unsafe extern "C" fn enable_flow_hashing(
    exanic: *mut exanic_t,
    port: c_int,
    max_buffers: c_int,
    function: c_int,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let buffers = usize::try_from(max_buffers).unwrap_or(0);
    if !buffers.is_power_of_two() {
        fail("max buffers must be a power of 2");
        return -1;
    }
    let Some(port) = usable(&card, port) else { return -1 };
    let buffers = buffers.min(FILTER_BUFFERS);
    for filter in 0..buffers {
        allocate(&card, port, filter);
    }
    // The real one ignores it when the driver refuses the function.
    if (0..3).contains(&function) {
        card.rx(port).rules.hash = Some(Hash { buffers, function });
    }
    buffers as c_int
}

unsafe extern "C" fn disable_flow_hashing(exanic: *mut exanic_t, port: c_int) {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    if let Some(port) = checked(port) {
        card.rx(port).rules.hash = None;
    }
}

/// Moves behind the newest end of a frame, found the plain way: all chunks, newest first.
unsafe extern "C" fn rx_catchup(rx: *mut exanic_rx_t) {
    // SAFETY: a reader of this table, used by one thread; its ring is mapped.
    let rx = unsafe { &mut *rx };
    let info = |index: u32| {
        // SAFETY: below RING_CHUNKS.
        let chunk = unsafe { &*rx.buffer.cast::<Chunk>().add(index as usize) };
        Info(chunk.info.load(std::sync::atomic::Ordering::Acquire))
    };
    let first = info(0).generation();
    let written = (0..RING_CHUNKS).find(|i| info(*i).generation() != first).unwrap_or(RING_CHUNKS);
    let end = (0..RING_CHUNKS)
        .map(|back| (written + RING_CHUNKS - 1 - back) % RING_CHUNKS)
        .find(|index| info(*index).length() != 0)
        .unwrap_or((written + RING_CHUNKS - 1) % RING_CHUNKS);
    let generation = info(end).generation();
    rx.next_chunk = (end + 1) % RING_CHUNKS;
    rx.generation = if rx.next_chunk == 0 { generation.wrapping_add(1) } else { generation };
}

/// A sender.
#[repr(C)]
struct Sender {
    /// First, so that a pointer to it is one to the whole.
    public: exanic_tx_t,
    offsets: Box<[u32]>,
}

unsafe extern "C" fn acquire_tx_buffer(
    exanic: *mut exanic_t,
    port: c_int,
    bytes: usize,
) -> *mut exanic_tx_t {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = usable(&card, port) else { return std::ptr::null_mut() };
    let bytes = if bytes == 0 { registry::PAGE } else { bytes };
    if bytes % registry::PAGE != 0 {
        fail("TX buffer size must be a multiple of page size (4096 bytes)");
        return std::ptr::null_mut();
    }
    let mut books = lock(&card.resources);
    let Some(offset) = books.take_tx(port, bytes) else {
        fail("EXANICCTL_TX_BUFFER_ALLOC failed: Cannot allocate memory");
        return std::ptr::null_mut();
    };
    let Some(slot) = books.take_feedback() else {
        books.give_tx(offset, bytes);
        fail("EXANICCTL_TX_FEEDBACK_ALLOC failed: Cannot allocate memory");
        return std::ptr::null_mut();
    };
    drop(books);
    let queue = 1_usize << (bytes / 512).ilog2();
    let mut offsets = vec![0; queue].into_boxed_slice();
    offsets[0] = bytes as u32;
    card.memory.feedback.0[slot].store(0, Relaxed);
    // SAFETY: integers and pointers, for which zero is a value.
    let mut public: exanic_tx_t = unsafe { std::mem::zeroed() };
    public.exanic = exanic;
    public.port_number = port as c_int;
    public.feedback_slot = slot as c_int;
    public.feedback = std::ptr::from_ref(&card.memory.feedback.0[slot]).cast_mut().cast();
    // SAFETY: within transmit memory, where the books gave it out.
    public.buffer = unsafe { card.memory.tx.as_ptr().add(offset) }.cast();
    public.buffer_offset = offset as u32;
    public.buffer_size = bytes as u32;
    public.rollover_seq = 1;
    public.next_seq = 1;
    public.queue_len = queue as c_int;
    public.feedback_offsets = offsets.as_mut_ptr();
    // SAFETY: an open handle.
    unsafe { registry::retain(exanic) };
    Box::into_raw(Box::new(Sender { public, offsets })).cast()
}

unsafe extern "C" fn release_tx_buffer(tx: *mut exanic_tx_t) {
    if tx.is_null() {
        return;
    }
    // SAFETY: a sender of this table, given up by its owner.
    let sender = unsafe { Box::from_raw(tx.cast::<Sender>()) };
    let exanic = sender.public.exanic;
    // SAFETY: a sender counts as an owner of its handle.
    let card = unsafe { card_of(exanic) };
    let mut books = lock(&card.resources);
    books.give_tx(sender.public.buffer_offset as usize, sender.public.buffer_size as usize);
    books.give_feedback(sender.public.feedback_slot as usize);
    drop(books);
    drop(sender.offsets);
    // SAFETY: as above.
    unsafe { registry::release(exanic) };
}

unsafe extern "C" fn get_tx_mtu(tx: *mut exanic_tx_t) -> usize {
    // SAFETY: a sender of this table.
    let bytes = unsafe { (*tx).buffer_size } as usize;
    bytes / 2 - 522
}

/// The port and filter buffer (from 0) of a reader to steer to.
///
/// # Safety
///
/// `rx` is a reader of this table.
unsafe fn target(rx: *const exanic_rx_t) -> Option<(usize, usize)> {
    // SAFETY: the caller vouches for it.
    let (port, buffer) = unsafe { ((*rx).port_number, (*rx).buffer_number) };
    // Ring 0: refused without a message, as by the library.
    Some((usize::try_from(port).ok()?, usize::try_from(buffer).ok()?.checked_sub(1)?))
}

unsafe extern "C" fn filter_add_ip(
    exanic: *mut exanic_t,
    rx: *const exanic_rx_t,
    filter: *const exanic_ip_filter_t,
) -> c_int {
    // SAFETY: handles of this table and a filter that outlives the call.
    let (card, target, filter) = unsafe { (card_of(exanic), target(rx), *filter) };
    let Some((port, buffer)) = target else { return -1 };
    let mut path = card.rx(port);
    let id = if path.is_allocated(buffer) { path.rules.add_ip(filter, buffer) } else { None };
    id.map_or_else(|| refused("EXANICCTL_RX_FILTER_ADD_IP"), |id| id as c_int)
}

unsafe extern "C" fn filter_add_mac(
    exanic: *mut exanic_t,
    rx: *const exanic_rx_t,
    filter: *const exanic_mac_filter_t,
) -> c_int {
    // SAFETY: as in `filter_add_ip`.
    let (card, target, filter) = unsafe { (card_of(exanic), target(rx), *filter) };
    let Some((port, buffer)) = target else { return -1 };
    let mut path = card.rx(port);
    let id = if path.is_allocated(buffer) { path.rules.add_mac(filter, buffer) } else { None };
    id.map_or_else(|| refused("EXANICCTL_RX_FILTER_ADD_MAC"), |id| id as c_int)
}

fn refused(call: &str) -> c_int {
    fail(&format!("{call} failed: Cannot allocate memory"));
    -1
}

unsafe extern "C" fn filter_remove_ip(exanic: *mut exanic_t, port: c_int, id: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let removed = checked(port)
        .zip(usize::try_from(id).ok())
        .is_some_and(|(port, id)| card.rx(port).rules.remove_ip(id));
    if removed { 0 } else { -1 }
}

unsafe extern "C" fn filter_remove_mac(exanic: *mut exanic_t, port: c_int, id: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let removed = checked(port)
        .zip(usize::try_from(id).ok())
        .is_some_and(|(port, id)| card.rx(port).rules.remove_mac(id));
    if removed { 0 } else { -1 }
}

unsafe extern "C" fn get_num_ports(_exanic: *mut exanic_t) -> c_int {
    PORTS as c_int
}

/// # Safety
///
/// `exanic` is an open handle of this table.
unsafe fn port_register(exanic: *mut exanic_t, port: c_int, reg: u32) -> Option<u32> {
    // SAFETY: the caller vouches for it.
    let card = unsafe { card_of(exanic) };
    Some(card.memory.registers.get(regs::port(checked(port)? as u32, reg)))
}

unsafe extern "C" fn port_rx_usable(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let status = unsafe { port_register(exanic, port, regs::PORT_STATUS) };
    let unusable = port_status::NOT_IMPLEMENTED | port_status::RX_UNSUPPORTED;
    c_int::from(status.is_some_and(|s| s & unusable == 0))
}

unsafe extern "C" fn port_tx_usable(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let status = unsafe { port_register(exanic, port, regs::PORT_STATUS) };
    let unusable = port_status::NOT_IMPLEMENTED | port_status::TX_UNSUPPORTED;
    c_int::from(status.is_some_and(|s| s & unusable == 0))
}

unsafe extern "C" fn port_enabled(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    unsafe { port_register(exanic, port, regs::PORT_ENABLED) }.unwrap_or(0) as c_int
}

unsafe extern "C" fn get_port_status(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    unsafe { port_register(exanic, port, regs::PORT_STATUS) }.unwrap_or(0) as c_int
}

unsafe extern "C" fn get_port_speed(exanic: *mut exanic_t, port: c_int) -> u32 {
    // SAFETY: an open handle of this table.
    unsafe { port_register(exanic, port, regs::PORT_SPEED) }.unwrap_or(u32::MAX)
}

unsafe extern "C" fn get_mac_addr(exanic: *mut exanic_t, port: c_int, mac: *mut u8) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = checked(port) else { return -1 };
    // SAFETY: six bytes, by the C contract.
    unsafe { mac.copy_from_nonoverlapping(card.mac(port).as_ptr(), 6) };
    0
}

unsafe extern "C" fn get_promiscuous_mode(exanic: *mut exanic_t, port: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let flags = unsafe { port_register(exanic, port, regs::PORT_FLAGS) };
    flags.map_or(-1, |f| c_int::from(f & port_flags::PROMISCUOUS != 0))
}

unsafe extern "C" fn set_promiscuous(exanic: *mut exanic_t, port: c_int, on: c_int) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = checked(port) else { return -1 };
    let index = regs::port(port as u32, regs::PORT_FLAGS);
    card.memory.registers.change(index, port_flags::PROMISCUOUS, on != 0);
    0
}

unsafe extern "C" fn get_port_stats(
    exanic: *mut exanic_t,
    port: c_int,
    stats: *mut exanic_port_stats_t,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = checked(port) else { return -1 };
    // SAFETY: room for the struct, by the C contract.
    unsafe { stats.write(registry::port_stats(&card, port)) };
    0
}

unsafe extern "C" fn get_interface_name(
    exanic: *mut exanic_t,
    port: c_int,
    name: *mut c_char,
    len: usize,
) -> c_int {
    // SAFETY: an open handle of this table.
    let card = unsafe { card_of(exanic) };
    let Some(port) = checked(port) else { return -1 };
    let interface = &card.ports[port].interface;
    if interface.is_empty() {
        fail("interface not available");
        return -1;
    }
    // SAFETY: room for len bytes, by the C contract.
    unsafe { put(name, len, interface) };
    0
}

unsafe extern "C" fn find_port_by_interface_name(
    name: *const c_char,
    device: *mut c_char,
    len: usize,
    port: *mut c_int,
) -> c_int {
    // SAFETY: a NUL-terminated string, by the C contract.
    let Some((card, number)) = registry::find_interface(unsafe { CStr::from_ptr(name) }) else {
        fail("not an ExaNIC interface");
        return -1;
    };
    // SAFETY: room for len bytes and for an int, by the C contract.
    unsafe {
        put(device, len, &card.name.to_string_lossy());
        port.write(number as c_int);
    }
    0
}

unsafe extern "C" fn get_all_ports(table: *mut exanic_port_info_t, bytes: usize) -> isize {
    let room = bytes / size_of::<exanic_port_info_t>();
    let cards = registry::cards();
    let ports = cards.iter().flat_map(|card| (0..PORTS).map(move |port| (card, port)));
    let mut n = 0;
    for (card, port) in ports.take(room) {
        // SAFETY: n < room entries, by the C contract.
        unsafe {
            let entry = table.add(n);
            put((&raw mut (*entry).device).cast(), 16, &card.name.to_string_lossy());
            (*entry).port_number = port as c_int;
        }
        n += 1;
    }
    n as isize
}

unsafe extern "C" fn register_write(exanic: *mut exanic_t, index: u32, value: u32) {
    // SAFETY: an open handle of this table, whose card lives as long; no count is taken, as this
    // is on the sender's way.
    unsafe { (*exanic.cast::<registry::Handle>()).card.register_written(index, value) };
}
