//! What only an ExaNIC can do: act on a tick while its end is still on the wire, fire an order that
//! lies in the card, and tell the time from the tick's first bit to the order's first bit by the
//! card's own clock. `preloaded_order` is for every backend.
//!
//! ```text
//! cut_through_order                        # on a simulated card
//! cut_through_order exanic0/0 exanic0/1    # ticks in on the first port, orders out on the second
//! ```
//!
//! A real card needs libexanic at build time: `cargo run --features sdk --example ...`.
//!
//! A tick is a UDP datagram to 239.1.1.1:5000 that begins with a price (u32, big endian). An order
//! goes out for every price under the limit; it repeats the price and numbers itself.

use std::error::Error;
use std::time::Duration;

use linerate::NO_TS;
use linerate::exanic::{Arrival, Chunk, Options, Port, Preloaded, open, open_with};
use linerate::packet::UdpTemplate;
use linerate::sim::exanic::Card;
use linerate::sim::{Plug, WireState};

const LIMIT: u32 = 1000;
const SIMULATED_TICKS: u32 = 10;
/// Ethernet, IPv4 and UDP headers.
const PAYLOAD: usize = 42;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut options = Options::default();
    options.flows = vec!["239.1.1.1:5000".parse()?];
    match args.as_slice() {
        [feed, orders] => {
            trade(&open(feed, &options)?, &open(orders, &Options::default())?, u32::MAX)
        }
        [] => {
            let (exchange, feed) = Plug::pair();
            let card = Card::builder().plug(0, feed).plug(1, Plug::looped()).build();
            let feed = open_with(Card::api(), &card.port_name(0), &options)?;
            let orders = open_with(Card::api(), &card.port_name(1), &Options::default())?;
            let ticks = std::thread::spawn(move || simulate(&exchange));
            trade(&feed, &orders, SIMULATED_TICKS / 2)?;
            println!("a simulated card: the times say nothing about a real one");
            ticks.join().map_err(|_| "the simulated exchange failed".into())
        }
        _ => Err("usage: cut_through_order [FEED_PORT ORDER_PORT]".into()),
    }
}

/// Fires `orders_wanted` orders and prints how long each took.
fn trade(feed: &Port, orders: &Port, orders_wanted: u32) -> Result<(), Box<dyn Error>> {
    feed.notices().iter().chain(orders.notices()).for_each(|n| eprintln!("{n}"));
    let mut feed = feed.cut_through()?;
    let mut orders = orders.preloaded(1, 128)?;
    orders.load(0, &order()?)?;

    let mut sent = 0_u32;
    while sent < orders_wanted {
        // The tick's first 120 bytes are enough: the rest may still be on the wire.
        let Arrival::Chunk(chunk) = feed.next_chunk() else { continue };
        let Some((price, tick_ns)) = price(&chunk) else { continue };
        feed.skip_frame();
        if price >= LIMIT {
            continue;
        }
        // Two patches and one store to the card.
        orders.patch(0, PAYLOAD, &sent.to_be_bytes())?;
        orders.patch(0, PAYLOAD + 4, &price.to_be_bytes())?;
        orders.fire(0)?;
        sent += 1;
        // Off the critical path: wait until the card is done with the slot.
        report(&mut orders, price, tick_ns);
    }
    Ok(())
}

/// The price in a tick's first chunk, and when the tick began to arrive.
fn price(chunk: &Chunk<'_>) -> Option<(u32, u64)> {
    if !chunk.is_first() || chunk.len() < PAYLOAD + 4 {
        return None;
    }
    let price = u32::from_be_bytes(chunk.load(PAYLOAD));
    // Whether the card has overwritten the chunk is asked after the bytes were taken.
    chunk.still_valid().then_some((price, chunk.ts_ns()))
}

fn report(orders: &mut Preloaded, price: u32, tick_ns: u64) {
    while orders.is_in_flight(0) {
        orders.reap_with(&mut |_, stamp| {
            if stamp.ts_ns == NO_TS || tick_ns == NO_TS {
                println!("order {} at {price}: no timestamps", stamp.seq);
            } else {
                let ns = stamp.ts_ns as i64 - tick_ns as i64;
                println!("order {} at {price}: tick to trade {ns} ns", stamp.seq);
            }
        });
    }
}

/// The order's frame, number and price still to be filled in. Without a UDP checksum, which
/// would have to be patched as well.
fn order() -> Result<Vec<u8>, Box<dyn Error>> {
    let template = UdpTemplate::new("10.0.0.1:4000".parse()?, "10.0.0.2:4001".parse()?);
    let mut template = template.ok_or("two addresses of one family")?;
    template.checksum = false;
    let mut frame = [0; 128];
    let len = template.write(&mut frame, &[0; 40]).ok_or("a frame of 128 bytes is enough")?;
    Ok(frame[..len].to_vec())
}

/// Ticks on the simulated wire, every other one under the limit.
fn simulate(exchange: &Plug) {
    let addresses = ([10, 0, 0, 9], 9).into();
    let Some(template) = UdpTemplate::new(addresses, ([239, 1, 1, 1], 5000).into()) else { return };
    for i in 0..SIMULATED_TICKS {
        std::thread::sleep(Duration::from_millis(20));
        let price = if i % 2 == 0 { LIMIT - 1 - i } else { LIMIT + i };
        let mut payload = [0; 400];
        payload[..4].copy_from_slice(&price.to_be_bytes());
        let mut frame = [0; 512];
        if let Some(len) = template.write(&mut frame, &payload) {
            exchange.send(&frame[..len], WireState::Good);
        }
    }
}
