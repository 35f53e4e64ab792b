//! The rules that every backend obeys, between two network namespaces.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use linerate_common::conformance::{Rig, Wire, run_all};
use linerate_common::packet::UdpTemplate;
use linerate_common::{ClockInfo, Clocked, FlowSpec, SetupError, Steer};
use linerate_lab::{Lab, lab_or_skip};
use linerate_udp::{Options, UdpRx, UdpTx};

const GROUP: &str = "239.78.0.1:5000";

struct Veth {
    lab: Lab,
    /// What the receiver is open for besides the group.
    beside: Vec<FlowSpec>,
}

impl Veth {
    fn template(&self) -> UdpTemplate {
        let (src, dst): (SocketAddr, SocketAddr) =
            ("10.99.0.1:4000".parse().unwrap(), GROUP.parse().unwrap());
        UdpTemplate::new(src, dst).unwrap()
    }
}

impl Rig for Veth {
    type Tx = UdpTx;
    type Rx = UdpRx;

    fn pair(&mut self) -> Result<(UdpTx, UdpRx), SetupError> {
        let tx = self.lab.in_a(|| linerate_udp::open("v0", &Options::default()))?.into_tx();
        let flows = [GROUP.parse().unwrap()].into_iter().chain(self.beside.iter().copied());
        let options = Options::for_flows(flows);
        let rx = self.lab.in_b(|| linerate_udp::open("v1", &options))?.into_rx();
        Ok((tx, rx))
    }

    fn wire(&self) -> Wire {
        // Only what is sent to the group and port arrives.
        Wire { min_len: 42, rewrites_headers: true, quiet: true, ..Wire::default() }
    }

    fn header_len(&self) -> usize {
        self.template().header_len()
    }

    fn write_headers(&self, frame: &mut [u8]) {
        let (headers, payload) = frame.split_at_mut(self.header_len());
        self.template().write_headers(headers, payload).unwrap();
    }

    fn steer<'q>(&self, rx: &'q mut UdpRx) -> Option<&'q mut dyn Steer> {
        Some(rx)
    }

    fn flow(&self) -> FlowSpec {
        GROUP.parse().unwrap()
    }

    fn rx_clock(&self, rx: &UdpRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }
}

fn obeys_the_rules(rig: &mut Veth) {
    let report = run_all(rig);
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[test]
fn one_socket_obeys_the_rules() {
    let lab = lab_or_skip!();
    obeys_the_rules(&mut Veth { lab, beside: Vec::new() });
}

#[test]
fn several_sockets_obey_the_rules() {
    let lab = lab_or_skip!();
    let beside = FlowSpec::parse_list("239.78.1.1:5001+30").unwrap();
    obeys_the_rules(&mut Veth { lab, beside });
}
