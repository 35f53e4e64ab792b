//! A port's receive side: from the wire into a ring.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard};

use linerate_exanic_sys::ids::{port_flags, port_status};
use linerate_exanic_sys::regs;
use linerate_exanic_sys::rx::{Info, PAYLOAD_BYTES, RING_CHUNKS};

use super::card::Shared;
use super::fault::{Faults, FrameState};
use super::memory::RingMemory;
use super::steer::{Route, Rules};
use super::{FILTER_BUFFERS, MAX_FRAME_BYTES};

/// Bytes on the wire around a frame: preamble, delimiter and gap.
const WIRE_OVERHEAD: u64 = 20;
const FCS_BYTES: usize = 4;

/// One receive side. Whoever holds its lock is the card.
#[derive(Debug)]
pub(super) struct RxPath {
    default: Ring,
    filters: Vec<Option<Ring>>,
    pub(super) rules: Rules,
    /// Frames offered, for faults that come every so often.
    seq: u64,
}

/// A ring and how many chunks the card has ever written to it.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) memory: Arc<RingMemory>,
    pos: u64,
}

impl Ring {
    fn new() -> Self {
        Self { memory: RingMemory::new().into(), pos: 0 }
    }
}

impl RxPath {
    pub(super) fn new() -> Self {
        let filters = (0..FILTER_BUFFERS).map(|_| None).collect();
        Self { default: Ring::new(), filters, rules: Rules::new(), seq: 0 }
    }

    /// Ring 0, or filter buffer `n` from 1, if it is allocated.
    pub(super) fn ring(&self, buffer: usize) -> Option<&Ring> {
        match buffer.checked_sub(1) {
            None => Some(&self.default),
            Some(filter) => self.filters.get(filter)?.as_ref(),
        }
    }

    fn ring_mut(&mut self, route: Route) -> &mut Ring {
        // A route to a buffer that has gone leads nowhere on a card; rules go with their buffer,
        // so it does not happen here.
        match route.buffer.and_then(|n| self.filters.get_mut(n)) {
            Some(Some(ring)) => ring,
            _ => &mut self.default,
        }
    }

    pub(super) fn is_allocated(&self, filter: usize) -> bool {
        self.filters.get(filter).is_some_and(Option::is_some)
    }

    pub(super) fn allocate(&mut self, filter: usize) {
        let ring = &mut self.filters[filter];
        *ring = Some(Ring::new());
    }

    pub(super) fn free(&mut self, filter: usize) {
        self.filters[filter] = None;
        self.rules.forget_buffer(filter);
    }
}

/// A frame as it arrives: check sequence appended, faults applied.
struct Arrival {
    bytes: Vec<u8>,
    state: FrameState,
    route: Route,
    timestamp: u32,
}

impl Arrival {
    /// Bytes and metadata of the chunk at `at`; advance by the bytes.
    fn chunk(&self, at: usize, pos: u64) -> (&[u8], Info) {
        let end = self.bytes.len().min(at + PAYLOAD_BYTES);
        let part = &self.bytes[at..end];
        let last = end == self.bytes.len();
        let status = if last { self.state.status() } else { 0 } | self.route.region << 4;
        let length = if last { part.len() as u8 } else { 0 };
        let generation = (pos / u64::from(RING_CHUNKS)) as u8;
        (part, Info::new(self.timestamp, status, length, self.route.rule, generation))
    }

    fn chunks(&self) -> u64 {
        self.bytes.len().div_ceil(PAYLOAD_BYTES) as u64
    }
}

impl Shared {
    /// Puts a frame on port `port`'s receive side, as the wire would. `path` is the port's.
    pub(super) fn deliver(&self, port: usize, path: &mut RxPath, frame: &[u8], state: FrameState) {
        if let Some(arrival) = self.admit(port, path, frame, state) {
            let ring = path.ring_mut(arrival.route);
            let mut at = 0;
            while at < arrival.bytes.len() {
                let (part, info) = arrival.chunk(at, ring.pos);
                ring.memory.write_payload(ring.pos, part);
                Faults::pause(&self.faults.tear_ns);
                ring.memory.write_info(ring.pos, info);
                ring.pos += 1;
                at += part.len();
                if at < arrival.bytes.len() {
                    Faults::pause(&self.faults.chunk_gap_ns);
                }
            }
        }
    }

    /// `count` times the same frame at once. Only what nobody could have overwritten again is
    /// really written: with nobody reading meanwhile that is the same.
    pub(super) fn deliver_many(&self, port: usize, path: &mut RxPath, frame: &[u8], count: u64) {
        let chunks = ((frame.len() + FCS_BYTES).div_ceil(PAYLOAD_BYTES) as u64).max(1);
        let real = (u64::from(RING_CHUNKS) * 2 / chunks).min(count);
        let skipped = count - real;
        if skipped > 0 {
            let route = path.rules.route(frame);
            path.ring_mut(route).pos += skipped * chunks;
            path.seq += skipped;
            self.count(port, regs::STAT_RX, skipped as u32);
            let ns = self.wire_ns(port, frame.len()).saturating_mul(skipped);
            self.clock.pass(ns);
            // A running clock does not wait for what was skipped.
            let ticks = u128::from(ns) * u128::from(self.clock.hz) / 1_000_000_000;
            self.clock.offset.fetch_add(ticks as i64, Relaxed);
        }
        for _ in 0..real {
            self.deliver(port, path, frame, FrameState::Good);
        }
    }

    fn admit(
        &self,
        port: usize,
        path: &mut RxPath,
        frame: &[u8],
        state: FrameState,
    ) -> Option<Arrival> {
        let registers = &self.memory.registers;
        let reg = |r| registers.get(regs::port(port as u32, r));
        let linked = port_status::ENABLED | port_status::LINK;
        if frame.is_empty()
            || frame.len() > MAX_FRAME_BYTES
            || reg(regs::PORT_STATUS) & linked != linked
        {
            return None;
        }
        path.seq += 1;
        let Some(state) = self.faults.strike(path.seq, state) else {
            self.count(port, regs::STAT_RX_DROPPED, 1);
            return None;
        };
        let for_us = frame[0] & 1 == 1 || frame.get(..6) == Some(&self.mac(port));
        if !for_us && reg(regs::PORT_FLAGS) & port_flags::PROMISCUOUS == 0 {
            self.count(port, regs::STAT_RX_IGNORED, 1);
            return None;
        }
        let mut bytes = frame.to_vec();
        bytes.extend(crc32fast::hash(frame).to_le_bytes());
        match state {
            FrameState::Corrupt => bytes[frame.len()] ^= 0x5a,
            FrameState::Aborted => bytes.truncate((bytes.len() / 2).max(1)),
            FrameState::Good | FrameState::HardwareOverflow => {}
        }
        let good = matches!(state, FrameState::Good);
        self.count(port, if good { regs::STAT_RX } else { regs::STAT_RX_ERROR }, 1);
        self.clock.pass(self.wire_ns(port, frame.len()));
        let route = path.rules.route(frame);
        Some(Arrival { bytes, state, route, timestamp: self.clock.now() as u32 })
    }

    fn wire_ns(&self, port: usize, frame_bytes: usize) -> u64 {
        let mbps = self.memory.registers.get(regs::port(port as u32, regs::PORT_SPEED));
        let bits = (frame_bytes as u64 + FCS_BYTES as u64 + WIRE_OVERHEAD) * 8;
        bits * 1000 / u64::from(mbps.max(1))
    }

    pub(super) fn count(&self, port: usize, stat: u32, n: u32) {
        self.memory.registers.add(regs::port_stat(port as u32, stat), n);
    }
}

/// A frame that a test lets arrive step by step. The port is the test's until this is dropped:
/// nothing else arrives, and other calls for the same port wait. Dropped before its end, the
/// frame stays unfinished, as when a link dies in mid-frame.
#[derive(Debug)]
pub struct Arriving<'a> {
    path: MutexGuard<'a, RxPath>,
    arrival: Arrival,
    at: usize,
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrival").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<'a> Arriving<'a> {
    pub(super) fn new(
        card: &'a Shared,
        port: usize,
        frame: &[u8],
        state: FrameState,
    ) -> Option<Self> {
        let mut path = card.rx(port);
        let arrival = card.admit(port, &mut path, frame, state)?;
        Some(Self { path, arrival, at: 0 })
    }

    /// Chunks that have not arrived yet.
    #[must_use]
    pub fn chunks_left(&self) -> usize {
        self.arrival.chunks() as usize - self.at / PAYLOAD_BYTES
    }

    /// Writes the next chunk's payload and not its metadata: the ring is torn there until
    /// [`chunk`](Self::chunk).
    pub fn payload(&mut self) {
        let ring = self.path.ring_mut(self.arrival.route);
        let (part, _) = self.arrival.chunk(self.at, ring.pos);
        ring.memory.write_payload(ring.pos, part);
    }

    /// Writes the next chunk. `false`: the frame is complete and nothing was written.
    pub fn chunk(&mut self) -> bool {
        if self.at >= self.arrival.bytes.len() {
            return false;
        }
        let ring = self.path.ring_mut(self.arrival.route);
        let (part, info) = self.arrival.chunk(self.at, ring.pos);
        ring.memory.write_payload(ring.pos, part);
        ring.memory.write_info(ring.pos, info);
        ring.pos += 1;
        self.at += PAYLOAD_BYTES;
        true
    }

    /// Writes the rest.
    pub fn finish(mut self) {
        while self.chunk() {}
    }
}
