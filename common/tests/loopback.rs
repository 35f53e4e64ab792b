//! The in-memory pair against the conformance suite, and what is its own.

#![allow(clippy::unwrap_used)] // A test that cannot go on may say so.

use linerate_common::conformance::{Outcome, Rig, Wire, run_all};
use linerate_common::loopback::{self, LoopRx, LoopTx, Options};
use linerate_common::pool::{Huge, Pool};
use linerate_common::{BufRx, BufTx, ClockInfo, Clocked, SetupError, Steer, TxStamps};

struct Cable(Options);

impl Rig for Cable {
    type Tx = LoopTx;
    type Rx = LoopRx;

    fn pair(&mut self) -> Result<(LoopTx, LoopRx), SetupError> {
        loopback::pair(&self.0)
    }

    fn wire(&self) -> Wire {
        Wire { min_len: 14, quiet: true, in_flight: self.0.ring_slots / 2, ..Wire::default() }
    }

    fn buf_rx<'q>(&self, rx: &'q mut LoopRx) -> Option<&'q mut dyn BufRx> {
        Some(rx)
    }

    fn buf_tx<'q>(&self, tx: &'q mut LoopTx) -> Option<&'q mut dyn BufTx> {
        Some(tx)
    }

    fn tx_stamps<'q>(&self, tx: &'q mut LoopTx) -> Option<&'q mut dyn TxStamps> {
        Some(tx)
    }

    fn steer<'q>(&self, rx: &'q mut LoopRx) -> Option<&'q mut dyn Steer> {
        Some(rx)
    }

    fn rx_clock(&self, rx: &LoopRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }

    fn rx_pool(&self, rx: &LoopRx) -> Option<Pool> {
        Some(rx.pool().clone())
    }

    fn tx_pool(&self, tx: &LoopTx) -> Option<Pool> {
        Some(tx.pool().clone())
    }
}

/// Every rule passes; none may be skipped but those named.
fn obeys(options: Options, skipped: &[&str]) {
    let report = run_all(&mut Cable(options));
    assert!(report.is_clean(), "{report}");
    for row in &report.rows {
        let skip = matches!(row.outcome, Outcome::NotSupported(_));
        assert_eq!(skip, skipped.contains(&row.rule), "{report}");
    }
}

#[test]
fn a_pair_obeys_every_rule() {
    obeys(Options::default(), &[]);
}

#[test]
fn so_does_a_lossy_pair_without_stamps_and_with_tiny_rings() {
    let skipped = ["stamps_are_plausible"];
    obeys(Options { lossy: true, stamps: false, ..Options::default() }, &skipped);
    let pool = Pool::builder().frames(1024).huge(Huge::Never).lock(false).build().unwrap();
    obeys(Options { ring_slots: 4, pool: Some(pool), ..Options::default() }, &[]);
}
