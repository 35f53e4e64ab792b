//! What the hardware does to a VI: frames to the wire and off it, and the events about them.

use linerate_common::clock::now_ns;
use linerate_efvi_sys as sys;

use super::{Done, Hw, Multi, PACKETS, PREFIX, Packet, Source, Vi, ViState};
use crate::efvi::card::{Discard, Kind, lock};
use crate::efvi::memory;

impl Vi {
    /// Sends what was pushed. `true`: something happened.
    pub(in crate::efvi) fn transmit(&self, hold: bool, mut error: impl FnMut() -> bool) -> bool {
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
    pub(in crate::efvi) fn receive(
        &self,
        bytes: &[u8],
        filter: u32,
        fault: Option<Discard>,
        slow: bool,
    ) {
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
    pub(in crate::efvi) fn settle(&self, arrivals: bool) -> bool {
        let mut s = self.lock();
        if s.closed {
            return false;
        }
        let merged = s.merge.is_some();
        self.flush_merge(&mut s);
        merged | (arrivals && self.finish_arrival(&mut s))
    }
}
