//! The conformance suite over a veth pair.

mod rig;

use linerate_afxdp::{Mode, Options, XdpRx, XdpTx, open};
use linerate_common::conformance::{Outcome, Rig, Wire, rules, run_all};
use linerate_common::pool::{Huge, Pool};
use linerate_common::{BufRx, BufTx, ClockInfo, Clocked, FlowSpec, SetupError, Steer, TxStamps};
use linerate_lab::{Lab, lab_or_skip};
use rig::{PATIENCE, all, halves};

/// From `v0` to `v1`, each pair on sockets of its own.
struct Veth {
    lab: Lab,
    sender: Options,
    receiver: Options,
}

impl Rig for Veth {
    type Tx = XdpTx;
    type Rx = XdpRx;

    fn pair(&mut self) -> Result<(XdpTx, XdpRx), SetupError> {
        let a = self.lab.in_a(|| open("v0", &self.sender))?;
        let b = self.lab.in_b(|| open("v1", &self.receiver))?;
        // The other halves go at once: each works without its sibling.
        Ok((halves(a).1, halves(b).0))
    }

    fn wire(&self) -> Wire {
        Wire { patience: PATIENCE, ..Wire::default() }
    }

    fn buf_rx<'q>(&self, rx: &'q mut XdpRx) -> Option<&'q mut dyn BufRx> {
        Some(rx)
    }

    fn buf_tx<'q>(&self, tx: &'q mut XdpTx) -> Option<&'q mut dyn BufTx> {
        Some(tx)
    }

    fn tx_stamps<'q>(&self, tx: &'q mut XdpTx) -> Option<&'q mut dyn TxStamps> {
        self.sender.tx_stamps.then_some(tx as _)
    }

    fn steer<'q>(&self, rx: &'q mut XdpRx) -> Option<&'q mut dyn Steer> {
        Some(rx)
    }

    fn flow(&self) -> FlowSpec {
        FlowSpec::of(linerate_common::FlowKind::EtherType(0x88b5))
    }

    fn rx_clock(&self, rx: &XdpRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }

    fn rx_pool(&self, rx: &XdpRx) -> Option<Pool> {
        Some(rx.pool().clone())
    }

    fn tx_pool(&self, tx: &XdpTx) -> Option<Pool> {
        Some(tx.pool().clone())
    }
}

fn conforms(lab: Lab, sender: Options, receiver: Options) {
    let report = run_all(&mut Veth { lab, sender, receiver });
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[test]
fn native_mode_conforms() {
    let lab = lab_or_skip!();
    conforms(lab, all(), all());
}

#[test]
fn generic_mode_conforms() {
    let lab = lab_or_skip!();
    let mut options = all();
    options.mode = Mode::Generic;
    conforms(lab, options.clone(), options);
}

#[test]
fn steering_conforms_when_nothing_is_delivered_before() {
    let lab = lab_or_skip!();
    let mut veth = Veth { lab, sender: all(), receiver: rig::options() };
    let rules = rules::<Veth>();
    let rule = rules.iter().find(|rule| rule.name == "steer_and_unsteer").unwrap();
    assert_eq!(rule.run(&mut veth), Outcome::Pass);
}

#[test]
fn marks_and_transmit_stamps_on_one_pool_conform() {
    let lab = lab_or_skip!();
    let (mut sender, mut receiver) = (all(), all());
    let pool = Pool::builder().frames(4096).huge(Huge::Never).build().unwrap();
    (sender.pool, receiver.pool) = (Some(pool.clone()), Some(pool));
    sender.tx_stamps = true;
    receiver.marks = true;
    conforms(lab, sender, receiver);
}
