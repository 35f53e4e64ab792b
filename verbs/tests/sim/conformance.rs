//! The traits' rules on two simulated devices under the real libibverbs.

use crate::pair::Pair;
use linerate_common::conformance::{Rig, Wire, run_all};
use linerate_common::pool::{Huge, Pool};
use linerate_common::{BufRx, BufTx, ClockInfo, Clocked, FlowSpec, SetupError, Steer, TxStamps};
use linerate_sim::verbs::StampKind;
use linerate_verbs::{NoBuffer, Options, VerbsRx, VerbsTx};

struct Cards {
    pair: Pair,
    pool: Pool,
    /// Sent frames are stamped.
    stamps: bool,
}

impl Rig for Cards {
    type Tx = VerbsTx;
    type Rx = VerbsRx;

    fn pair(&mut self) -> Result<(VerbsTx, VerbsRx), SetupError> {
        let mut options = Options::default();
        options.rx_slots = 256;
        options.tx_slots = 64;
        options.inline_bytes = 100;
        options.pool = Some(self.pool.clone());
        options.tx_timestamps = self.stamps;
        let (_, tx) = self.pair.open(&self.pair.a, &options).split();
        options.flows = vec![FlowSpec::ALL];
        options.no_buffer = Some(NoBuffer::from_fn(self.pair.b.out_of_buffer_counter()));
        let (rx, _) = self.pair.open(&self.pair.b, &options).split();
        Ok((tx, rx))
    }

    fn wire(&self) -> Wire {
        Wire { quiet: true, ..Wire::default() }
    }

    fn buf_rx<'q>(&self, rx: &'q mut VerbsRx) -> Option<&'q mut dyn BufRx> {
        Some(rx)
    }

    fn buf_tx<'q>(&self, tx: &'q mut VerbsTx) -> Option<&'q mut dyn BufTx> {
        Some(tx)
    }

    fn tx_stamps<'q>(&self, tx: &'q mut VerbsTx) -> Option<&'q mut dyn TxStamps> {
        if self.stamps { Some(tx) } else { None }
    }

    fn steer<'q>(&self, rx: &'q mut VerbsRx) -> Option<&'q mut dyn Steer> {
        Some(rx)
    }

    fn rx_clock(&self, rx: &VerbsRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }

    fn rx_pool(&self, _: &VerbsRx) -> Option<Pool> {
        Some(self.pool.clone())
    }

    fn tx_pool(&self, _: &VerbsTx) -> Option<Pool> {
        Some(self.pool.clone())
    }
}

fn run(pair: Pair, stamps: bool) {
    let pool = Pool::builder().frames(4096).huge(Huge::Never).lock(false).build().unwrap();
    let mut cards = Cards { pair, pool, stamps };
    let report = run_all(&mut cards);
    assert!(report.is_clean(), "{report}");
    println!("{report}");
    assert_eq!((cards.pool.outstanding(), cards.pool.free_frames()), (0, 4096));
    assert_eq!((cards.pair.a.live_objects(), cards.pair.b.live_objects()), (0, 0));
}

#[test]
fn every_rule_holds() {
    run(pair_or_skip!(), false);
}

#[test]
fn every_rule_holds_on_a_card_with_raw_stamps_and_without_flow_tags() {
    let pair = pair_or_skip!(StampKind::Ticks);
    pair.b.faults().refuse_flow_tags();
    run(pair, true);
}

#[test]
fn every_rule_holds_on_basic_completion_queues() {
    let pair = pair_or_skip!(StampKind::None);
    pair.a.faults().refuse_extended_cq();
    pair.b.faults().refuse_extended_cq();
    run(pair, true);
}
