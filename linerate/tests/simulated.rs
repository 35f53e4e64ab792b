//! Simulated cards as ports.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use linerate::conformance::{Rig, Wire, run_all};
use linerate::pool::{Huge, Pool};
use linerate::prelude::*;
use linerate::{AnyRx, AnyTx, Backend, ClockInfo, OpenError, Port, PortGuard, SetupError};

/// The port, or the reason why this machine cannot simulate it, printed.
fn open(test: &str, uri: &str) -> Option<Port> {
    match linerate::open(uri) {
        Ok(port) => Some(port),
        Err(OpenError::Setup(e)) if e.op() == "simulate" => {
            linerate_lab::skip(test, &e.to_string());
            None
        }
        Err(e) => panic!("{e}"),
    }
}

fn frame(n: u8) -> [u8; 64] {
    let mut frame = [n; 64];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame
}

fn receive(rx: &mut AnyRx, n: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    let patience = Instant::now() + Duration::from_secs(10);
    while seen.len() < n && Instant::now() < patience {
        rx.poll(64, |frame| seen.push(frame.bytes[20])).unwrap();
    }
    seen
}

fn send(port: &mut Port, numbers: std::ops::Range<u8>) {
    let tx = port.tx.as_mut().unwrap();
    for n in numbers {
        assert!(tx.send(&frame(n)).unwrap());
    }
    tx.kick().unwrap();
}

/// Each card with what makes it show frames that are addressed to nobody.
const CARDS: [(&str, &str); 4] = [
    ("verbs", "mode=steal"),
    ("exanic", "promiscuous=on"),
    ("efvi", "kind=ring"),
    ("efvi", "kind=shared"),
];

#[test]
fn a_cable_joins_two_ports_of_a_name() {
    for (card, options) in CARDS {
        let uri = format!("sim:{card}?cable={card}{options}&{options}");
        let test = "a_cable_joins_two_ports_of_a_name";
        let Some(mut a) = open(test, &uri) else { continue };
        let Some(mut b) = open(test, &uri) else { continue };
        assert_eq!((a.backend(), a.name()), (Backend::Sim, card));
        send(&mut a, 0..20);
        send(&mut b, 100..105);
        assert_eq!(receive(&mut b.rx[0], 20), (0..20).collect::<Vec<_>>(), "{card}");
        assert_eq!(receive(&mut a.rx[0], 5), (100..105).collect::<Vec<_>>(), "{card}");
        assert!(a.rx[0].steer().is_some());
        assert!(a.pool().is_some() || a.rx[0].buf_rx().is_none());
    }
}

#[test]
fn parts_of_a_port_go_on_while_the_guard_is_held() {
    for (card, options) in CARDS {
        let test = "parts_of_a_port_go_on_while_the_guard_is_held";
        let uri = format!("sim:{card}?peer=loop&{options}");
        let Some(port) = open(test, &uri) else { continue };
        let (mut rx, tx, guard) = port.into_parts();
        let mut tx = tx.unwrap();
        assert!(tx.send(&frame(7)).unwrap());
        tx.kick().unwrap();
        assert_eq!(receive(&mut rx[0], 1), [7], "{card}");
        drop(guard);
    }
}

#[test]
fn a_card_reaches_a_real_interface() {
    let lab = linerate_lab::lab_or_skip!();
    for (card, options) in CARDS {
        let test = "a_card_reaches_a_real_interface";
        // One end in the kernel's AF_PACKET, the other a simulated card's cable.
        let uri = format!("sim:{card}?peer=v1&{options}");
        let group: linerate::FlowSpec = "239.1.1.1:5000".parse().unwrap();
        let port = lab.in_b(|| match linerate::port(&uri).flow(group).open() {
            Ok(port) => Some(port),
            Err(OpenError::Setup(e)) if e.op() == "simulate" => {
                linerate_lab::skip(test, &e.to_string());
                None
            }
            Err(e) => panic!("{e}"),
        });
        let Some(mut port) = port else { continue };
        assert_eq!(port.memberships().len(), 1, "joined on the cable's interface");
        lab.in_a(|| {
            let socket = std::net::UdpSocket::bind("10.99.0.1:0").unwrap();
            for n in 0..10 {
                socket.send_to(&[n; 20], "239.1.1.1:5000").unwrap();
                socket.send_to(&[n; 20], "239.1.1.1:5001").unwrap();
            }
        });
        let mut payloads = Vec::new();
        let patience = Instant::now() + Duration::from_secs(10);
        while payloads.len() < 10 && Instant::now() < patience {
            port.rx[0].poll(64, |frame| payloads.push(frame.bytes[42])).unwrap();
        }
        assert_eq!(payloads, (0..10).collect::<Vec<_>>(), "{card}: only the flow asked for");
    }
}

#[test]
fn wrong_cards_and_wires_are_refused() {
    for (uri, part) in [
        ("sim:verb", "did you mean \"verbs\"?"),
        ("sim:verbs?peer=loop&cable=y", "exclude each other"),
        ("sim:verbs?per=loop", "did you mean \"peer\"?"),
    ] {
        let e = linerate::open(uri).unwrap_err().to_string();
        assert!(e.contains(part), "{e}");
    }
}

/// Two cards on a cable; their hardware lives until the next pair is opened.
struct Cards {
    pool: Pool,
    guards: Vec<PortGuard>,
}

impl Rig for Cards {
    type Tx = AnyTx;
    type Rx = AnyRx;

    fn pair(&mut self) -> Result<(AnyTx, AnyRx), SetupError> {
        let open = || {
            let name = "sim:verbs?cable=rig&mode=steal&rx_slots=256&tx_slots=64";
            linerate::port(name).pool(&self.pool).open().map_err(|e| match e {
                OpenError::Setup(e) => e,
                other => panic!("{other}"),
            })
        };
        let (_, tx, guard) = open()?.into_parts();
        let (mut rx, _, other) = open()?.into_parts();
        self.guards = vec![guard, other];
        Ok((tx.unwrap(), rx.remove(0)))
    }

    fn wire(&self) -> Wire {
        Wire { quiet: true, ..Wire::default() }
    }

    fn buf_rx<'q>(&self, rx: &'q mut AnyRx) -> Option<&'q mut dyn BufRx> {
        rx.buf_rx()
    }

    fn buf_tx<'q>(&self, tx: &'q mut AnyTx) -> Option<&'q mut dyn BufTx> {
        tx.buf_tx()
    }

    fn steer<'q>(&self, rx: &'q mut AnyRx) -> Option<&'q mut dyn Steer> {
        rx.steer()
    }

    fn rx_clock(&self, rx: &AnyRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }

    fn rx_pool(&self, _: &AnyRx) -> Option<Pool> {
        Some(self.pool.clone())
    }

    fn tx_pool(&self, _: &AnyTx) -> Option<Pool> {
        Some(self.pool.clone())
    }
}

#[test]
fn queues_keep_the_rules_inside_the_enum() {
    let test = "queues_keep_the_rules_inside_the_enum";
    if open(test, "sim:verbs?peer=none").is_none() {
        return;
    }
    let pool = Pool::builder().frames(4096).huge(Huge::Never).lock(false).build().unwrap();
    let mut cards = Cards { pool, guards: Vec::new() };
    let report = run_all(&mut cards);
    assert!(report.is_clean(), "{report}");
    assert_eq!(cards.pool.outstanding(), 0);
}
