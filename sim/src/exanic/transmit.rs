//! A port's transmit side: commands, transmit memory, feedback.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, Release};

use linerate_exanic_sys::ids::port_flags;
use linerate_exanic_sys::regs;
use linerate_exanic_sys::tx::{
    BYTES_PER_COMMAND, FRAME_OFFSET, HEADER_BYTES, NO_FEEDBACK, PADDING_BYTES, TYPE_RAW,
};

use super::TX_BYTES_PER_PORT;
use super::card::{Shared, lock};
use crate::WireState;

/// Commands that a port's queue holds.
const QUEUE: usize = TX_BYTES_PER_PORT / BYTES_PER_COMMAND;
const SHORTEST: usize = 60;

/// Commands that wait: offsets in transmit memory.
#[derive(Debug, Default)]
pub(super) struct Commands(VecDeque<u32>);

impl Shared {
    /// A store to a register, as the card sees it.
    pub(super) fn register_written(&self, index: u32, value: u32) {
        let port =
            (0..self.ports.len()).find(|p| index == regs::port(*p as u32, regs::PORT_TX_COMMAND));
        let Some(port) = port else {
            self.dummy_writes.fetch_add(1, Relaxed);
            return;
        };
        let mut commands = lock(&self.ports[port].commands);
        if commands.0.len() < QUEUE {
            commands.0.push_back(value);
        } else {
            self.commands_lost.fetch_add(1, Relaxed);
        }
        drop(commands);
        self.wake();
    }

    /// Serves what waits on a port. True when there was something.
    pub(super) fn serve_commands(&self, port: usize) -> bool {
        // Two threads must not serve one port at once: frames would change places.
        let _serving = lock(&self.ports[port].serving);
        let mut any = false;
        while !self.faults.tx_stall.load(Relaxed) {
            let Some(&offset) = lock(&self.ports[port].commands).0.front() else { break };
            if !self.send_chunk(port, offset as usize) {
                break;
            }
            lock(&self.ports[port].commands).0.pop_front();
            any = true;
        }
        any
    }

    /// Sends the chunk at `offset`. False: the wire is full.
    fn send_chunk(&self, port: usize, offset: usize) -> bool {
        let fetched = self.memory.tx.read(offset, HEADER_BYTES).and_then(|header| {
            let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
            let (id, slot, len) = (half(0), half(2), usize::from(half(4)));
            let raw = header[6] == TYPE_RAW && offset.is_multiple_of(8) && len > PADDING_BYTES;
            let frame = self.memory.tx.read(offset + FRAME_OFFSET, len.checked_sub(2)?)?;
            raw.then_some((id, slot, frame))
        });
        let Some((id, slot, mut frame)) = fetched else {
            self.bad_commands.fetch_add(1, Relaxed);
            return true;
        };
        let registers = &self.memory.registers;
        let flags = registers.get(regs::port(port as u32, regs::PORT_FLAGS));
        if frame.len() < SHORTEST && flags & port_flags::DISABLE_TX_PADDING == 0 {
            frame.resize(SHORTEST, 0);
        }
        let sent_at = self.clock.now() as u32;
        if !self.ports[port].plug.send(&frame, WireState::Good) {
            return false;
        }
        registers.set(regs::port(port as u32, regs::PORT_TX_LAST_TIME), sent_at);
        self.count(port, regs::STAT_TX, 1);
        if slot & NO_FEEDBACK == 0
            && let Some(word) = self.memory.feedback.0.get(usize::from(slot))
        {
            // Release: whoever sees the feedback may write the chunk again, and sees the
            // counter and the time above.
            word.store(id, Release);
        }
        true
    }
}
