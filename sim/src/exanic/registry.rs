//! Which cards there are, and who has what of them: the driver's side.

use std::collections::HashSet;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, Weak};

use linerate_exanic_sys::{exanic_port_stats_t, exanic_t, regs};

use super::card::{Shared, lock};
use super::{FILTER_BUFFERS, PORTS, TX_BYTES_PER_PORT};

/// Transmit memory is given out by the page.
pub(super) const PAGE: usize = 4096;
const PAGES_PER_PORT: usize = TX_BYTES_PER_PORT / PAGE;
const FEEDBACK_SLOTS: usize = 256;

static CARDS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

pub(super) fn plug_in(card: &Arc<Shared>) {
    lock(&CARDS).push(Arc::downgrade(card));
}

pub(super) fn unplug(card: &Arc<Shared>) {
    lock(&CARDS).retain(|c| !std::ptr::eq(c.as_ptr(), Arc::as_ptr(card)));
}

pub(super) fn cards() -> Vec<Arc<Shared>> {
    lock(&CARDS).iter().filter_map(Weak::upgrade).collect()
}

pub(super) fn find(name: &CStr) -> Option<Arc<Shared>> {
    cards().into_iter().find(|card| *card.name == *name)
}

/// The card and port behind an interface.
pub(super) fn find_interface(name: &CStr) -> Option<(Arc<Shared>, usize)> {
    let name = name.to_str().ok().filter(|name| !name.is_empty())?;
    cards().into_iter().find_map(|card| {
        let port = card.ports.iter().position(|port| port.interface == name)?;
        Some((card, port))
    })
}

/// An open handle: what the program sees, and the card behind it.
#[repr(C)]
pub(super) struct Handle {
    /// First, so that a pointer to it is one to the whole.
    pub(super) public: exanic_t,
    pub(super) card: Arc<Shared>,
}

/// The driver's books.
#[derive(Debug)]
pub(super) struct Resources {
    handle: Option<NonNull<Handle>>,
    tx_pages: [bool; PORTS * PAGES_PER_PORT],
    feedback: [bool; FEEDBACK_SLOTS],
    /// Filter buffers this process refers to: a set, not a count, as in the driver.
    references: HashSet<(usize, usize)>,
}

// SAFETY: the pointer is only a name for a handle; whoever uses it holds the books' lock.
unsafe impl Send for Resources {}

impl Default for Resources {
    fn default() -> Self {
        Self {
            handle: None,
            tx_pages: [false; PORTS * PAGES_PER_PORT],
            feedback: [false; FEEDBACK_SLOTS],
            references: HashSet::new(),
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("card", &self.card.name).finish_non_exhaustive()
    }
}

impl Resources {
    pub(super) fn in_use(&self) -> (usize, usize) {
        let count = |used: &[bool]| used.iter().filter(|used| **used).count();
        (count(&self.tx_pages) * PAGE, count(&self.feedback))
    }

    /// Consecutive pages of a port: their offset in transmit memory.
    pub(super) fn take_tx(&mut self, port: usize, bytes: usize) -> Option<usize> {
        let pages = bytes / PAGE;
        let first = port * PAGES_PER_PORT;
        let own = &mut self.tx_pages[first..first + PAGES_PER_PORT];
        let start = own.windows(pages).position(|run| !run.contains(&true))?;
        own[start..start + pages].fill(true);
        Some((first + start) * PAGE)
    }

    pub(super) fn give_tx(&mut self, offset: usize, bytes: usize) {
        self.tx_pages[offset / PAGE..(offset + bytes) / PAGE].fill(false);
    }

    pub(super) fn take_feedback(&mut self) -> Option<usize> {
        let slot = self.feedback.iter().position(|used| !used)?;
        self.feedback[slot] = true;
        Some(slot)
    }

    pub(super) fn give_feedback(&mut self, slot: usize) {
        self.feedback[slot] = false;
    }

    /// One more reference to a filter buffer. True when it is the first and the ring is new.
    pub(super) fn refer(&mut self, port: usize, filter: usize) -> bool {
        self.references.insert((port, filter))
    }

    pub(super) fn forget(&mut self, port: usize, filter: usize) {
        self.references.remove(&(port, filter));
    }

    /// A filter buffer that nobody refers to.
    pub(super) fn unused(&self, port: usize) -> Option<usize> {
        (0..FILTER_BUFFERS).find(|filter| !self.references.contains(&(port, *filter)))
    }
}

/// Opens a card or counts one more owner.
pub(super) fn open(card: &Arc<Shared>) -> *mut exanic_t {
    let mut books = lock(&card.resources);
    if let Some(handle) = books.handle {
        // SAFETY: the books name it, so it is open; their lock is held.
        unsafe { (*handle.as_ptr()).public.ref_count += 1 };
        return handle.as_ptr().cast();
    }
    // SAFETY: integers and pointers, for which zero is a value.
    let mut public: exanic_t = unsafe { std::mem::zeroed() };
    public.ref_count = 1;
    public.registers = card.memory.registers.as_ptr();
    if card.has_info_page {
        public.info_page = std::ptr::from_ref(&*card.memory.info).cast_mut().cast();
    }
    public.tx_feedback_slots = card.memory.feedback.0.as_ptr().cast_mut().cast();
    public.tx_buffer = card.memory.tx.as_ptr().cast();
    public.tx_buffer_size = PORTS * TX_BYTES_PER_PORT;
    public.tick_hz = card.memory.registers.get(regs::CLK_HZ);
    public.caps = card.memory.registers.get(regs::CAPS);
    public.fd = -1;
    for (to, from) in public.name.iter_mut().zip(card.name.as_bytes()) {
        *to = *from as _;
    }
    public.max_filter_buffers = FILTER_BUFFERS as u32;
    public.num_ports = PORTS as u32;
    let handle = NonNull::from(Box::leak(Box::new(Handle { public, card: Arc::clone(card) })));
    books.handle = Some(handle);
    handle.as_ptr().cast()
}

/// One more owner of an open handle.
///
/// # Safety
///
/// The handle is open.
pub(super) unsafe fn retain(exanic: *mut exanic_t) {
    // SAFETY: the caller vouches for it; the books' lock guards the count.
    unsafe {
        let card = Arc::clone(&(*exanic.cast::<Handle>()).card);
        let _books = lock(&card.resources);
        (*exanic).ref_count += 1;
    }
}

/// One owner less; the last closes.
///
/// # Safety
///
/// The handle is open and the caller owns a count of it.
pub(super) unsafe fn release(exanic: *mut exanic_t) {
    // SAFETY: as above. The card outlives the handle by the clone.
    unsafe {
        let card = Arc::clone(&(*exanic.cast::<Handle>()).card);
        let mut books = lock(&card.resources);
        (*exanic).ref_count -= 1;
        if (*exanic).ref_count == 0
            && let Some(handle) = books.handle.take()
        {
            drop(Box::from_raw(handle.as_ptr()));
        }
    }
}

/// The card behind an open handle.
///
/// # Safety
///
/// The handle is open.
pub(super) unsafe fn card_of(exanic: *const exanic_t) -> Arc<Shared> {
    // SAFETY: the caller vouches for it.
    unsafe { Arc::clone(&(*exanic.cast::<Handle>()).card) }
}

pub(super) fn handle_count(card: &Shared) -> i32 {
    let books = lock(&card.resources);
    // SAFETY: the books name it, so it is open, and their lock is held.
    books.handle.map_or(0, |handle| unsafe { (*handle.as_ptr()).public.ref_count })
}

pub(super) fn port_stats(card: &Shared, port: usize) -> exanic_port_stats_t {
    let read = |stat| card.memory.registers.get(regs::port_stat(port as u32, stat));
    exanic_port_stats_t {
        tx_count: read(regs::STAT_TX),
        rx_count: read(regs::STAT_RX),
        rx_ignored_count: read(regs::STAT_RX_IGNORED),
        rx_error_count: read(regs::STAT_RX_ERROR),
        rx_dropped_count: read(regs::STAT_RX_DROPPED),
    }
}
