//! Drops a flood, inspects the rest, and hands what is valid to the kernel:
//! `flood_filter IN OUT FLOOD [FLOOD ...]`.
//!
//! ```sh
//! # The kernel's way in behind the filter: what is sent on `clean1` arrives on `clean0`.
//! ip link add clean0 type veth peer name clean1; ip link set clean0 up; ip link set clean1 up
//! flood_filter afxdp:eth2 afxdp:clean1 udp:192.0.2.1:53 udp:192.0.2.1:123
//! ```
//!
//! On AF_XDP the flood is dropped in the driver and costs this program nothing. Any other backend
//! delivers it, and it is dropped here. All of IN is taken from the kernel while this runs.
use std::time::{Duration, Instant};

use linerate::afxdp::{Action, Rule};
use linerate::packet::{Ethernet, IpView};
use linerate::prelude::*;
use linerate::{AnyRx, Direction, FlowSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: flood_filter IN OUT FLOOD [FLOOD ...]";
    let (input, output) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    let flood: Vec<FlowSpec> = args.map(|flow| flow.parse()).collect::<Result<_, _>>()?;

    let mut input = linerate::port(&input).flow(FlowSpec::ALL).direction(Direction::Rx).open()?;
    let mut output = linerate::port(&output).direction(Direction::Tx).open()?;
    for notice in input.notices().iter().chain(output.notices()) {
        eprintln!("note: {notice}");
    }
    let tx = output.tx.as_mut().ok_or("the second port cannot send")?;

    // What the driver cannot drop for us is left to the loop below.
    let mut in_driver = false;
    if let Some(AnyRx::Afxdp(rx)) = input.rx.first_mut() {
        for flow in &flood {
            rx.add_rule(&Rule::drop(*flow))?;
        }
        in_driver = true;
    }

    let mut seen = Counters::default();
    let mut shown = Instant::now();
    while !input.rx.iter().all(AnyRx::finished) {
        for rx in &mut input.rx {
            rx.poll(64, |frame| {
                if !in_driver && flood.iter().any(|flow| flow.matches(frame.bytes)) {
                    seen.flood += 1;
                } else if !is_valid(frame.bytes) {
                    seen.invalid += 1;
                } else if tx.send(frame.bytes).is_ok_and(|room| room) {
                    seen.passed += 1;
                } else {
                    seen.no_room += 1;
                }
            })?;
        }
        tx.kick()?;
        if shown.elapsed() >= Duration::from_secs(1) {
            shown = Instant::now();
            seen.show(&mut input.rx)?;
        }
    }
    seen.show(&mut input.rx)
}

/// What a network should not have to carry: headers cut off, wrong lengths, wrong checksums.
fn is_valid(frame: &[u8]) -> bool {
    let Some(ethernet) = Ethernet::parse(frame) else { return false };
    match (ethernet.ethertype(), ethernet.ip()) {
        (0x0800, Some(IpView::V4(ip))) => {
            ip.checksum_ok() && usize::from(ip.total_len()) <= ethernet.payload().len()
        }
        (0x86dd, Some(IpView::V6(ip))) => {
            usize::from(ip.payload_len()) + 40 <= ethernet.payload().len()
        }
        (0x0800 | 0x86dd, _) => false,
        _ => true, // ARP and the like are for the kernel to judge
    }
}

#[derive(Default)]
struct Counters {
    flood: u64,
    invalid: u64,
    passed: u64,
    no_room: u64,
}

impl Counters {
    fn show(&self, rx: &mut [AnyRx]) -> Result<(), Box<dyn std::error::Error>> {
        let lost: u64 = rx.iter_mut().map(|rx| rx.stats().lost()).sum();
        let Self { flood, invalid, passed, no_room } = self;
        println!(
            "passed {passed}, invalid {invalid}, flood {flood}, no room {no_room}, lost {lost}"
        );
        if let Some(AnyRx::Afxdp(rx)) = rx.first() {
            for rule in rx.rules()?.iter().filter(|rule| rule.action == Action::Drop) {
                println!("  dropped in the driver: {} frames of {}", rule.hits.frames, rule.flow);
            }
        }
        Ok(())
    }
}
