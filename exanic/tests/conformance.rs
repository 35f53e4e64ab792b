//! The traits' rules, over a simulated card with port 0 cabled to port 1.

use linerate_common::conformance::{Outcome, Rig, Wire, run_all};
use linerate_common::{ClockInfo, Clocked, FlowSpec, SetupError, Steer, TxStamps};
use linerate_exanic::{ExanicRx, ExanicTx, Options, RxBuffer, open_with};
use linerate_sim::exanic::Card;

struct Bench {
    card: Card,
    steered: bool,
}

impl Rig for Bench {
    type Tx = ExanicTx;
    type Rx = ExanicRx;

    fn pair(&mut self) -> Result<(ExanicTx, ExanicRx), SetupError> {
        // A card of its own for each rule: nothing is left over from the one before.
        self.card = Card::cabled();
        let mut options = Options::default();
        options.promiscuous = true;
        if self.steered {
            options.buffer = RxBuffer::Unused;
        } else {
            options.tx_stamps = true;
        }
        let tx = open_with(Card::api(), &self.card.port_name(0), &options)?.tx()?;
        let mut rx = open_with(Card::api(), &self.card.port_name(1), &options)?.rx()?;
        if self.steered {
            rx.add(&self.flow())?;
        }
        Ok((tx, rx))
    }

    fn wire(&self) -> Wire {
        Wire { quiet: true, max_len: Some(9000), in_flight: 8000, ..Wire::default() }
    }

    fn tx_stamps<'q>(&self, tx: &'q mut ExanicTx) -> Option<&'q mut dyn TxStamps> {
        (!self.steered).then_some(tx as &mut dyn TxStamps)
    }

    fn steer<'q>(&self, rx: &'q mut ExanicRx) -> Option<&'q mut dyn Steer> {
        self.steered.then_some(rx as &mut dyn Steer)
    }

    fn flow(&self) -> FlowSpec {
        "ether:0x88b5".parse().expect("a flow")
    }

    fn rx_clock(&self, rx: &ExanicRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }
}

fn run(steered: bool) {
    let mut bench = Bench { card: Card::new(), steered };
    let report = run_all(&mut bench);
    assert!(report.is_clean(), "{report}");
    // What ExaNIC lacks: buffers to keep, and something to sleep on.
    let tried = report.rows.iter().filter(|row| row.outcome == Outcome::Pass).count();
    assert!(tried >= 30, "{report}");
}

#[test]
fn the_default_ring_conforms() {
    run(false);
}

#[test]
fn a_filter_buffer_conforms() {
    run(true);
}
