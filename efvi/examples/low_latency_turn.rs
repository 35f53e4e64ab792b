//! One turn of the low-latency receive loop as a function of its own, to look at its assembly
//! (`bench/golden/efvi.sh`), run on a simulated card.

use linerate_common::{Error, FlowKind, FlowSpec, FrameRx, Steer};
use linerate_efvi::{EfviRx, Options, RingRx, open_rx};
use linerate_sim::efvi::{Card, Kind, library};
use linerate_sim::{Plug, WireState};

/// What a program does with a burst: here it sums up lengths and stamps.
#[unsafe(no_mangle)]
#[inline(never)]
fn low_latency_turn(rx: &mut RingRx, sum: &mut u64) -> Result<usize, Error> {
    rx.poll(8, |frame| *sum = sum.wrapping_add(frame.bytes.len() as u64 ^ frame.meta.ts_ns))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (wire, far) = Plug::pair();
    let card = Card::new("simef_turn", Kind::Ring, wire).ok_or("the name is taken")?;
    let mut options = Options::default();
    options.library = Some(library());
    let mut rx = open_rx(card.interface(), &options)?;
    rx.add(&FlowSpec::of(FlowKind::EtherType(0x88b5)))?;
    let EfviRx::Ring(mut rx) = rx else { return Err("not a ring card".into()) };
    let mut frame = [0; 100];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    let (mut sent, mut got, mut sum) = (0, 0, 0);
    while got < 10_000 {
        // No further ahead than the ring holds.
        while sent < 10_000.min(got + 256) && far.send(&frame, WireState::Good) {
            sent += 1;
        }
        got += low_latency_turn(&mut rx, &mut sum)?;
    }
    println!("{got} frames, sum {sum:#x}");
    Ok(())
}
