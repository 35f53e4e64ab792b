//! Sends frames in groups, one kick each: `group_sender PORT GROUP:PORT [FRAMES [PER_GROUP [PPS]]]`.
//!
//! ```text
//! group_sender afxdp:eth2 239.1.1.1:5000 1000000 64 340000
//! group_sender udp:lo 239.1.1.1:5000 1000 10 1000
//! ```
//!
//! Headers are written once; for each frame only its number and payload change. A whole group goes
//! to the card or kernel with one doorbell or system call, which is what makes a frame cheap. At
//! the end it says how long a frame kept this thread busy.
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use linerate::packet::UdpTemplate;
use linerate::prelude::*;
use linerate::{AnyTx, Direction, Error};

/// Payload of each frame: a number, then whatever is to be sent.
const PAYLOAD: usize = 1200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, group, numbers @ ..] = args.as_slice() else {
        return Err("usage: group_sender PORT GROUP:PORT [FRAMES [PER_GROUP [PPS]]]".into());
    };
    let number = |i: usize, default: u64| numbers.get(i).map_or(Ok(default), |n| n.parse());
    let (frames, per_group, pps) = (number(0, 10_000)?, number(1, 32)?.max(1), number(2, 10_000)?);

    let mut port = linerate::port(port).direction(Direction::Tx).open()?;
    let tx = port.tx.as_mut().ok_or("the port cannot send")?;
    let group: SocketAddr = group.parse()?;
    let template =
        UdpTemplate::new("192.0.2.1:5000".parse()?, group).ok_or("give an IPv4 group")?;
    let header = template.header_len();
    let mut frame = vec![0; header + PAYLOAD];

    let (begun, mut busy) = (Instant::now(), Duration::ZERO);
    let mut sent = 0;
    while sent < frames {
        // A group is due by its place in the whole, so that no delay adds up.
        let due = begun + Duration::from_secs_f64(sent as f64 / pps.max(1) as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let from = Instant::now();
        for n in sent..(sent + per_group).min(frames) {
            let (headers, payload) = frame.split_at_mut(header);
            payload[..8].copy_from_slice(&n.to_be_bytes());
            template.write_headers(headers, payload).ok_or("the payload is too long")?;
            while !tx.send(&frame)? {
                wait_for_room(tx)?;
            }
        }
        tx.kick()?;
        busy += from.elapsed();
        sent = (sent + per_group).min(frames);
    }
    see_off(tx, frames)?;
    let stats = tx.stats();
    println!(
        "{sent} frames, {} completed, {} lost, in {:.3} s; {:.2} µs a frame",
        stats.completed,
        stats.lost(),
        begun.elapsed().as_secs_f64(),
        busy.as_secs_f64() * 1e6 / frames.max(1) as f64
    );
    Ok(())
}

/// Back-pressure: what is queued goes out, then there is room again.
fn wait_for_room(tx: &mut AnyTx) -> Result<(), Error> {
    tx.kick()?;
    if tx.reap() == 0 {
        std::thread::yield_now();
    }
    Ok(())
}

/// Waits until every frame has left or is known to be lost, at most two seconds.
fn see_off(tx: &mut AnyTx, frames: u64) -> Result<(), Error> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        tx.kick()?;
        tx.reap();
        let stats = tx.stats();
        if stats.completed + stats.lost() >= frames {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
