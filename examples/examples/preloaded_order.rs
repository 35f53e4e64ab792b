//! Tick to trade on any backend: two orders, a buy and a sell, are made ready before they are
//! needed, and a market-data tick patches and fires one of them.
//!
//! ```text
//! preloaded_order                                      # on each kind of simulated card
//! preloaded_order exanic:exanic0/0 exanic:exanic0/1    # ticks in on the first, orders out on the second
//! preloaded_order efvi:eth2 efvi:eth3
//! preloaded_order afxdp:eth2 afxdp:eth3 10             # ten ticks, then the end
//! ```
//!
//! On an ExaNIC and on Solarflare cards the orders wait in the card; elsewhere in memory. A tick
//! is a UDP datagram to 239.1.1.1:5000 that begins with a price (u32, big endian): under the limit
//! it fires the buy, else the sell. The time printed is from the tick in hand to the order fired,
//! by this process's clock; `cut_through_order` has an ExaNIC's own.

use std::error::Error;
use std::time::{Duration, Instant};

use linerate::packet::UdpTemplate;
use linerate::prelude::*;
use linerate::{Direction, Port, Preloaded};

const FEED: &str = "239.1.1.1:5000";
const LIMIT: u32 = 1000;
const SIMULATED_TICKS: u32 = 10;
/// Ethernet, IPv4 and UDP headers.
const PAYLOAD: usize = 42;
const BUY: usize = 0;
const SELL: usize = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => ["exanic", "efvi", "verbs"].into_iter().try_for_each(simulate),
        [feed, orders] => trade(open_feed(feed)?, open_orders(orders)?, u32::MAX),
        [feed, orders, ticks] => trade(open_feed(feed)?, open_orders(orders)?, ticks.parse()?),
        _ => Err("usage: preloaded_order [FEED_PORT ORDER_PORT [TICKS]]".into()),
    }
}

fn open_feed(uri: &str) -> Result<Port, Box<dyn Error>> {
    let port = linerate::port(uri).flow(FEED.parse()?).direction(Direction::Rx);
    Ok(port.low_latency(true).open()?)
}

fn open_orders(uri: &str) -> Result<Port, Box<dyn Error>> {
    Ok(linerate::port(uri).direction(Direction::Tx).preload(2, 128).open()?)
}

/// Fires an order for each of so many ticks.
fn trade(mut feed: Port, mut out: Port, ticks: u32) -> Result<(), Box<dyn Error>> {
    feed.notices().iter().chain(out.notices()).for_each(|n| eprintln!("note: {n}"));
    let orders = out.preloaded.as_mut().ok_or("the second port cannot send")?;
    orders.load(BUY, &order(b'B')?)?;
    orders.load(SELL, &order(b'S')?)?;
    println!("{orders} slots, waiting {waits:?}", orders = orders.slots(), waits = orders.waits());
    (0..ticks).try_for_each(|n| on_tick(n, &mut feed, orders))?;
    // What has not left when its port is dropped may never do.
    while orders.stats().completed + orders.stats().lost() < u64::from(ticks) {
        orders.reap()?;
    }
    Ok(())
}

/// Waits for one tick and fires.
fn on_tick(n: u32, feed: &mut Port, orders: &mut Preloaded) -> Result<(), Box<dyn Error>> {
    let mut fired = None;
    while fired.is_none() {
        for rx in &mut feed.rx {
            rx.poll(1, |frame| {
                let Some(price) = frame.bytes.get(PAYLOAD..PAYLOAD + 4) else { return };
                let price = u32::from_be_bytes([price[0], price[1], price[2], price[3]]);
                let at = Instant::now();
                let side = if price < LIMIT { BUY } else { SELL };
                fired = Some((side, price, orders.fire(side), at.elapsed()));
            })?;
        }
    }
    // Off the critical path: say so, and number the next order of that side.
    let Some((side, price, outcome, took)) = fired else { return Ok(()) };
    // And ask the queues, which learn of changes to their interface by it alone.
    feed.rx.iter_mut().for_each(|rx| _ = rx.stats());
    let went = if outcome? { "fired" } else { "was still busy" };
    let name = if side == BUY { "buy" } else { "sell" };
    println!("tick {n} at {price}: {name} {went}, {} ns", took.as_nanos());
    while orders.is_in_flight(side) {
        orders.reap()?;
    }
    orders.patch(side, PAYLOAD + 4, &(n + 1).to_be_bytes())?;
    while !orders.is_armed(side) {
        orders.reap()?;
    }
    Ok(())
}

/// The order's frame. Without a UDP checksum, which would have to be patched as well.
fn order(side: u8) -> Result<Vec<u8>, Box<dyn Error>> {
    let template = UdpTemplate::new("10.0.0.1:4000".parse()?, "10.0.0.2:4001".parse()?);
    let mut template = template.ok_or("two addresses of one family")?;
    template.checksum = false;
    let mut frame = [0; 128];
    let len = template.write(&mut frame, &[side; 40]).ok_or("a frame of 128 bytes is enough")?;
    Ok(frame[..len].to_vec())
}

/// An exchange and a market at the other ends of two simulated cables.
fn simulate(card: &str) -> Result<(), Box<dyn Error>> {
    let port = |cable: &str| format!("sim:{card}?cable={cable}");
    let mut exchange = linerate::port(&port("feed")).direction(Direction::Tx).open()?;
    let mut market = linerate::port(&port("orders")).direction(Direction::Rx).open()?;
    let (feed, orders) = (open_feed(&port("feed"))?, open_orders(&port("orders"))?);
    println!("{card}, simulated: the times say nothing about a real card");
    std::thread::scope(|scope| {
        let trade = move || trade(feed, orders, SIMULATED_TICKS).map_err(|e| e.to_string());
        let trader = scope.spawn(trade);
        let template = UdpTemplate::new("10.0.0.9:9".parse()?, FEED.parse()?).ok_or("IPv4")?;
        let tx = exchange.tx.as_mut().ok_or("it sends")?;
        for i in 0..SIMULATED_TICKS {
            std::thread::sleep(Duration::from_millis(20));
            let price = if i % 2 == 0 { LIMIT - 1 - i } else { LIMIT + i };
            let mut frame = [0; 128];
            let len = template.write(&mut frame, &price.to_be_bytes()).ok_or("it fits")?;
            tx.send(&frame[..len])?;
            tx.kick()?;
        }
        trader.join().map_err(|_| "the trader failed")??;
        let mut arrived = 0;
        while arrived < SIMULATED_TICKS as usize {
            arrived += market.rx[0].poll(64, |_| {})?;
        }
        println!("{arrived} orders reached the market");
        Ok(())
    })
}
