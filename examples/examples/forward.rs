//! Sends on what one port receives by another: `forward FROM TO [FLOW ...]`.
//!
//! `forward afxdp:eth2 afxdp:eth3 239.1.1.1:5000`, `forward pcap:feed.pcapng eth3`
//!
//! Where both ports work with the same pool (AF_XDP, ef_vi, verbs) no frame is copied: its buffer
//! moves from the receive ring to the transmit ring and back. Each burst leaves as one group, with
//! one kick. Ends when a file does.
use std::time::{Duration, Instant};

use linerate::pool::Pool;
use linerate::prelude::*;
use linerate::{AnyRx, AnyTx, Direction, Error, FlowSpec, forward};

/// Enough for both directions of two ports with one queue each.
const FRAMES: u32 = 16_384;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: forward FROM TO [FLOW ...]";
    let (from, to) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    let flows: Vec<FlowSpec> = args.map(|flow| flow.parse()).collect::<Result<_, _>>()?;

    let pool = Pool::builder().frames(FRAMES).build()?;
    let mut from = linerate::port(&from)
        .flows(flows)
        .pool(&pool)
        .promiscuous(true)
        .direction(Direction::Rx)
        .open()?;
    let mut to = linerate::port(&to).pool(&pool).direction(Direction::Tx).open()?;
    for notice in from.notices().iter().chain(to.notices()) {
        eprintln!("note: {notice}");
    }
    let share = from.pool().is_some() && to.pool().is_some();
    let tx = to.tx.as_mut().ok_or("the second port cannot send")?;
    eprintln!("{}", if share { "forwarding without a copy" } else { "forwarding by copy" });

    let (mut sent, mut shown) = (0, Instant::now());
    while !from.rx.iter().all(AnyRx::finished) {
        for rx in &mut from.rx {
            sent += match (rx.buf_rx(), share.then(|| tx.buf_tx()).flatten()) {
                (Some(rx), Some(tx)) => forward(rx, tx, 64, |_| true)? as u64,
                _ => copy_group(rx, tx)?,
            };
        }
        if shown.elapsed() >= Duration::from_secs(1) {
            shown = Instant::now();
            report(&mut from.rx, tx, sent);
        }
    }
    while tx.stats().completed + tx.stats().lost() < sent
        && shown.elapsed() < Duration::from_secs(1)
    {
        tx.reap();
    }
    report(&mut from.rx, tx, sent);
    Ok(())
}

/// One burst, copied into the other port's buffers and sent with one kick. Takes no more than
/// there is room for: what waits, waits in the receive ring.
fn copy_group(rx: &mut AnyRx, tx: &mut AnyTx) -> Result<u64, Error> {
    tx.reap();
    let n = rx.acquire(tx.room().min(64))?;
    let mut sent = 0;
    for i in 0..n {
        let frame = rx.frame(i).bytes;
        if frame.len() <= tx.max_len() && tx.send(frame)? {
            sent += 1;
        }
    }
    rx.release();
    tx.kick()?;
    Ok(sent)
}

fn report(rx: &mut [AnyRx], tx: &mut AnyTx, sent: u64) {
    let received: u64 = rx.iter_mut().map(|rx| rx.stats().frames).sum();
    let lost: u64 = rx.iter_mut().map(|rx| rx.stats().lost()).sum();
    let not_sent = tx.stats().lost();
    println!("received {received}, lost before {lost}, forwarded {sent}, lost after {not_sent}");
}
