//! Round trips over our ports, with no more in the loop than the C loops have (`twins/ping.c`).
//!
//! ```text
//! round_trips pong PORT spin|block               answers every frame to port 7007, until SIGTERM
//! round_trips ping PORT COUNT spin|block         one frame after the other; percentiles in ns
//! ```

use std::error::Error;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, result};

use linerate::{AnyRx, AnyTx, FlowSpec};
use linerate_bench::compare::lab::{VA, VB, ip_text};
use linerate_bench::frames::udp_frame;
use linerate_bench::meter::Meter;
use linerate_common::{FrameRx, FrameTx, wait_readable};

type Result<T = ()> = result::Result<T, Box<dyn Error>>;

const BYTES: usize = 60;
const NUMBER: usize = 42;
const WARM_UP: u64 = 1000;
/// Where pings go to, and where answers to sockets do, as a UDP port of ours sends from a port of
/// the kernel's choice.
const PORT: u16 = 7007;
const ANSWERS: u16 = 7008;
const PATIENCE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["pong", port, wait] => pong(port, wait == "block"),
        ["ping", port, count, wait] => ping(port, count, wait == "block"),
        _ => Err("ping PORT COUNT spin|block | pong PORT spin|block".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("round_trips: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Both directions of a port; one of sockets hears only what comes to this address.
fn open(port: &str, ip: [u8; 4], udp: u16) -> Result<(AnyRx, AnyTx)> {
    let mut builder = linerate::port(port);
    if port.starts_with("udp:") {
        builder = builder.flow(format!("udp:{}:{udp}", ip_text(ip)).parse::<FlowSpec>()?);
    }
    let mut port = builder.open()?;
    let tx = port.tx.take().ok_or("a port that does not send")?;
    Ok((port.rx.pop().ok_or("a port that does not receive")?, tx))
}

/// Sleeps until there may be something.
fn sleep(rx: &mut AnyRx) -> Result {
    let queue = rx.waitable().ok_or("this port cannot be slept on")?;
    queue.arm()?;
    wait_readable(queue.fd().as_fd(), Some(PATIENCE))?;
    Ok(())
}

fn pong(port: &str, blocks: bool) -> Result {
    let (mut rx, mut tx) = open(port, VA.ip, PORT)?;
    let sockets = matches!(rx, AnyRx::Udp(_));
    let mut answer = [0; BYTES];
    if sockets {
        answer.copy_from_slice(&udp_frame(BYTES, VA, (VB.mac, VB.ip), ANSWERS));
    }
    let meter = Meter::start()?;
    while meter.goes_on() {
        let mut failed = Ok(());
        let n = rx.poll(64, |frame| {
            let Some(asked) = frame.bytes.first_chunk::<BYTES>() else { return };
            if asked[36..38] != PORT.to_be_bytes() {
                return;
            }
            if sockets {
                answer[NUMBER..].copy_from_slice(&asked[NUMBER..]);
            } else {
                answer = *asked;
                answer[..6].copy_from_slice(&asked[6..12]);
                answer[6..12].copy_from_slice(&asked[..6]);
                answer[26..30].copy_from_slice(&asked[30..34]);
                answer[30..34].copy_from_slice(&asked[26..30]);
                answer[34..36].copy_from_slice(&asked[36..38]);
                answer[36..38].copy_from_slice(&asked[34..36]);
            }
            // It leaves while the frame is still held: giving that back can wait.
            failed = tx.send(&answer).and_then(|_| tx.kick());
        })?;
        failed?;
        if n > 0 {
            tx.reap();
        } else if blocks {
            sleep(&mut rx)?;
        }
    }
    Ok(())
}

fn ping(port: &str, count: &str, blocks: bool) -> Result {
    let count: u64 = count.parse()?;
    let (mut rx, mut tx) = open(port, VB.ip, ANSWERS)?;
    let mut frame = udp_frame(BYTES, VB, (VA.mac, VA.ip), PORT);
    let mut times = Vec::with_capacity(count as usize);
    let mut lost = 0;
    let meter = Meter::start()?;
    for i in 0..count + WARM_UP {
        if !meter.goes_on() {
            break;
        }
        let start = Instant::now();
        let number = i.to_ne_bytes();
        frame[NUMBER..NUMBER + 8].copy_from_slice(&number);
        tx.send(&frame)?;
        tx.kick()?;
        tx.reap();
        loop {
            let mut answered = None;
            let n = rx.poll(64, |f| {
                if f.bytes.get(NUMBER..NUMBER + 8) == Some(&number) {
                    answered = Some(start.elapsed());
                }
            })?;
            if let Some(time) = answered {
                if i >= WARM_UP {
                    times.push(time.as_nanos() as u64);
                }
                break;
            }
            if start.elapsed() > PATIENCE {
                lost += 1;
                break;
            }
            if n == 0 && blocks {
                sleep(&mut rx)?;
            }
        }
    }
    times.sort_unstable();
    print!("answered={} lost={lost}", times.len());
    if let Some(last) = times.len().checked_sub(1) {
        let at = |thousandths: usize| times[(times.len() * thousandths / 1000).min(last)];
        print!(" p50={} p99={} p999={}", at(500), at(990), at(999));
    }
    println!();
    Ok(())
}
