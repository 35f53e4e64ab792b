//! The conformance suite of `linerate-common`, over a veth pair.

#![allow(clippy::unwrap_used)]

mod common;

use linerate_afpacket::{PacketRx, PacketTx, Ring};
use linerate_common::conformance::{Rig, Wire, run_all};
use linerate_common::{ClockInfo, Clocked, FlowSpec, SetupError, Steer};
use linerate_lab::{Lab, lab_or_skip};

struct Veth {
    lab: Lab,
    ring: Ring,
}

impl Rig for Veth {
    type Tx = PacketTx;
    type Rx = PacketRx;

    fn pair(&mut self) -> Result<(PacketTx, PacketRx), SetupError> {
        Ok((common::tx(&self.lab), common::rx(&self.lab, &common::options(self.ring))))
    }

    fn wire(&self) -> Wire {
        // Nobody else sends this ethertype; what goes beyond the MTU must have a VLAN tag.
        Wire { min_len: 14, max_len: Some(1514), quiet: true, ..Wire::default() }
    }

    fn steer<'q>(&self, rx: &'q mut PacketRx) -> Option<&'q mut dyn Steer> {
        Some(rx)
    }

    fn flow(&self) -> FlowSpec {
        "ether:0x88b5".parse().unwrap()
    }

    fn rx_clock(&self, rx: &PacketRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }
}

#[test]
fn blocks_obey_the_rules_over_veth() {
    let lab = lab_or_skip!();
    let report = run_all(&mut Veth { lab, ring: common::RINGS[0] });
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[test]
fn frames_obey_the_rules_over_veth() {
    let lab = lab_or_skip!();
    let report = run_all(&mut Veth { lab, ring: common::RINGS[1] });
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}
