//! How cost grows, and what it takes to begin.
//!
//! ```text
//! grow queues N       ns a frame of a turn over N queues in memory, and of an idle turn
//! grow bytes N        ns a frame of N bytes through a pair in memory, written whole and read whole
//! grow port PORT      µs to open and to close a port, and KiB of memory while it is open
//! ```

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use linerate_common::loopback::{self, LoopRx, LoopTx, Options};
use linerate_common::pool::{Pool, PoolBuilder};
use linerate_common::{FrameRx, FrameTx};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Frames put into each queue before they are taken.
const BURST: usize = 64;
const ROUNDS: usize = 4_000;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["queues", n] => queues(n),
        ["bytes", n] => bytes(n),
        ["port", uri] => port(uri),
        _ => Err("queues N | bytes N | port PORT".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("grow: {why}");
            ExitCode::FAILURE
        }
    }
}

fn pair(pool: Option<Pool>) -> Result<(LoopTx, LoopRx)> {
    let options = Options { ring_slots: 2 * BURST, pool, stamps: false, ..Options::default() };
    Ok(loopback::pair(&options)?)
}

fn fill(tx: &mut LoopTx, frame: &[u8]) -> Result<()> {
    tx.reap();
    for _ in 0..BURST {
        tx.send(frame)?;
    }
    tx.kick()?;
    Ok(())
}

fn queues(n: &str) -> Result<()> {
    let mut pairs = Vec::new();
    for _ in 0..n.parse::<usize>()? {
        pairs.push(pair(None)?);
    }
    let frame = [7; 60];
    let (mut busy, mut idle, mut sum) = (Vec::new(), Vec::new(), 0);
    let all = BURST * pairs.len();
    for _ in 0..ROUNDS {
        for (tx, _) in &mut pairs {
            fill(tx, &frame)?;
        }
        let mut frames = 0;
        let start = Instant::now();
        for (_, rx) in &mut pairs {
            frames += rx.poll(BURST, |frame| sum += frame.bytes.len())?;
        }
        busy.push(start.elapsed());
        let start = Instant::now();
        for (_, rx) in &mut pairs {
            frames += rx.poll(BURST, |frame| sum += frame.bytes.len())?;
        }
        idle.push(start.elapsed());
        if frames != all {
            return Err(format!("{frames} of {all} frames came").into());
        }
    }
    black_box(sum);
    println!("ns={:.2} idle_ns={:.1}", median(busy) / all as f64, median(idle));
    Ok(())
}

fn bytes(n: &str) -> Result<()> {
    let len: usize = n.parse()?;
    let builder: PoolBuilder = Pool::builder().frames(8 * BURST as u32);
    let pool = builder.frame_bytes(if len > 1792 { 4096 } else { 2048 }).build()?;
    let (mut tx, mut rx) = pair(Some(pool))?;
    let frame = vec![7; len];
    let (mut times, mut sum) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        fill(&mut tx, &frame)?;
        let frames = rx.poll(BURST, |frame| {
            sum += frame.bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        })?;
        times.push(start.elapsed());
        if frames != BURST {
            return Err(format!("{frames} of {BURST} frames came").into());
        }
    }
    black_box(sum);
    println!("ns={:.2}", median(times) / BURST as f64);
    Ok(())
}

fn port(uri: &str) -> Result<()> {
    let (mut opened, mut closed, mut memory) = (Vec::new(), Vec::new(), 0);
    for _ in 0..5 {
        let before = resident()?;
        let start = Instant::now();
        let port = linerate::port(uri);
        // A socket has to be asked for something.
        let port =
            if uri.starts_with("udp:") { port.flow("239.77.0.1:5000".parse()?) } else { port };
        let port = port.open()?;
        opened.push(start.elapsed());
        memory = resident()?.saturating_sub(before);
        let start = Instant::now();
        drop(port);
        closed.push(start.elapsed());
    }
    let (open, close) = (median(opened) / 1e3, median(closed) / 1e3);
    println!("open_us={open:.0} close_us={close:.0} memory_kib={memory}");
    Ok(())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_nanos() as f64
}

/// KiB of memory that is there, huge pages and rings shared with the kernel included.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let lines =
        status.lines().filter(|l| l.starts_with("VmRSS:") || l.starts_with("HugetlbPages:"));
    Ok(lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}
