//! A card: made, plugged in, driven, and taken away by a test.

mod builder;

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};

use linerate_exanic_sys::ids::port_status;
use linerate_exanic_sys::{Api, exanic_port_stats_t, regs};

use super::clock::Clock;
use super::fault::{Faults, FrameState};
use super::memory::Memory;
use super::receive::{Arriving, RxPath};
use super::registry::{self, Resources};
use super::transmit::Commands;
use super::{PORTS, api};
use crate::Plug;
pub use builder::CardBuilder;

/// Frames taken from a wire before commands are looked at again.
const ARRIVALS_PER_TURN: usize = 64;

/// Locks. Nothing here is left half-changed by a panic of a test's thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The card itself, which lives on while a handle to it is open.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: CString,
    pub(super) memory: Memory,
    pub(super) clock: Clock,
    pub(super) faults: Faults,
    pub(super) ports: [Port; PORTS],
    pub(super) resources: Mutex<Resources>,
    pub(super) has_info_page: bool,
    pub(super) dummy_writes: AtomicU64,
    pub(super) commands_lost: AtomicU64,
    pub(super) bad_commands: AtomicU64,
    thread: OnceLock<Thread>,
    stop: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Port {
    pub(super) plug: Plug,
    pub(super) interface: String,
    rx: Mutex<RxPath>,
    pub(super) commands: Mutex<Commands>,
    pub(super) serving: Mutex<()>,
}

impl Shared {
    pub(super) fn rx(&self, port: usize) -> MutexGuard<'_, RxPath> {
        lock(&self.ports[port].rx)
    }

    pub(super) fn mac(&self, port: usize) -> [u8; 6] {
        let reg = |r| self.memory.registers.get(regs::port(port as u32, r)).to_le_bytes();
        let (oui, nic) = (reg(regs::PORT_MAC_OUI), reg(regs::PORT_MAC_NIC));
        [oui[0], oui[1], oui[2], nic[0], nic[1], nic[2]]
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Shows the clock to software.
    fn tick(&self) {
        let now = self.clock.now();
        self.memory.registers.set(regs::HW_TIME, now as u32);
        self.memory.registers.set(regs::HW_TIME_HI, (now >> 32) as u32);
        if self.has_info_page {
            self.memory.info.hw_time.store(Clock::info_page(now), Relaxed);
        }
    }

    /// What the card does in one turn. True when there was something to do.
    fn turn(&self) -> bool {
        self.tick();
        let mut busy = false;
        for port in 0..PORTS {
            busy |= self.serve_commands(port);
            // A test that holds the port lets something arrive step by step.
            let Ok(mut path) = self.ports[port].rx.try_lock() else { continue };
            for _ in 0..ARRIVALS_PER_TURN {
                let Some(frame) = self.ports[port].plug.recv() else { break };
                self.deliver(port, &mut path, &frame.bytes, frame.state.into());
                busy = true;
            }
        }
        busy
    }
}

/// A simulated card under a name of its own. Dropped, it is gone for new opens; what is open
/// stays usable and sees no more traffic.
#[derive(Debug)]
pub struct Card {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Card {
    /// A card with nothing plugged in.
    #[must_use]
    pub fn new() -> Self {
        CardBuilder::default().build()
    }

    /// Settings first.
    #[must_use]
    pub fn builder() -> CardBuilder {
        CardBuilder::default()
    }

    /// A card with port 0 cabled to port 1.
    #[must_use]
    pub fn cabled() -> Self {
        let (a, b) = Plug::pair();
        Self::builder().plug(0, a).plug(1, b).build()
    }

    /// The function table that reaches every simulated card of this process.
    #[must_use]
    pub fn api() -> &'static Api {
        &api::API
    }

    /// Does it work by itself? Not where that was not asked for, or its thread could not start.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.thread.is_some()
    }

    /// Device name, as in `/dev`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.name.to_str().unwrap_or_default()
    }

    /// Device and port as `linerate-exanic` takes them: `exasim0/1`.
    #[must_use]
    pub fn port_name(&self, port: usize) -> String {
        format!("{}/{port}", self.name())
    }

    /// A port's MAC address.
    #[must_use]
    pub fn mac(&self, port: usize) -> [u8; 6] {
        self.shared.mac(port)
    }

    /// What goes wrong by itself.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Does the work that waits, on this thread, until there is none: commands and arrivals.
    pub fn step(&self) {
        while self.shared.turn() {}
    }

    /// A good frame, without check sequence, arrives on a port; it is in the ring on return.
    pub fn inject(&self, port: usize, frame: &[u8]) {
        self.inject_as(port, frame, FrameState::Good);
    }

    /// A frame arrives in any state.
    pub fn inject_as(&self, port: usize, frame: &[u8], state: FrameState) {
        self.shared.tick();
        let mut path = self.shared.rx(port);
        self.shared.deliver(port, &mut path, frame, state);
    }

    /// The same frame `count` times at once, faster than anybody reads. What would have been
    /// overwritten before it could be read is counted and not really written, so a thousand laps
    /// cost as much as two.
    pub fn flood(&self, port: usize, frame: &[u8], count: u64) {
        let mut path = self.shared.rx(port);
        self.shared.deliver_many(port, &mut path, frame, count);
        self.shared.tick();
    }

    /// A frame that the caller lets arrive step by step. `None` when the port does not take it.
    #[must_use]
    pub fn arriving(&self, port: usize, frame: &[u8], state: FrameState) -> Option<Arriving<'_>> {
        Arriving::new(&self.shared, port, frame, state)
    }

    /// Connects or disconnects the link.
    pub fn set_link(&self, port: usize, up: bool) {
        let bits = port_status::SIGNAL | port_status::LINK;
        self.shared.memory.registers.change(regs::port(port as u32, regs::PORT_STATUS), bits, up);
    }

    /// Takes the interface up or down.
    pub fn set_enabled(&self, port: usize, up: bool) {
        let registers = &self.shared.memory.registers;
        registers.set(regs::port(port as u32, regs::PORT_ENABLED), u32::from(up));
        registers.change(regs::port(port as u32, regs::PORT_STATUS), port_status::ENABLED, up);
    }

    /// Says whether a port's timestamps are ready, as a card without time does.
    pub fn set_time_ready(&self, port: usize, ready: bool) {
        let bits = port_status::RX_TIME_BAD | port_status::TX_TIME_BAD;
        let index = regs::port(port as u32, regs::PORT_STATUS);
        self.shared.memory.registers.change(index, bits, !ready);
    }

    /// Moves a manual clock.
    pub fn set_ticks(&self, ticks: u64) {
        self.shared.clock.set(ticks);
        self.shared.tick();
    }

    /// Adds to a running clock.
    pub fn shift_ticks(&self, ticks: i64) {
        self.shared.clock.offset.fetch_add(ticks, Relaxed);
        self.shared.tick();
    }

    /// The clock in ticks.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.shared.clock.now()
    }

    /// A port's counters.
    #[must_use]
    pub fn counters(&self, port: usize) -> exanic_port_stats_t {
        registry::port_stats(&self.shared, port)
    }

    /// Filter rules in place on a port.
    #[must_use]
    pub fn rules(&self, port: usize) -> usize {
        self.shared.rx(port).rules.count()
    }

    /// Is flow hashing on?
    #[must_use]
    pub fn is_hashing(&self, port: usize) -> bool {
        self.shared.rx(port).rules.hash.is_some()
    }

    /// Is filter buffer `buffer` (from 1) allocated?
    #[must_use]
    pub fn is_allocated(&self, port: usize, buffer: usize) -> bool {
        buffer.checked_sub(1).is_some_and(|filter| self.shared.rx(port).is_allocated(filter))
    }

    /// Owners of the open handle, 0 when the card is closed: must be 0 when all is dropped.
    #[must_use]
    pub fn handle_count(&self) -> i32 {
        registry::handle_count(&self.shared)
    }

    /// Bytes of transmit memory in use on all ports, and feedback slots in use.
    #[must_use]
    pub fn tx_resources_in_use(&self) -> (usize, usize) {
        lock(&self.shared.resources).in_use()
    }

    /// Stores to registers that mean nothing, which is how software pushes earlier stores out.
    #[must_use]
    pub fn dummy_writes(&self) -> u64 {
        self.shared.dummy_writes.load(Relaxed)
    }

    /// Writes to a feedback slot what no chunk asked for, as only a broken card would.
    pub fn feed_back(&self, slot: usize, id: u16) {
        if let Some(word) = self.shared.memory.feedback.0.get(slot) {
            word.store(id, Ordering::Release);
        }
    }

    /// Commands that did not fit the queue, and commands that made no sense: both must stay 0.
    #[must_use]
    pub fn command_errors(&self) -> (u64, u64) {
        let of = |n: &AtomicU64| n.load(Relaxed);
        (of(&self.shared.commands_lost), of(&self.shared.bad_commands))
    }
}

impl Default for Card {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        registry::unplug(&self.shared);
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Its panic, if any, was printed.
            let _ = thread.join();
        }
    }
}
