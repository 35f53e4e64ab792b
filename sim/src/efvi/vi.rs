//! One VI: its rings, its event queue, and what the hardware does to them.

mod events;
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

    /// `ef_vi_receive_init`. `false`: the ring is full.
    pub(super) fn post(&self, addr: u64, len: usize, id: c_int) -> bool {
        let mut s = self.lock();
        if s.index.rx_added.wrapping_sub(s.index.rx_removed) >= s.rx_mask {
            return false;
        }
        let (at, mask) = (s.index.rx_added, s.rx_mask);
        s.rx[(at & mask) as usize] = RxSlot { addr, len, id };
        s.index.rx_added = at.wrapping_add(1);
        true
    }

    /// `ef_vi_receive_push`: full eights only.
    pub(super) fn receive_doorbell(&self) {
        let mut s = self.lock();
        s.rx_door = s.index.rx_added & !7;
    }

    /// `ef_vi_receive_unbundle`.
    pub(super) fn receive_unbundle(&self, event: &ef_event, ids: &mut [c_int]) -> usize {
        let mut s = self.lock();
        let n = (event.rx_multi_n_descs() as usize).min(ids.len());
        for id in &mut ids[..n] {
            let slot = s.rx[(s.index.rx_removed & s.rx_mask) as usize];
            s.index.rx_removed = s.index.rx_removed.wrapping_add(1);
            *id = slot.id;
        }
        n
    }

    /// `efct_vi_rxpkt_get`.
    pub(super) fn packet(&self, id: u32) -> Option<*const u8> {
        self.lock().packets.get(&id).map(|p| p.bytes.as_ptr())
    }

    /// When a frame of `packet` arrived.
    pub(super) fn packet_time(&self, at: *const u8) -> Option<u64> {
        self.lock().packets.values().find(|p| p.bytes.as_ptr() == at).map(|p| p.ts_ns)
    }

    /// `efct_vi_rxpkt_release`. `false`: it is not out.
    pub(super) fn release_packet(&self, id: u32) -> bool {
        self.lock().packets.remove(&id).is_some()
    }

    /// `efct_vi_rx_future_peek`: the frame that comes next, perhaps still arriving.
    pub(super) fn peek(&self) -> Option<*const u8> {
        let s = self.lock();
        let next = match s.events.front() {
            Some(Hw::Ref { id, .. }) => Some(*id),
            Some(_) => None,
            None => match &s.arriving {
                Some(Hw::Ref { id, .. }) => Some(*id),
                _ => None,
            },
        };
        next.and_then(|id| s.packets.get(&id)).map(|p| p.bytes.as_ptr())
    }

    /// `ef_vi_transmit_init` and its kin. `false`: no room.
    pub(super) fn queue(&self, source: Source, id: c_int, ctpio: bool) -> bool {
        let mut s = self.lock();
        let (Source::Dma { len, .. } | Source::Pio { len, .. }) = source;
        if s.warming || s.index.tx_added.wrapping_sub(s.index.tx_removed) >= s.tx_mask {
            return false;
        }
        let size = fifo_bytes(len);
        s.index.ct_added = s.index.ct_added.wrapping_add(size);
        s.tx_sizes.push_back(size);
        s.index.tx_added = s.index.tx_added.wrapping_add(1);
        s.tx_ids.push_back(id);
        let alternative = s.selected;
        s.tx.push_back(TxEntry { source, pushed: false, ctpio, alternative });
        true
    }

    /// `ef_vi_transmit_init_undo`.
    pub(super) fn unqueue(&self) {
        let mut s = self.lock();
        if s.tx.back().is_some_and(|entry| !entry.pushed) {
            s.tx.pop_back();
            s.tx_ids.pop_back();
            let size = s.tx_sizes.pop_back().unwrap_or(0);
            s.index.ct_added = s.index.ct_added.wrapping_sub(size);
            s.index.tx_added = s.index.tx_added.wrapping_sub(1);
        }
    }

    /// `ef_vi_transmit_push`.
    pub(super) fn transmit_doorbell(&self) {
        self.lock().tx.iter_mut().for_each(|entry| entry.pushed = true);
        self.card.ring();
    }

    /// `ef_vi_transmit_unbundle`.
    pub(super) fn transmit_unbundle(&self, event: &ef_event, ids: &mut [c_int]) -> usize {
        let mut s = self.lock();
        let mut n = 0;
        while n < ids.len() && s.index.tx_removed & 0xffff != event.tx_desc_id() {
            let Some(id) = s.tx_ids.pop_front() else { break };
            ids[n] = id;
            n += 1;
            s.index.tx_removed = s.index.tx_removed.wrapping_add(1);
        }
        n
    }

    /// `__ef_vi_reinit_txq_post_error`.
    pub(super) fn restart_transmit(&self) {
        let mut s = self.lock();
        (s.tx, s.tx_ids, s.tx_sizes) = Default::default();
        s.done.clear();
        s.tx_sent = 0;
        let Indices { rx_added, rx_removed, evq_ptr, .. } = s.index;
        s.index = Indices { rx_added, rx_removed, evq_ptr, ..Indices::default() };
    }

    pub(super) fn make_alternatives(&self, n: usize) {
        self.lock().alternatives = (0..n).map(|_| Alternative::default()).collect();
    }

    pub(super) fn alternatives(&self) -> usize {
        self.lock().alternatives.len()
    }

    pub(super) fn select(&self, alt: Option<usize>) -> bool {
        let mut s = self.lock();
        let known = alt.is_none_or(|alt| alt < s.alternatives.len());
        if known {
            s.selected = alt;
        }
        known
    }

    /// Stop, go or discard. `false`: there is no such alternative, or not now.
    pub(super) fn set_alternative(&self, alt: usize, going: bool, discarding: bool) -> bool {
        let mut s = self.lock();
        let busy = s.tx.iter().any(|e| e.alternative == Some(alt));
        let Some(a) = s.alternatives.get_mut(alt) else { return false };
        if !going && !discarding && a.going && (busy || !a.held.is_empty()) {
            return false;
        }
        (a.going, a.discarding) = (going, discarding);
        if discarding {
            a.held.clear();
        }
        drop(s);
        self.card.ring();
        true
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

/// Bytes of the send FIFO that a frame takes: whole lines, with a header.
pub(super) fn fifo_bytes(len: usize) -> u32 {
    (len + 8).next_multiple_of(64) as u32
}
