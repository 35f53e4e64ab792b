//! The same as `preloaded_order` on a Solarflare card: two orders wait in the card's transmit
//! alternatives, a buy and a sell, and a market-data tick fires one of them.
//!
//! ```text
//! preloaded_alternative              # on a simulated card
//! preloaded_alternative eth2 eth3    # ticks in on the first interface, orders out on the second
//! ```
//!
//! A real card needs Onload's libciul at build time (feature `sdk` of linerate-efvi). A tick is a
//! UDP datagram to 239.1.1.1:5000 that begins with a price (u32, big endian): under the limit it
//! fires the buy, else the sell. The time printed is this process's own, from the tick in hand to
//! the order fired: cards give no send stamps for alternatives.

use std::error::Error;
use std::time::{Duration, Instant};

use linerate::packet::UdpTemplate;
use linerate::{FrameRx, FrameTx, Steer};
use linerate_efvi::{EfviRx, EfviTx, Options, open_rx, open_tx};
use linerate_sim::efvi::{Card, Kind, library};
use linerate_sim::{Plug, WireState};

const LIMIT: u32 = 1000;
const SIMULATED_TICKS: u32 = 10;
/// Ethernet, IPv4 and UDP headers.
const PAYLOAD: usize = 42;
const BUY: u32 = 0;
const SELL: u32 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut feed = Options::default();
    let mut orders = Options::default();
    orders.alternatives = 2;
    match args.as_slice() {
        [from, to] => trade(open_rx(from, &feed)?, open_tx(to, &orders)?, u32::MAX),
        [] => {
            let (exchange, wire) = Plug::pair();
            let (out, market) = Plug::pair();
            let taken = "the name of a simulated card is taken";
            let from = Card::new("simfeed", Kind::Ring, wire).ok_or(taken)?;
            let to = Card::new("simorder", Kind::Ring, out).ok_or(taken)?;
            (feed.library, orders.library) = (Some(library()), Some(library()));
            let rx = open_rx(from.interface(), &feed)?;
            let tx = open_tx(to.interface(), &orders)?;
            let ticks = std::thread::spawn(move || simulate(&exchange));
            trade(rx, tx, SIMULATED_TICKS)?;
            ticks.join().map_err(|_| "the simulated exchange failed")?;
            let arrived = std::iter::from_fn(|| market.recv()).count();
            println!("{arrived} orders reached the market");
            println!("a simulated card: the times say nothing about a real one");
            Ok(())
        }
        _ => Err("usage: preloaded_alternative [FEED_INTERFACE ORDER_INTERFACE]".into()),
    }
}

/// Fires an order for each of so many ticks.
fn trade(mut feed: EfviRx, mut orders: EfviTx, ticks: u32) -> Result<(), Box<dyn Error>> {
    feed.add(&"239.1.1.1:5000".parse()?)?;
    let (buy, sell) = (order(b'B')?, order(b'S')?);
    load(&mut orders, BUY, &buy)?;
    load(&mut orders, SELL, &sell)?;
    let mut seen = 0;
    while seen < ticks {
        let mut fired = None;
        feed.poll(1, |frame| {
            let Some(price) = frame.bytes.get(PAYLOAD..PAYLOAD + 4) else { return };
            let price = u32::from_be_bytes([price[0], price[1], price[2], price[3]]);
            let at = Instant::now();
            let side = if price < LIMIT { BUY } else { SELL };
            fired = Some((side, price, orders.fire(side), at.elapsed()));
        })?;
        // Off the critical path: say so, and lay the next order of that side in.
        let Some((side, price, outcome, took)) = fired else { continue };
        outcome?;
        seen += 1;
        let name = if side == BUY { "buy" } else { "sell" };
        println!("tick {seen} at {price}: {name} fired in {} ns", took.as_nanos());
        load(&mut orders, side, if side == BUY { &buy } else { &sell })?;
    }
    Ok(())
}

/// Writes an order into the card, once the one before has left.
fn load(orders: &mut EfviTx, alternative: u32, frame: &[u8]) -> Result<(), Box<dyn Error>> {
    while !orders.preload(alternative, frame)? {
        orders.reap();
    }
    Ok(())
}

fn order(side: u8) -> Result<Vec<u8>, Box<dyn Error>> {
    let template = UdpTemplate::new("10.0.0.1:4000".parse()?, "10.0.0.2:4001".parse()?);
    let template = template.ok_or("two addresses of one family")?;
    let mut frame = [0; 128];
    let len = template.write(&mut frame, &[side; 40]).ok_or("a frame of 128 bytes is enough")?;
    Ok(frame[..len].to_vec())
}

/// Ticks on the simulated wire, every other one under the limit.
fn simulate(exchange: &Plug) {
    let Some(template) = UdpTemplate::new(([10, 0, 0, 9], 9).into(), ([239, 1, 1, 1], 5000).into())
    else {
        return;
    };
    for i in 0..SIMULATED_TICKS {
        std::thread::sleep(Duration::from_millis(20));
        let price = if i % 2 == 0 { LIMIT - 1 - i } else { LIMIT + i };
        let mut frame = [0; 128];
        if let Some(len) = template.write(&mut frame, &price.to_be_bytes()) {
            exchange.send(&frame[..len], WireState::Good);
        }
    }
}
