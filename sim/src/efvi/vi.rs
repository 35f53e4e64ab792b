//! One VI: its rings, its event queue, and what the hardware does to them.

mod events;
mod receive;
mod send;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use libc::c_int;
use linerate_efvi_sys as sys;
use linerate_efvi_sys::inject::Indices;
use linerate_efvi_sys::{ef_driver_handle, ef_event};

use super::card::{Discard, Inner, Kind, lock};
use super::filter::Filter;

/// Metadata in front of a frame: the time in ns, the length, and four bytes that mean nothing.
pub(super) const PREFIX: usize = 14;
/// Where in it the length is.
pub(super) const LENGTH_AT: usize = 8;
/// Most packets a shared card keeps for one program.
const PACKETS: usize = 1024;
/// Bytes of the PIO region.
pub(super) const PIO_BYTES: usize = 2048;

/// A virtual interface.
#[derive(Debug)]
pub(super) struct Vi {
    pub(super) card: Arc<Inner>,
    pub(super) dh: ef_driver_handle,
    pub(super) flags: u64,
    pub(super) set: Option<(Arc<Set>, u32)>,
    state: Mutex<ViState>,
    arrived: Condvar,
}

/// A VI set.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) members: AtomicU32,
    pub(super) filters: Mutex<Vec<Filter>>,
}

/// Everything that the program's thread and the hardware both touch.
#[derive(Debug, Default)]
pub(super) struct ViState {
    pub(super) closed: bool,
    pub(super) index: Indices,
    events: VecDeque<Hw>,
    event_slots: usize,
    primed: bool,
    lost: Option<Lost>,
    pub(super) filters: Vec<Filter>,
    pub(super) stampable: Vec<(usize, u64)>,
    pub(super) no_descriptor: u32,
    // Posted buffers.
    rx: Vec<RxSlot>,
    rx_mask: u32,
    rx_door: u32,
    rx_filled: u32,
    merge: Option<Multi>,
    // Packet references.
    packets: HashMap<u32, Packet>,
    next_packet: u32,
    arriving: Option<Hw>,
    // Sending.
    tx: VecDeque<TxEntry>,
    tx_ids: VecDeque<c_int>,
    tx_sizes: VecDeque<u32>,
    tx_mask: u32,
    tx_sent: u32,
    done: VecDeque<Done>,
    pub(super) ctpio: Option<Vec<u8>>,
    pub(super) ctpio_won: bool,
    pub(super) warming: bool,
    pub(super) pio: Vec<u8>,
    alternatives: Vec<Alternative>,
    selected: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct RxSlot {
    addr: u64,
    len: usize,
    id: c_int,
}

/// A frame in the card's own buffers.
#[derive(Debug)]
struct Packet {
    bytes: Box<[u8]>,
    ts_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Overflow,
    Reset,
}

/// An event as the hardware writes it; the library makes an `ef_event` of it when polled.
#[derive(Debug, Clone)]
enum Hw {
    Rx { total: u32, flags: u32, fault: Option<Discard>, at: usize, ts_ns: u64 },
    Multi(Multi),
    NoDescriptor,
    Ref { id: u32, len: u32, filter: u32, fault: Option<Discard> },
    Tx { upto: u32, ctpio: bool },
    TxStamp { ctpio: bool, ts_ns: u64 },
    TxError,
    Alternative(u32),
    Overflow,
    Reset,
    Foreign(ef_event),
}

#[derive(Debug, Clone)]
struct Multi {
    n: u32,
    flags: u32,
    fault: Option<Discard>,
    stamps: Vec<(usize, u64)>,
}

#[derive(Debug)]
struct TxEntry {
    source: Source,
    pushed: bool,
    ctpio: bool,
    alternative: Option<usize>,
}

/// Where a frame to be sent is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Dma { addr: u64, len: usize },
    Pio { offset: usize, len: usize },
}

/// A frame that has left and was not reported yet.
#[derive(Debug, Clone, Copy)]
struct Done {
    ctpio: bool,
    ts_ns: u64,
}

#[derive(Debug, Default)]
struct Alternative {
    going: bool,
    discarding: bool,
    held: VecDeque<Vec<u8>>,
}

impl Vi {
    pub(super) fn new(
        card: Arc<Inner>,
        dh: ef_driver_handle,
        flags: u64,
        (evq, rxq, txq): (u32, u32, u32),
        set: Option<(Arc<Set>, u32)>,
    ) -> Self {
        let state = ViState {
            event_slots: evq as usize,
            rx: vec![RxSlot::default(); rxq as usize],
            rx_mask: rxq.saturating_sub(1),
            tx_mask: txq.saturating_sub(1),
            next_packet: 1,
            ..ViState::default()
        };
        Self { card, dh, flags, set, state: Mutex::new(state), arrived: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ViState> {
        lock(&self.state)
    }

    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of metadata in front of each frame.
    pub(super) fn prefix(&self) -> usize {
        let wanted = sys::EF_VI_RX_TIMESTAMPS | sys::EF_VI_RX_EVENT_MERGE;
        if self.card.kind == Kind::Ring && self.has(wanted) { PREFIX } else { 0 }
    }

    /// Puts an event into the queue and wakes who sleeps on it.
    fn push(&self, s: &mut ViState, event: Hw) {
        if s.lost.is_some() {
            return;
        }
        // References are announced in the shared buffers themselves, not in the event queue.
        let slots = s.events.iter().filter(|e| !matches!(e, Hw::Ref { .. }));
        if s.events.len() >= s.event_slots && slots.count() >= s.event_slots {
            s.lost = Some(Lost::Overflow);
            s.events.push_back(Hw::Overflow);
        } else {
            s.events.push_back(event);
        }
        self.wake(s);
    }

    fn wake(&self, s: &mut ViState) {
        if std::mem::take(&mut s.primed) {
            let one = 1_u64;
            // SAFETY: eight bytes that outlive the call; the handle is open as long as the VI.
            unsafe { libc::write(self.dh, (&raw const one).cast(), 8) };
        }
        self.arrived.notify_all();
    }

    pub(super) fn overflow(&self) {
        let mut s = self.lock();
        s.lost = Some(Lost::Overflow);
        s.events.push_back(Hw::Overflow);
        self.wake(&mut s);
    }

    pub(super) fn reset(&self) {
        let mut s = self.lock();
        s.lost = Some(Lost::Reset);
        s.events.push_back(Hw::Reset);
        self.wake(&mut s);
    }

    pub(super) fn foreign(&self, event: ef_event) {
        self.push(&mut self.lock(), Hw::Foreign(event));
    }

    /// Asks for one wake-up.
    pub(super) fn prime(&self) {
        let mut s = self.lock();
        let mut old = 0_u64;
        // SAFETY: eight bytes to write to; the handle is a non-blocking eventfd.
        unsafe { libc::read(self.dh, (&raw mut old).cast(), 8) };
        s.primed = true;
        if !s.events.is_empty() {
            self.wake(&mut s);
        }
    }

    /// Sleeps until there is an event. `false`: the time ran out.
    pub(super) fn wait(&self, limit: Option<std::time::Duration>) -> bool {
        let s = self.lock();
        let empty = |s: &mut ViState| s.events.is_empty();
        match limit {
            None => drop(self.arrived.wait_while(s, empty)),
            Some(limit) => {
                let waited = self.arrived.wait_timeout_while(s, limit, empty);
                return waited.is_ok_and(|(s, _)| !s.events.is_empty());
            }
        }
        true
    }

    /// Events waiting.
    pub(super) fn waiting(&self) -> usize {
        self.lock().events.len()
    }

    /// `ef_eventq_poll`.
    pub(super) fn poll(&self, out: &mut [ef_event]) -> usize {
        let mut s = self.lock();
        s.stampable.clear();
        let mut n = 0;
        while n < out.len() {
            let Some(event) = s.events.pop_front() else { break };
            if matches!(event, Hw::Overflow) {
                // Found again by every later poll.
                s.events.push_front(Hw::Overflow);
                out[n] = ef_event::new(sys::EF_EVENT_TYPE_OFLOW, 0);
                n += 1;
                break;
            }
            out[n] = self.translate(&mut s, event);
            n += 1;
        }
        s.index.evq_ptr = s.index.evq_ptr.wrapping_add(8 * n as u32);
        n
    }
}

impl ViState {
    pub(super) fn references_out(&self) -> usize {
        let waiting = self.events.iter().filter(|e| matches!(e, Hw::Ref { .. })).count();
        self.packets.len() - waiting - usize::from(self.arriving.is_some())
    }

    pub(super) fn is_reset(&self) -> bool {
        self.lost == Some(Lost::Reset) && self.events.is_empty()
    }
}

impl Set {
    /// Is the frame for member `me`?
    pub(super) fn picks(&self, me: u32, frame: &[u8]) -> bool {
        let n = self.members.load(Ordering::Relaxed).max(1);
        let hash = frame.get(26..38).unwrap_or_default().iter();
        hash.fold(17_u32, |h, b| h.wrapping_mul(31).wrapping_add((*b).into())) % n == me
    }
}
