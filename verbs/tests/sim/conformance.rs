//! The traits' rules on two simulated devices under the real libibverbs.

use crate::pair::Pair;
use linerate_common::conformance::{Rig, Wire, run_all};
use linerate_common::pool::{Huge, Pool};
use linerate_common::{BufRx, BufTx, ClockInfo, Clocked, FlowSpec, SetupError, Steer};
use linerate_verbs::{NoBuffer, Options, VerbsRx, VerbsTx};

struct Cards {
    pair: Pair,
    pool: Pool,
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

#[test]
fn every_rule_holds() {
    let pair = pair_or_skip!();
    let pool = Pool::builder().frames(4096).huge(Huge::Never).lock(false).build().unwrap();
    let mut cards = Cards { pair, pool };
    let report = run_all(&mut cards);
    assert!(report.is_clean(), "{report}");
    println!("{report}");
    assert_eq!(cards.pool.outstanding(), 0);
    assert_eq!((cards.pair.a.live_objects(), cards.pair.b.live_objects()), (0, 0));
}
