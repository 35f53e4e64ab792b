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
    /// For these ports. Without an address nothing is served, and loops leave nothing.
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
        let next = self.exporter.as_ref().map(|_| Instant::now());
        Poster { board: Arc::clone(&self.board), next }
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
    /// When the next are wanted; `None`: never.
    next: Option<Instant>,
}

impl Poster {
    /// Are counters wanted now? Costs nothing where they never are.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.next.is_some_and(|next| Instant::now() >= next)
    }

    /// The same for a loop that will not ask again before this time.
    #[inline]
    pub(crate) fn is_due_before(&self, wake: Instant) -> bool {
        self.next.is_some_and(|next| {
            let now = Instant::now();
            now >= next || wake > now + EVERY
        })
    }

    /// Leaves counters, by port; unless somebody is reading them this very moment.
    pub(crate) fn post(&mut self, write: impl FnOnce(&mut [Counters])) {
        if let Ok(mut board) = self.board.try_lock() {
            write(&mut board);
            self.next = Some(Instant::now() + EVERY);
        }
    }
}
