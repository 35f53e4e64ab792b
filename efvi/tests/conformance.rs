//! The traits' rules on simulated cards of both kinds, in each way they receive and send.

#![allow(clippy::unwrap_used)]

mod bench;

use bench::{Bench, until};
use linerate_common::conformance::{Rig, Wire, run_all};
use linerate_common::pool::Pool;
use linerate_common::{
    BufRx, BufTx, ClockInfo, Clocked, FlowKind, FlowSpec, SetupError, Steer, TxStamps,
};
use linerate_efvi::{EfviRx, EfviTx, Options, SendPath};
use linerate_sim::efvi::Kind;

struct Cards {
    bench: Bench,
    kind: Kind,
    options: Options,
}

impl Rig for Cards {
    type Tx = EfviTx;
    type Rx = EfviRx;

    fn pair(&mut self) -> Result<(EfviTx, EfviRx), SetupError> {
        // What the pair before left on the wire is none of this one's business.
        until(|| self.bench.a.sent() == self.bench.b.received().0);
        let rx = self.bench.rx(&self.options);
        Ok((self.bench.tx(&self.options), rx))
    }

    fn wire(&self) -> Wire {
        // X3 has no counter of frames lost for want of a buffer. A ring of 128 takes 120
        // buffers, and is topped up when it lacks `refill` of them.
        let posted = self.options.rx_ring - 8 - self.options.refill;
        let in_flight = (posted as usize).min(128);
        let names_losses = self.kind == Kind::Ring;
        Wire { quiet: true, names_losses, in_flight, ..Wire::default() }
    }

    fn buf_rx<'q>(&self, rx: &'q mut EfviRx) -> Option<&'q mut dyn BufRx> {
        rx.buf_rx()
    }

    fn buf_tx<'q>(&self, tx: &'q mut EfviTx) -> Option<&'q mut dyn BufTx> {
        Some(tx)
    }

    fn tx_stamps<'q>(&self, tx: &'q mut EfviTx) -> Option<&'q mut dyn TxStamps> {
        self.options.tx_timestamps.then_some(tx)
    }

    fn steer<'q>(&self, rx: &'q mut EfviRx) -> Option<&'q mut dyn Steer> {
        Some(rx)
    }

    fn flow(&self) -> FlowSpec {
        // Another filter that selects the same frames: the bench has one on their ethertype.
        FlowSpec::of(FlowKind::Mac([2, 0, 0, 0, 0, 2]))
    }

    fn rx_clock(&self, rx: &EfviRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }

    fn rx_pool(&self, _: &EfviRx) -> Option<Pool> {
        (self.kind == Kind::Ring).then(|| self.bench.pool.clone())
    }

    fn tx_pool(&self, _: &EfviTx) -> Option<Pool> {
        Some(self.bench.pool.clone())
    }
}

fn every_rule_holds(kind: Kind, change: impl FnOnce(&mut Options)) {
    let bench = Bench::new(kind);
    let mut options = bench.options();
    change(&mut options);
    let mut cards = Cards { bench, kind, options };
    let report = run_all(&mut cards);
    assert!(report.is_clean(), "{report}");
    println!("{report}");
    cards.bench.is_empty();
}

#[test]
fn posted_buffers_and_dma() {
    every_rule_holds(Kind::Ring, |o| o.path = SendPath::Dma);
}

#[test]
fn merged_events_and_ctpio() {
    every_rule_holds(Kind::Ring, |o| o.merge_events = true);
}

#[test]
fn pio_and_send_timestamps() {
    every_rule_holds(Kind::Ring, |o| {
        o.path = SendPath::Pio;
        o.tx_timestamps = true;
    });
}

#[test]
fn small_rings_without_receive_timestamps() {
    every_rule_holds(Kind::Ring, |o| {
        o.rx_ring = 128;
        o.tx_ring = 64;
        o.refill = 8;
        o.rx_timestamps = false;
    });
}

#[test]
fn packet_references() {
    every_rule_holds(Kind::Shared, |_| ());
}

#[test]
fn packet_references_with_send_timestamps() {
    every_rule_holds(Kind::Shared, |o| o.tx_timestamps = true);
}
