//! From the loops that move frames to the page.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use linerate::{RxStats, TxStats};

use super::{Exporter, Sheet};
use crate::failure::Failure;
use crate::json::Identity;
use crate::output::Output;

/// How often a loop leaves its counters, and how often they go on the page.
const EVERY: Duration = Duration::from_millis(200);
/// How often where there is no page. Queues are asked all the same: one that is polled and never
/// asked does not learn that its interface is gone, or that it got more queues.
const EVERY_UNSEEN: Duration = Duration::from_secs(1);
/// Turns of a loop between two looks at the clock, where there is no page.
const TURNS: u32 = 256;

/// What one port's queues have counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    rx: Vec<RxStats>,
    tx: Vec<TxStats>,
    /// Losses outside the queues, by name.
    dropped: Vec<(&'static str, u64)>,
}

impl Counters {
    /// Of every receive queue.
    pub(crate) fn rx(&mut self, queues: impl Iterator<Item = RxStats>) {
        self.rx.clear();
        self.rx.extend(queues);
    }

    /// Of the transmit queue.
    pub(crate) fn tx(&mut self, queue: TxStats) {
        self.tx.clear();
        self.tx.push(queue);
    }

    /// Of losses outside the queues, by name.
    pub(crate) fn dropped(&mut self, losses: &[(&'static str, u64)]) {
        self.dropped.clear();
        self.dropped.extend_from_slice(losses);
    }

    fn sheet(&self) -> Sheet<'_> {
        Sheet { rx: &self.rx, tx: &self.tx, dropped: &self.dropped, groups: &[] }
    }
}

/// The counters of a run's ports, for everybody who asks at `--metrics`.
#[derive(Debug)]
pub(crate) struct Feed {
    exporter: Option<Exporter>,
    board: Arc<Mutex<Vec<Counters>>>,
    next: Instant,
}

impl Feed {
    /// For these ports. Without an address nothing is served.
    pub(crate) fn start(
        address: Option<SocketAddr>,
        ports: &[&Identity],
        out: &Output,
    ) -> Result<Self, Failure> {
        let exporter = address.map(|at| Exporter::start(at, ports, out)).transpose()?;
        let board = Arc::new(Mutex::new(vec![Counters::default(); ports.len()]));
        Ok(Self { exporter, board, next: Instant::now() })
    }

    /// For a loop that has counters.
    pub(crate) fn poster(&self) -> Poster {
        let is_seen = self.exporter.is_some();
        Poster { board: Arc::clone(&self.board), is_seen, next: Instant::now(), turns: 0 }
    }

    /// Renews the page when it is time. To be called often.
    pub(crate) fn tick(&mut self) {
        let Some(exporter) = &self.exporter else { return };
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sheets: Vec<_> = board.iter().map(Counters::sheet).collect();
        exporter.put(&sheets);
    }
}

/// Where a loop leaves its counters.
#[derive(Debug)]
pub(crate) struct Poster {
    board: Arc<Mutex<Vec<Counters>>>,
    /// Does anybody read them?
    is_seen: bool,
    /// When the next are wanted.
    next: Instant,
    /// Until the next look at the clock.
    turns: u32,
}

impl Poster {
    /// Are counters wanted now? To be asked each turn: costs a countdown where nobody reads them.
    #[inline]
    pub(crate) fn is_due(&mut self) -> bool {
        if !self.is_seen {
            if self.turns > 0 {
                self.turns -= 1;
                return false;
            }
            self.turns = TURNS;
        }
        Instant::now() >= self.next
    }

    /// The same for a loop that only sends and will not ask again before this time: never, where
    /// nobody reads them.
    #[inline]
    pub(crate) fn is_due_before(&self, wake: Instant) -> bool {
        self.is_seen && {
            let now = Instant::now();
            now >= self.next || wake > now + EVERY
        }
    }

    /// Leaves counters, by port; unless somebody is reading them this very moment.
    pub(crate) fn post(&mut self, write: impl FnOnce(&mut [Counters])) {
        if let Ok(mut board) = self.board.try_lock() {
            write(&mut board);
            let every = if self.is_seen { EVERY } else { EVERY_UNSEEN };
            self.next = Instant::now() + every;
        }
    }
}
