//! Prints the frames of a port: `minimal eth2`, `minimal pcap:feed.pcapng`.
//!
//! A program that is to run for days also asks each queue for its `stats` once a second: a queue
//! that is only polled makes no system call, and does not learn that its interface has gone.
use linerate::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("usage: minimal PORT")?;
    let mut port = linerate::open(&name)?;
    while !port.rx[0].finished() {
        port.rx[0]
            .poll(64, |frame| println!("{} {} bytes", frame.meta.ts_ns, frame.bytes.len()))?;
    }
    Ok(())
}
