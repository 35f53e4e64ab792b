//! One VI: its rings, its event queue, and what the hardware does to them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use libc::c_int;
use linerate_common::clock::now_ns;
use linerate_efvi_sys as sys;
use linerate_efvi_sys::inject::Indices;
use linerate_efvi_sys::{ef_driver_handle, ef_event};

use super::card::{Discard, Inner, Kind, lock};
use super::filter::Filter;
use super::memory;

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

    // ---- what the library's functions do

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

    fn translate(&self, s: &mut ViState, event: Hw) -> ef_event {
        match event {
            Hw::Rx { total, flags, fault, at, ts_ns } => {
                let slot = s.rx[(s.index.rx_removed & s.rx_mask) as usize];
                s.index.rx_removed = s.index.rx_removed.wrapping_add(1);
                s.stampable.push((at, ts_ns));
                let kind = match fault {
                    None => sys::EF_EVENT_TYPE_RX,
                    Some(_) => sys::EF_EVENT_TYPE_RX_DISCARD,
                };
                ef_event::new(kind, 0)
                    .with(32, 32, slot.id as u32)
                    .with(64, 16, total)
                    .with(80, 16, flags)
                    .with(96, 16, fault.map_or(0, subtype))
            }
            Hw::Multi(m) => {
                s.stampable.extend(&m.stamps);
                let kind = match m.fault {
                    None => sys::EF_EVENT_TYPE_RX_MULTI,
                    Some(_) => sys::EF_EVENT_TYPE_RX_MULTI_DISCARD,
                };
                ef_event::new(kind, 0).with(32, 16, m.n).with(48, 16, m.flags).with(
                    64,
                    16,
                    m.fault.map_or(0, subtype),
                )
            }
            Hw::NoDescriptor => ef_event::new(sys::EF_EVENT_TYPE_RX_NO_DESC_TRUNC, 0),
            Hw::Ref { id, len, filter, fault } => {
                let kind = match fault {
                    None => sys::EF_EVENT_TYPE_RX_REF,
                    Some(_) => sys::EF_EVENT_TYPE_RX_REF_DISCARD,
                };
                ef_event::new(kind, 0)
                    .with(16, 16, len)
                    .with(32, 32, id)
                    .with(64, 8, 0)
                    .with(72, 16, filter)
                    .with(96, 16, fault.map_or(0, discard_flags))
            }
            Hw::Tx { upto, ctpio } => {
                self.free_fifo(s, upto.wrapping_sub(s.tx_sent));
                s.tx_sent = upto;
                ef_event::new(sys::EF_EVENT_TYPE_TX, 0).with(24, 4, u32::from(ctpio)).with(
                    32,
                    16,
                    upto & 0xffff,
                )
            }
            Hw::TxStamp { ctpio, ts_ns } => {
                self.free_fifo(s, 1);
                s.tx_sent = s.tx_sent.wrapping_add(1);
                s.index.tx_removed = s.index.tx_removed.wrapping_add(1);
                let id = s.tx_ids.pop_front().unwrap_or(-1);
                let synced = 2 * u32::from(self.card.settings.clock_synced) + 1;
                ef_event::new(sys::EF_EVENT_TYPE_TX_WITH_TIMESTAMP, 0)
                    .with(24, 4, u32::from(ctpio))
                    .with(32, 32, id as u32)
                    .with_tx_ts(
                        (ts_ns / 1_000_000_000) as u32,
                        (ts_ns % 1_000_000_000) as u32,
                        synced,
                    )
            }
            Hw::TxError => ef_event::new(sys::EF_EVENT_TYPE_TX_ERROR, 0)
                .with(32, 16, s.index.tx_added & 0xffff)
                .with(64, 16, sys::EF_EVENT_TX_ERROR_BUS),
            Hw::Alternative(alt) => ef_event::new(sys::EF_EVENT_TYPE_TX_ALT, 0).with(32, 16, alt),
            Hw::Overflow => ef_event::new(sys::EF_EVENT_TYPE_OFLOW, 0),
            Hw::Reset => ef_event::new(sys::EF_EVENT_TYPE_RESET, 0),
            Hw::Foreign(event) => event,
        }
    }

    fn free_fifo(&self, s: &mut ViState, frames: u32) {
        for _ in 0..frames {
            let size = s.tx_sizes.pop_front().unwrap_or(0);
            s.index.ct_removed = s.index.ct_removed.wrapping_add(size);
        }
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
        drop(s);
        self.card.ring();
        true
    }

    // ---- what the hardware does

    /// Sends what was pushed. `true`: something happened.
    pub(super) fn transmit(&self, hold: bool, mut error: impl FnMut() -> bool) -> bool {
        let mut worked = false;
        let mut s = self.lock();
        if s.closed || s.lost.is_some() {
            return false;
        }
        while let Some(entry) = s.tx.front().filter(|entry| entry.pushed) {
            let (source, ctpio, alternative) = (entry.source, entry.ctpio, entry.alternative);
            if error() {
                s.tx.clear();
                self.push(&mut s, Hw::TxError);
                return true;
            }
            let Some(bytes) = self.read(&s, source) else {
                s.tx.pop_front();
                continue;
            };
            match alternative.and_then(|alt| s.alternatives.get_mut(alt)) {
                Some(a) if a.discarding => {}
                Some(a) => a.held.push_back(bytes),
                None if self.card.plug.send(&bytes, crate::WireState::Good) => {
                    lock(&self.card.state).sent += 1;
                }
                None => break,
            }
            s.tx.pop_front();
            s.done.push_back(Done { ctpio, ts_ns: now_ns() });
            worked = true;
        }
        worked |= self.send_alternatives(&mut s);
        if !hold && !s.done.is_empty() {
            self.report(&mut s);
            worked = true;
        }
        worked
    }

    fn read(&self, s: &ViState, source: Source) -> Option<Vec<u8>> {
        let mut bytes = match source {
            Source::Pio { offset, len } => s.pio.get(offset..offset + len)?.to_vec(),
            Source::Dma { addr, len } => {
                let Some(at) = memory::translate(self.dh, addr, len) else {
                    self.card.violation(format!("DMA read of {len} B at {addr:#x}: unmapped"));
                    return None;
                };
                // SAFETY: registered, and registrations outlive their driver handle, which is
                // open: `closed` was checked under the lock that closing takes.
                unsafe { std::slice::from_raw_parts(at, len) }.to_vec()
            }
        };
        if bytes.len() < 60 {
            bytes.resize(60, 0);
        }
        Some(bytes)
    }

    fn send_alternatives(&self, s: &mut ViState) -> bool {
        let mut sent = Vec::new();
        for (i, a) in s.alternatives.iter_mut().enumerate() {
            if a.discarding {
                a.held.clear();
            }
            while a.going {
                let Some(bytes) = a.held.front() else { break };
                if !self.card.plug.send(bytes, crate::WireState::Good) {
                    break;
                }
                a.held.pop_front();
                sent.push(i as u32);
            }
        }
        lock(&self.card.state).sent += sent.len() as u64;
        let any = !sent.is_empty();
        sent.into_iter().for_each(|alt| self.push(s, Hw::Alternative(alt)));
        any
    }

    /// Makes events of what has left.
    fn report(&self, s: &mut ViState) {
        let batch = self.card.settings.tx_batch.clamp(1, sys::EF_VI_TRANSMIT_BATCH);
        // What the events still in the queue stand for comes first.
        let mut upto = s.tx_sent;
        for event in &s.events {
            if let Hw::Tx { upto: u, .. } = event {
                upto = *u;
            }
        }
        while let Some(first) = s.done.front().copied() {
            if self.has(sys::EF_VI_TX_TIMESTAMPS) {
                s.done.pop_front();
                self.push(s, Hw::TxStamp { ctpio: first.ctpio, ts_ns: first.ts_ns });
                continue;
            }
            let n = s.done.iter().take(batch).take_while(|d| d.ctpio == first.ctpio).count();
            s.done.drain(..n);
            upto = upto.wrapping_add(n as u32);
            self.push(s, Hw::Tx { upto, ctpio: first.ctpio });
        }
    }

    /// Writes a received frame. `filter`: what selected it.
    pub(super) fn receive(&self, bytes: &[u8], filter: u32, fault: Option<Discard>, slow: bool) {
        let mut s = self.lock();
        if s.closed || s.lost.is_some() {
            return;
        }
        match self.card.kind {
            Kind::Ring => self.receive_posted(&mut s, bytes, fault),
            Kind::Shared => self.receive_shared(&mut s, bytes, filter, fault, slow),
        }
    }

    fn receive_posted(&self, s: &mut ViState, bytes: &[u8], fault: Option<Discard>) {
        let ts_ns = now_ns();
        let mut data = Vec::with_capacity(bytes.len() + PREFIX);
        if self.prefix() > 0 {
            data.extend(ts_ns.to_le_bytes());
            data.extend((bytes.len() as u16).to_le_bytes());
            data.extend([0xee; 4]);
        }
        data.extend_from_slice(bytes);
        let mut done = 0;
        while done < data.len() {
            if s.rx_filled == s.rx_door {
                s.no_descriptor = s.no_descriptor.wrapping_add(1);
                if done > 0 {
                    self.flush_merge(s);
                    self.push(s, Hw::NoDescriptor);
                }
                return;
            }
            let slot = s.rx[(s.rx_filled & s.rx_mask) as usize];
            s.rx_filled = s.rx_filled.wrapping_add(1);
            let n = slot.len.min(data.len() - done);
            let at = memory::translate(self.dh, slot.addr, slot.len);
            match at {
                // SAFETY: registered memory that the program has lent to the card until the
                // event about it; the handle is open, see `read`.
                Some(at) => unsafe {
                    std::ptr::copy_nonoverlapping(data.as_ptr().add(done), at, n);
                },
                None => self.card.violation(format!("receive buffer {:#x}: unmapped", slot.addr)),
            }
            let first = done == 0;
            done += n;
            let at = at.map_or(0, |at| at as usize);
            let mut flags = 0;
            if first {
                flags |= sys::EF_EVENT_FLAG_SOP;
            }
            if done < data.len() {
                flags |= sys::EF_EVENT_FLAG_CONT;
            }
            if bytes.first().is_some_and(|b| b & 1 == 1) {
                flags |= sys::EF_EVENT_FLAG_MULTICAST;
            }
            if self.has(sys::EF_VI_RX_EVENT_MERGE) {
                self.merge(s, flags, fault, first.then_some((at, ts_ns)));
            } else {
                let wrong = lock(&self.card.state).wrong_length.take();
                let total = wrong.unwrap_or(done as u32);
                self.push(s, Hw::Rx { total, flags, fault, at, ts_ns });
            }
        }
    }

    /// Adds a filled buffer to the merged event under way, if its kind allows.
    fn merge(
        &self,
        s: &mut ViState,
        flags: u32,
        fault: Option<Discard>,
        stamp: Option<(usize, u64)>,
    ) {
        const MORE: u32 = sys::EF_EVENT_FLAG_CONT;
        if let Some(m) = &mut s.merge {
            // One kind of fault, and the same "goes on" bit, as the hardware has it.
            let same = m.fault == fault && m.flags & MORE == flags & MORE;
            if same && (m.n as usize) < sys::EF_VI_RECEIVE_BATCH {
                m.n += 1;
                m.stamps.extend(stamp);
                return;
            }
        }
        self.flush_merge(s);
        s.merge = Some(Multi { n: 1, flags, fault, stamps: stamp.into_iter().collect() });
    }

    fn flush_merge(&self, s: &mut ViState) {
        if let Some(m) = s.merge.take() {
            self.push(s, Hw::Multi(m));
        }
    }

    fn receive_shared(
        &self,
        s: &mut ViState,
        bytes: &[u8],
        filter: u32,
        fault: Option<Discard>,
        slow: bool,
    ) {
        self.finish_arrival(s);
        if s.packets.len() >= PACKETS {
            s.no_descriptor = s.no_descriptor.wrapping_add(1);
            return;
        }
        let id = s.next_packet;
        s.next_packet = s.next_packet.wrapping_add(1);
        // Room for the 62 bytes that a future promises, whatever the frame's length.
        let mut copy = bytes.to_vec();
        copy.resize(bytes.len().max(64), 0);
        s.packets.insert(id, Packet { bytes: copy.into(), ts_ns: now_ns() });
        let wrong = lock(&self.card.state).wrong_length.take();
        let event = Hw::Ref { id, len: wrong.unwrap_or(bytes.len() as u32), filter, fault };
        if slow {
            s.arriving = Some(event);
        } else {
            self.push(s, event);
        }
    }

    fn finish_arrival(&self, s: &mut ViState) -> bool {
        match s.arriving.take() {
            Some(event) => {
                self.push(s, event);
                true
            }
            None => false,
        }
    }

    /// Ends what was begun: a merged event, a frame that was still arriving.
    pub(super) fn settle(&self, arrivals: bool) -> bool {
        let mut s = self.lock();
        if s.closed {
            return false;
        }
        let merged = s.merge.is_some();
        self.flush_merge(&mut s);
        merged | (arrivals && self.finish_arrival(&mut s))
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

fn subtype(reason: Discard) -> u32 {
    match reason {
        Discard::Checksum => sys::EF_EVENT_RX_DISCARD_CSUM_BAD,
        Discard::MulticastMismatch => sys::EF_EVENT_RX_DISCARD_MCAST_MISMATCH,
        Discard::Crc => sys::EF_EVENT_RX_DISCARD_CRC_BAD,
        Discard::Truncated => sys::EF_EVENT_RX_DISCARD_TRUNC,
        Discard::Rights => sys::EF_EVENT_RX_DISCARD_RIGHTS,
        Discard::EventError => sys::EF_EVENT_RX_DISCARD_EV_ERROR,
        Discard::Other => sys::EF_EVENT_RX_DISCARD_OTHER,
        Discard::InnerChecksum => sys::EF_EVENT_RX_DISCARD_INNER_CSUM_BAD,
    }
}

fn discard_flags(reason: Discard) -> u32 {
    match reason {
        Discard::Crc => sys::EF_VI_DISCARD_RX_ETH_FCS_ERR,
        Discard::Truncated => sys::EF_VI_DISCARD_RX_ETH_LEN_ERR,
        Discard::Checksum => sys::EF_VI_DISCARD_RX_L4_CSUM_ERR,
        Discard::InnerChecksum => sys::EF_VI_DISCARD_RX_INNER_L4_CSUM_ERR,
        _ => sys::EF_VI_DISCARD_RX_L2_CLASS_OTHER,
    }
}
