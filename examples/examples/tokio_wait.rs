//! A queue in an asynchronous program: `tokio_wait PORT FLOW [FRAMES]`.
//!
//! ```text
//! tokio_wait eth2 239.1.1.1:5000
//! tokio_wait udp:lo 239.1.1.1:5000 100
//! ```
//!
//! A queue's [`Waitable`](linerate::Waitable) is a file descriptor: tokio sleeps on it beside
//! everything else that the program waits for. Here that is a timer; the frames themselves are
//! read without any system call where the backend has none. Ends after FRAMES, if given.
use std::time::Duration;

use linerate::{AnyRx, Direction, Error, FlowSpec, FrameRx};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(receive())
}

async fn receive() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, flow, rest @ ..] = args.as_slice() else {
        return Err("usage: tokio_wait PORT FLOW [FRAMES]".into());
    };
    let limit = rest.first().map_or(Ok(u64::MAX), |n| n.parse())?;
    let flows = FlowSpec::parse_list(flow)?;
    let mut port = linerate::port(port).flows(flows).direction(Direction::Rx).open()?;
    let rx = port.rx.first_mut().ok_or("the port has no receive queue")?;

    // A descriptor of our own for the same thing: tokio wants to keep one.
    let waitable = rx.waitable().ok_or("this queue cannot be slept on: use a loop that spins")?;
    let fd = waitable.fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open and the same until it is dropped, and `AsyncFd` owns it.
    let ready = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
        .map_err(|e| e.to_string())?;
    println!("waiting");

    let (mut frames, mut wakeups) = (0, 0);
    let mut tick = Instant::now() + Duration::from_secs(1);
    while frames < limit {
        match timeout_at(tick, ready.readable()).await {
            Err(_) => {
                // The other thing this program waits for.
                println!("{frames} frames, {wakeups} wake-ups, lost {}", rx.stats().lost());
                tick += Duration::from_secs(1);
            }
            Ok(guard) => {
                let mut guard = guard?;
                wakeups += 1;
                // Arm first, then look: what comes after the arming wakes us again. The guard
                // forgets the readiness only if nothing new has come since.
                let came = drain(rx)?;
                frames += came;
                if came == 0 {
                    guard.clear_ready();
                }
            }
        }
    }
    println!("{frames} frames, {wakeups} wake-ups, lost {}", rx.stats().lost());
    Ok(())
}

/// Arms the queue and takes a bounded number of frames, so that other tasks get their turn.
fn drain(rx: &mut AnyRx) -> Result<u64, Error> {
    if let Some(waitable) = rx.waitable() {
        waitable.arm()?;
    }
    let n = rx.poll(64, |frame| {
        // A program would do its work here.
        std::hint::black_box(frame.bytes);
    })?;
    Ok(n as u64)
}
