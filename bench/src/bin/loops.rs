//! Our loops, as a user would write them, to be compared with those of others.
//!
//! ```text
//! loops receive PORT [FLOW ...]      until SIGTERM; says frames and the time they took
//! loops send PORT BYTES|imix         as fast as it goes, to the lab's receiver
//! loops forward FROM TO              every frame, without a copy where ports can share a pool
//! loops idle PORT [FLOW ...]         ns of a poll that finds nothing
//! ```

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;
use std::{env, result};

use linerate::{AnyRx, AnyTx, Direction, FlowSpec};
use linerate_bench::Sink;
use linerate_bench::compare::lab::{VA, VB};
use linerate_bench::compare::xdp::IMIX;
use linerate_bench::frames::udp_frame;
use linerate_bench::meter::{Meter, ticks};
use linerate_common::{BufRx, BufTx, ErrorKind, FrameRx, FrameTx};

type Result = result::Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["receive", port, ref flows @ ..] => receive(port, flows),
        ["send", port, bytes] => send(port, bytes),
        ["forward", from, to] => forward(from, to),
        ["idle", port, ref flows @ ..] => idle(port, flows),
        _ => Err("receive PORT [FLOW ...] | send PORT BYTES|imix | forward FROM TO | idle PORT [FLOW ...]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("loops: {why}");
            ExitCode::FAILURE
        }
    }
}

fn open_rx(port: &str, flows: &[&str]) -> result::Result<linerate::Port, Box<dyn Error>> {
    let flows: result::Result<Vec<FlowSpec>, _> = flows.iter().map(|flow| flow.parse()).collect();
    Ok(linerate::port(port).flows(flows?).direction(Direction::Rx).open()?)
}

fn receive(port: &str, flows: &[&str]) -> Result {
    let mut port = open_rx(port, flows)?;
    let rx = port.rx.first_mut().ok_or("a port without a receive queue")?;
    receive_loop(rx)?.report();
    let stats = rx.stats();
    println!(
        "no_buffer={} ring_full={} kernel_drop={} truncated={}",
        stats.no_buffer, stats.ring_full, stats.kernel_drop, stats.truncated
    );
    Ok(())
}

#[inline(never)]
fn receive_loop(rx: &mut AnyRx) -> result::Result<Meter, Box<dyn Error>> {
    let mut sink = Sink::default();
    let mut meter = Meter::start()?;
    while meter.goes_on() {
        let start = ticks();
        let n = rx.poll(64, |frame| sink.see_bytes(frame.bytes))?;
        meter.turn(start, n);
    }
    black_box(sink);
    Ok(meter)
}

/// Each frame is written in place, and a burst goes out with one doorbell.
fn send(port: &str, bytes: &str) -> Result {
    const BURST: usize = 64;
    let lengths: Vec<usize> = match bytes {
        "imix" => IMIX.iter().flat_map(|(n, bytes)| vec![*bytes; *n as usize]).collect(),
        number => vec![number.parse()?],
    };
    let mut port = linerate::port(port).direction(Direction::Tx).open()?;
    let tx = port.tx.as_mut().ok_or("a port that does not send")?;
    let frames: Vec<Vec<u8>> =
        lengths.iter().map(|bytes| udp_frame(*bytes, VA, (VB.mac, VB.ip), 9000)).collect();
    let mut frames = frames.iter().cycle();
    let mut next = frames.next().ok_or("no frame")?;
    let mut meter = Meter::start()?;
    while meter.goes_on() {
        let start = ticks();
        tx.reap();
        let mut n = 0;
        while n < BURST && tx.send(next)? {
            next = frames.next().ok_or("no frame")?;
            n += 1;
        }
        // A full queue below is back-pressure here: the next turn tries again.
        match tx.kick() {
            Err(e) if e.kind != ErrorKind::Os || e.errno != libc::ENOBUFS => return Err(e.into()),
            _ => {}
        }
        meter.turn(start, n);
    }
    meter.report();
    Ok(())
}

/// Without a copy where both ports work with one pool.
fn forward(from: &str, to: &str) -> Result {
    let mut from = linerate::port(from).direction(Direction::Rx).open()?;
    let mut to = linerate::port(to).direction(Direction::Tx);
    if let Some(pool) = from.pool() {
        to = to.pool(pool);
    }
    let mut to = to.open()?;
    let rx = from.rx.first_mut().ok_or("a port without a receive queue")?;
    let tx = to.tx.as_mut().ok_or("a port that does not send")?;
    let meter = match (rx, tx) {
        (AnyRx::Afxdp(rx), AnyTx::Afxdp(tx)) => lend(&mut **rx, &mut **tx)?,
        (rx, tx) => copy(rx, tx)?,
    };
    meter.report();
    Ok(())
}

fn lend<R: BufRx, T: BufTx>(rx: &mut R, tx: &mut T) -> result::Result<Meter, Box<dyn Error>> {
    let mut meter = Meter::start()?;
    while meter.goes_on() {
        let start = ticks();
        let n = linerate_common::forward(rx, tx, 64, |_| true)?;
        meter.turn(start, n);
    }
    Ok(meter)
}

fn copy<R: FrameRx, T: FrameTx>(rx: &mut R, tx: &mut T) -> result::Result<Meter, Box<dyn Error>> {
    let mut meter = Meter::start()?;
    while meter.goes_on() {
        let start = ticks();
        tx.reap();
        let mut failed = None;
        let room = tx.room().min(64);
        let n = rx.poll(room, |frame| failed = tx.send(frame.bytes).err().or(failed))?;
        if let Some(e) = failed {
            return Err(e.into());
        }
        if n > 0 {
            tx.kick()?;
        }
        meter.turn(start, n);
    }
    Ok(meter)
}

fn idle(port: &str, flows: &[&str]) -> Result {
    let mut port = open_rx(port, flows)?;
    let rx = port.rx.first_mut().ok_or("a port without a receive queue")?;
    // A system call each, with sockets.
    let polls = if matches!(rx, AnyRx::Udp(_)) { 200_000 } else { 1_000_000 };
    let mut best = f64::INFINITY;
    let mut frames = 0;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..polls {
            frames += rx.poll(64, |_| ())?;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(polls));
    }
    println!("idle_ns={best:.2} frames={frames}");
    Ok(())
}
