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

use linerate::{AnyRx, Direction, FlowSpec};
use linerate_bench::Sink;
use linerate_bench::meter::{Meter, ticks};
use linerate_common::FrameRx;

type Result = result::Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["receive", port, ref flows @ ..] => receive(port, flows),
        ["idle", port, ref flows @ ..] => idle(port, flows),
        _ => Err("receive PORT [FLOW ...] | idle PORT [FLOW ...]".into()),
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
    let mut sink = Sink::default();
    let meter = receive_loop(rx, &mut sink)?;
    black_box(sink);
    meter.report();
    let stats = rx.stats();
    println!(
        "no_buffer={} ring_full={} kernel_drop={}",
        stats.no_buffer, stats.ring_full, stats.kernel_drop
    );
    Ok(())
}

#[inline(never)]
fn receive_loop(rx: &mut AnyRx, sink: &mut Sink) -> result::Result<Meter, Box<dyn Error>> {
    let mut meter = Meter::start()?;
    while meter.goes_on() {
        let start = ticks();
        let n = rx.poll(64, |frame| sink.see(frame))?;
        meter.turn(start, n);
    }
    Ok(meter)
}

fn idle(port: &str, flows: &[&str]) -> Result {
    const POLLS: u32 = 1_000_000;
    let mut port = open_rx(port, flows)?;
    let rx = port.rx.first_mut().ok_or("a port without a receive queue")?;
    let mut best = f64::INFINITY;
    let mut frames = 0;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..POLLS {
            frames += rx.poll(64, |_| ())?;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(POLLS));
    }
    println!("idle_ns={best:.2} frames={frames}");
    Ok(())
}
