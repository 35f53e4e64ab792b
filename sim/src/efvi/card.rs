//! The card, and what it is told to do wrong.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use libc::c_int;
use linerate_efvi_sys::ef_event;

use crate::cable::Plug;

use super::hardware;
use super::vi::Vi;

/// What kind of card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Posted buffers and descriptor rings.
    Ring,
    /// Packet references in shared buffers, CTPIO only.
    Shared,
}

/// What a card can do and how it behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Timestamps both ways.
    pub timestamps: bool,
    /// CTPIO (always there on a shared card).
    pub ctpio: bool,
    /// A region for programmed I/O.
    pub pio: bool,
    /// Transmit alternatives.
    pub alternatives: bool,
    /// Copies of multicast for every queue that wants it; else the first one takes it.
    pub replication: bool,
    /// Does the interface's name belong to a cluster, which has its own filters?
    pub cluster: bool,
    /// Longest frame without check sequence.
    pub max_frame: u32,
    /// Does the card say that its clock is synchronised?
    pub clock_synced: bool,
    /// Frames that one send event stands for.
    pub tx_batch: usize,
    /// Does nothing happen but by [`Card::step`]?
    pub manual: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timestamps: true,
            ctpio: true,
            pio: true,
            alternatives: true,
            replication: true,
            cluster: false,
            max_frame: 1514,
            clock_synced: true,
            tx_batch: 16,
            manual: false,
        }
    }
}

/// Why the card finds a received frame bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// Wrong IP, TCP or UDP checksum.
    Checksum,
    /// Multicast that nobody asked for.
    MulticastMismatch,
    /// Wrong frame check sequence.
    Crc,
    /// Cut off.
    Truncated,
    /// The buffer could not be written.
    Rights,
    /// The event does not fit the ring.
    EventError,
    /// Anything else.
    Other,
    /// Wrong checksum in a tunnel.
    InnerChecksum,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Checksum,
        Self::MulticastMismatch,
        Self::Crc,
        Self::Truncated,
        Self::Rights,
        Self::EventError,
        Self::Other,
        Self::InnerChecksum,
    ];
}

/// A card with one port.
#[derive(Debug)]
pub struct Card {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) settings: Settings,
    pub(super) plug: Plug,
    pub(super) hardware: Mutex<Option<Thread>>,
    pub(super) state: Mutex<State>,
}

/// What the hardware and the faults share.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) vis: Vec<Arc<Vi>>,
    pub(super) stop: bool,
    /// Faults of the next received frames.
    pub(super) discards: VecDeque<Option<Discard>>,
    pub(super) wrong_length: Option<u32>,
    pub(super) hold_completions: bool,
    pub(super) ctpio_loses: bool,
    pub(super) tx_errors: u32,
    /// Shared cards: frames show their first bytes now and the rest at the next step.
    pub(super) slow_tails: bool,
    pub(super) other_traffic: bool,
    pub(super) no_stamps: Option<c_int>,
    pub(super) refusals: HashMap<&'static str, c_int>,
    pub(super) violations: Vec<String>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) unwanted: u64,
}

/// All cards by interface name, as a kernel would know them.
static CARDS: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

pub(super) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked holding it was a test; the card goes on.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The card with this interface.
pub(super) fn find(name: &str) -> Option<Arc<Inner>> {
    lock(&CARDS).iter().filter_map(Weak::upgrade).find(|card| card.name == name)
}

impl Card {
    /// A card that can do everything, on `interface`, at one end of a wire. `None`: there is a
    /// card of that name.
    #[must_use]
    pub fn new(interface: &str, kind: Kind, plug: Plug) -> Option<Self> {
        Self::with(interface, kind, plug, Settings::default())
    }

    /// A card with `settings`.
    #[must_use]
    pub fn with(interface: &str, kind: Kind, plug: Plug, settings: Settings) -> Option<Self> {
        let mut cards = lock(&CARDS);
        cards.retain(|card| card.strong_count() > 0);
        if cards.iter().filter_map(Weak::upgrade).any(|card| card.name == interface) {
            return None;
        }
        let manual = settings.manual;
        let inner = Arc::new(Inner {
            name: interface.into(),
            kind,
            settings,
            plug,
            hardware: Mutex::new(None),
            state: Mutex::default(),
        });
        cards.push(Arc::downgrade(&inner));
        drop(cards);
        let start = || {
            let card = Arc::clone(&inner);
            let work = move || {
                linerate_common::own_threads::give_up_rights();
                hardware::run(&card);
            };
            std::thread::Builder::new().spawn(work).ok()
        };
        let thread = if manual { None } else { start() };
        if let Some(thread) = &thread {
            *lock(&inner.hardware) = Some(thread.thread().clone());
        }
        Some(Self { inner, thread })
    }

    /// Does it work by itself? Not with manual settings, nor where its thread could not start.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.thread.is_some()
    }

    /// Its interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.inner.name
    }

    /// Lets the hardware work until it has nothing more to do.
    pub fn step(&self) {
        while hardware::step(&self.inner) {}
    }

    /// Lets the hardware do one thing: with [`slow_tails`](Self::slow_tails), half of a frame
    /// arrives.
    pub fn arrive(&self) {
        hardware::step(&self.inner);
    }

    /// What the program did that it may not do, since the card was made.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        lock(&self.inner.state).violations.clone()
    }

    /// Packet references that were handed out and not given back.
    #[must_use]
    pub fn references_out(&self) -> usize {
        self.inner.vis().iter().map(|vi| vi.lock().references_out()).sum()
    }

    /// Queues that the card still works for: those whose driver handle is open.
    #[must_use]
    pub fn open_queues(&self) -> usize {
        self.inner.vis().len()
    }

    /// Frames sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        lock(&self.inner.state).sent
    }

    /// Frames received, and those among them that no filter wanted.
    #[must_use]
    pub fn received(&self) -> (u64, u64) {
        let state = lock(&self.inner.state);
        (state.received, state.unwanted)
    }

    /// The `n`-th frame to be received from now (0: the next) is bad.
    pub fn discard(&self, n: usize, reason: Discard) {
        let mut state = lock(&self.inner.state);
        while state.discards.len() <= n {
            state.discards.push_back(None);
        }
        state.discards[n] = Some(reason);
    }

    /// The next frame received is reported with this length instead of its own.
    pub fn wrong_length(&self, bytes: u32) {
        lock(&self.inner.state).wrong_length = Some(bytes);
    }

    /// Every event queue overflows.
    pub fn overflow(&self) {
        self.to_all(Vi::overflow);
    }

    /// The card is reset: every queue is gone.
    pub fn reset(&self) {
        self.to_all(Vi::reset);
    }

    /// Every queue sees an event that libciul would give for reasons of its own.
    pub fn event(&self, event: ef_event) {
        self.to_all(|vi| vi.foreign(event));
    }

    /// While `true`, frames are sent but their completions stay away.
    pub fn hold_completions(&self, hold: bool) {
        lock(&self.inner.state).hold_completions = hold;
        self.inner.ring();
    }

    /// While `true`, CTPIO comes too late every time and the fallback is sent.
    pub fn ctpio_loses(&self, loses: bool) {
        lock(&self.inner.state).ctpio_loses = loses;
    }

    /// The next frame to be sent fails, and with it all that are under way.
    pub fn tx_error(&self) {
        lock(&self.inner.state).tx_errors += 1;
    }

    /// Shared cards: frames arrive slowly. Their first 62 bytes are there one step before the
    /// rest.
    pub fn slow_tails(&self, slow: bool) {
        lock(&self.inner.state).slow_tails = slow;
    }

    /// Shared cards: other programs' frames come along on the shared receive queue.
    pub fn other_traffic(&self, on: bool) {
        lock(&self.inner.state).other_traffic = on;
    }

    /// While `Some`, receive timestamps cannot be had and the library gives this errno.
    pub fn no_stamps(&self, errno: Option<c_int>) {
        lock(&self.inner.state).no_stamps = errno;
    }

    /// The next call of a function of the library fails: `"ef_vi_alloc_from_pd"`, `EBUSY`.
    pub fn refuse(&self, function: &'static str, errno: c_int) {
        lock(&self.inner.state).refusals.insert(function, errno);
    }

    fn to_all(&self, what: impl Fn(&Vi)) {
        self.inner.vis().iter().for_each(|vi| what(vi));
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        lock(&self.inner.state).stop = true;
        self.inner.ring();
        if let Some(thread) = self.thread.take() {
            // A hardware thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// The VIs. The state is locked last and never held while a VI is locked.
    pub(super) fn vis(&self) -> Vec<Arc<Vi>> {
        lock(&self.state).vis.clone()
    }

    /// Wakes the hardware.
    pub(super) fn ring(&self) {
        if let Some(thread) = &*lock(&self.hardware) {
            thread.unpark();
        }
    }

    /// Writes down what the program did wrong.
    pub(super) fn violation(&self, what: impl Into<String>) {
        lock(&self.state).violations.push(what.into());
    }

    /// The errno that the next call of `function` was ordered to fail with, negative.
    pub(super) fn refusal(&self, function: &str) -> Option<c_int> {
        lock(&self.state).refusals.remove(function).map(|errno| -errno)
    }
}

/// How long the hardware sleeps when nothing happens and nobody wakes it.
pub(super) const NAP: Duration = Duration::from_millis(1);
