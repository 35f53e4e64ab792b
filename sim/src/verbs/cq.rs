//! Completion queues of both kinds.

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use linerate_common::clock::now_ns;
use linerate_ibverbs_sys::{self as sys, ibv_cq_ex, ibv_poll_cq_attr, ibv_wc};

use super::device::{Shared, lock};
use super::faults::StampKind;
use super::qp::QpState;

/// The counter behind raw stamps.
pub(super) const TICK_HZ: u64 = 156_250_000;
pub(super) const TICK_MASK: u64 = (1 << 48) - 1;

/// A completion that waits to be polled.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) wc: ibv_wc,
    pub(super) at_ns: u64,
    pub(super) tag: u32,
    /// Send slots that come back when it is polled.
    pub(super) frees: u32,
    pub(super) qp: Arc<QpState>,
}

/// What the hardware thread sees of a queue.
#[derive(Debug)]
pub(super) struct CqState {
    pub(super) entries: Mutex<VecDeque<Entry>>,
    capacity: usize,
    armed: AtomicBool,
    /// Write end of the completion channel's pipe, -1 without one.
    channel: AtomicI32,
    /// The address libibverbs knows the queue by.
    handle: AtomicU64,
    shared: Arc<Shared>,
}

/// What libibverbs sees: an `ibv_cq_ex` (an `ibv_cq` is its beginning) with our state behind it.
#[repr(C)]
pub(super) struct SimCq {
    base: ibv_cq_ex,
    pub(super) state: Arc<CqState>,
    /// The completion that the readers of the extended kind show.
    current: Option<Entry>,
}

impl SimCq {
    /// A queue of the basic kind; the caller adds the functions of the extended one.
    pub(super) fn create(shared: &Arc<Shared>, entries: u32, channel: i32) -> *mut Self {
        let state = CqState::new(shared, entries as usize, channel);
        // SAFETY: all-zero is a value of this C struct: null pointers and functions.
        let mut base: ibv_cq_ex = unsafe { std::mem::zeroed() };
        base.cqe = entries as c_int;
        let cq = Box::into_raw(Box::new(Self { base, state: Arc::clone(&state), current: None }));
        state.handle.store(cq as u64, Ordering::Release);
        shared.count(1);
        cq
    }

    /// Turns it into the extended kind with the readers that `wc_flags` asks for.
    pub(super) fn extend(&mut self, wc_flags: u64) {
        let wants = |flag| wc_flags & flag != 0;
        self.base.start_poll = Some(start_poll);
        self.base.next_poll = Some(next_poll);
        self.base.end_poll = Some(end_poll);
        self.base.read_opcode = Some(read_opcode);
        self.base.read_vendor_err = Some(read_vendor_err);
        self.base.read_wc_flags = Some(read_wc_flags);
        self.base.read_byte_len = wants(sys::IBV_WC_EX_WITH_BYTE_LEN).then_some(read_byte_len as _);
        self.base.read_qp_num = wants(sys::IBV_WC_EX_WITH_QP_NUM).then_some(read_qp_num as _);
        self.base.read_flow_tag = wants(sys::IBV_WC_EX_WITH_FLOW_TAG).then_some(read_tag as _);
        self.base.read_completion_ts =
            wants(sys::IBV_WC_EX_WITH_COMPLETION_TIMESTAMP).then_some(read_ticks as _);
        self.base.read_completion_wallclock_ns =
            wants(sys::IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK).then_some(read_wall as _);
    }

    /// # Safety
    ///
    /// `cq` came from [`create`](Self::create) and is not used after.
    pub(super) unsafe fn destroy(cq: *mut Self) {
        // SAFETY: the caller's promise.
        let cq = unsafe { Box::from_raw(cq) };
        cq.state.shared.count(-1);
    }
}

impl CqState {
    fn new(shared: &Arc<Shared>, capacity: usize, channel: i32) -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            capacity,
            armed: AtomicBool::new(false),
            channel: AtomicI32::new(channel),
            handle: AtomicU64::new(0),
            shared: Arc::clone(shared),
        })
    }

    /// A stand-in where a queue has none: nothing is ever completed there.
    pub(super) fn detached(shared: &Arc<Shared>) -> Arc<Self> {
        Self::new(shared, 0, -1)
    }

    /// Takes back the asynchronous events about it.
    pub(super) fn forget_events(&self) {
        self.shared.forget_events(self.handle.load(Ordering::Acquire));
    }

    /// Adds a completion; wakes whoever armed the queue. A full queue is broken, as a card's is.
    pub(super) fn push(&self, entry: Entry) {
        let mut entries = lock(&self.entries);
        if entries.len() >= self.capacity {
            drop(entries);
            self.shared.event(self.handle.load(Ordering::Acquire), sys::IBV_EVENT_CQ_ERR);
            return;
        }
        entries.push_back(entry);
        drop(entries);
        if self.armed.swap(false, Ordering::AcqRel) {
            self.notify();
        }
    }

    /// The next completion raises one event, also if it is there already: programs must poll
    /// after arming, and the simulation does not forgive those that do not.
    pub(super) fn arm(&self) -> c_int {
        self.armed.store(true, Ordering::Release);
        0
    }

    fn notify(&self) {
        let fd = self.channel.load(Ordering::Acquire);
        let record = self.handle.load(Ordering::Acquire).to_ne_bytes();
        if fd >= 0 {
            // SAFETY: the channel outlives the queue; libibverbs refuses to destroy it earlier.
            unsafe { libc::write(fd, record.as_ptr().cast(), record.len()) };
        }
    }

    fn pop(&self) -> Option<Entry> {
        let entry = lock(&self.entries).pop_front()?;
        entry.qp.give_back(entry.frees);
        Some(entry)
    }

    /// Forgets the completions of a queue pair that is reset or destroyed.
    pub(super) fn forget(&self, qp_num: u32) {
        lock(&self.entries).retain(|entry| entry.wc.qp_num != qp_num);
    }

    pub(super) fn poll(&self, out: &mut [ibv_wc]) -> c_int {
        let mut n = 0;
        for wc in out {
            let Some(entry) = self.pop() else { break };
            *wc =
                if entry.wc.status == sys::IBV_WC_SUCCESS { entry.wc } else { garbled(&entry.wc) };
            n += 1;
        }
        n
    }
}

/// Fields that are not valid after an error hold nonsense, so that nobody comes to rely on them.
fn garbled(wc: &ibv_wc) -> ibv_wc {
    ibv_wc { byte_len: 0xdead_beef, opcode: 0x7f, wc_flags: u32::MAX, ..*wc }
}

/// `ns` as the device's counter shows it.
pub(super) fn ticks(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(TICK_HZ) / 1_000_000_000) as u64 & TICK_MASK
}

unsafe extern "C" fn start_poll(cq: *mut ibv_cq_ex, _: *mut ibv_poll_cq_attr) -> c_int {
    // SAFETY: libibverbs hands back a queue that `SimCq::create` made; one thread polls.
    let cq = unsafe { &mut *cq.cast::<SimCq>() };
    let busy = &cq.state.shared.faults.busy_polls;
    if busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).is_ok() {
        return libc::EBUSY;
    }
    advance(cq)
}

unsafe extern "C" fn next_poll(cq: *mut ibv_cq_ex) -> c_int {
    // SAFETY: as in `start_poll`.
    advance(unsafe { &mut *cq.cast::<SimCq>() })
}

fn advance(cq: &mut SimCq) -> c_int {
    cq.current = cq.state.pop();
    let Some(entry) = &cq.current else { return libc::ENOENT };
    cq.base.wr_id = entry.wc.wr_id;
    cq.base.status = entry.wc.status;
    0
}

unsafe extern "C" fn end_poll(cq: *mut ibv_cq_ex) {
    // SAFETY: as in `start_poll`.
    unsafe { (*cq.cast::<SimCq>()).current = None };
}

/// The completion on show.
///
/// # Safety
///
/// `cq` is one of ours.
unsafe fn shown<T>(cq: *mut ibv_cq_ex, read: impl FnOnce(&Entry, StampKind) -> T, none: T) -> T {
    // SAFETY: the caller's promise.
    let cq = unsafe { &*cq.cast::<SimCq>() };
    let stamps = cq.state.shared.stamps;
    cq.current.as_ref().map_or(none, |entry| read(entry, stamps))
}

unsafe extern "C" fn read_opcode(cq: *mut ibv_cq_ex) -> c_uint {
    // SAFETY: libibverbs hands back a queue of ours.
    unsafe { shown(cq, |e, _| e.wc.opcode, 0) }
}

unsafe extern "C" fn read_vendor_err(cq: *mut ibv_cq_ex) -> u32 {
    // SAFETY: as above.
    unsafe { shown(cq, |e, _| e.wc.vendor_err, 0) }
}

unsafe extern "C" fn read_byte_len(cq: *mut ibv_cq_ex) -> u32 {
    // SAFETY: as above.
    unsafe { shown(cq, |e, _| e.wc.byte_len, 0) }
}

unsafe extern "C" fn read_qp_num(cq: *mut ibv_cq_ex) -> u32 {
    // SAFETY: as above.
    unsafe { shown(cq, |e, _| e.wc.qp_num, 0) }
}

unsafe extern "C" fn read_wc_flags(cq: *mut ibv_cq_ex) -> c_uint {
    // SAFETY: as above.
    unsafe { shown(cq, |e, _| e.wc.wc_flags, 0) }
}

unsafe extern "C" fn read_tag(cq: *mut ibv_cq_ex) -> u32 {
    // SAFETY: as above.
    unsafe { shown(cq, |e, _| e.tag, 0) }
}

unsafe extern "C" fn read_ticks(cq: *mut ibv_cq_ex) -> u64 {
    let read = |e: &Entry, stamps| match stamps {
        StampKind::RealTime => ((e.at_ns / 1_000_000_000) << 32) | (e.at_ns % 1_000_000_000),
        _ => ticks(e.at_ns),
    };
    // SAFETY: as above.
    unsafe { shown(cq, read, 0) }
}

unsafe extern "C" fn read_wall(cq: *mut ibv_cq_ex) -> u64 {
    // SAFETY: as above.
    unsafe { shown(cq, |e, _| e.at_ns, now_ns()) }
}
