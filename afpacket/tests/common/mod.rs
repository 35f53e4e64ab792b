//! What the tests on a veth pair share.
//!
//! Between the two ends the kernel queues frames on the sending CPU: usually for no time at all,
//! on a busy machine for longer, and more than 1,000 are dropped without a trace. So a test sends
//! no more than 500 frames at a time before it has seen them arrive, and from one CPU only: those
//! that wait on different ones would overtake each other.

// Each test binary has a copy and uses its own part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use linerate_afpacket::{Options, PacketRx, PacketTx, Ring};
use linerate_common::{FrameRx, FrameTx, RxMeta, wait_readable};
use linerate_lab::Lab;

/// The ethertype for experiments: nothing but these tests sends it.
pub const TYPE: [u8; 2] = [0x88, 0xb5];

/// Both shapes of the receive ring. Many blocks, since a sender that has to wait for its CPU fills
/// only a part of each before it is a millisecond old.
pub const RINGS: [Ring; 2] = [
    Ring::Blocks { block_bytes: 128 << 10, blocks: 256, retire_ms: 1 },
    Ring::Frames { frame_bytes: 2048, frames: 2048 },
];

/// Options for frames of [`TYPE`].
pub fn options(ring: Ring) -> Options {
    let mut options = Options::default();
    options.flows = vec!["ether:0x88b5".parse().unwrap()];
    options.ring = ring;
    options
}

pub fn rx(lab: &Lab, options: &Options) -> PacketRx {
    let mut options = options.clone();
    options.transmit = false;
    let port = lab.in_b(|| linerate_afpacket::open("v1", &options));
    port.unwrap_or_else(|e| panic!("{e}")).into_rx().unwrap()
}

pub fn tx(lab: &Lab) -> PacketTx {
    stay_on_this_cpu();
    let mut options = Options::default();
    options.receive = false;
    let port = lab.in_a(|| linerate_afpacket::open("v0", &options));
    port.unwrap_or_else(|e| panic!("{e}")).into_tx().unwrap()
}

/// Keeps the calling thread, and those it spawns, on the CPU where it runs.
pub fn stay_on_this_cpu() {
    // SAFETY: a CPU set is plain data that outlives the calls, and the kernel's CPU number fits.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// Frame number `n` of `len` bytes, with content that depends on both.
pub fn frame(n: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&TYPE);
    for (i, byte) in frame[14..].iter_mut().enumerate() {
        *byte = (n as usize * 31 + i * 7 + len) as u8;
    }
    if len >= 18 {
        frame[14..18].copy_from_slice(&n.to_be_bytes());
    }
    frame
}

/// The number in a frame of [`frame`].
pub fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[14..18].try_into().unwrap())
}

pub fn send(tx: &mut PacketTx, frame: &[u8]) {
    while !tx.send(frame).unwrap() {
        tx.kick().unwrap();
    }
}

/// Sleeps until a frame is in the ring.
pub fn wait(rx: &mut PacketRx) {
    let waitable = rx.waitable().unwrap();
    assert!(wait_readable(waitable.fd(), Some(Duration::from_secs(10))).unwrap());
}

pub type Received = Vec<(Vec<u8>, RxMeta)>;

/// Polls until there are `n` frames, or for ten seconds in vain.
pub fn receive(rx: &mut PacketRx, n: usize) -> Received {
    let mut frames = Received::new();
    let end = Instant::now() + Duration::from_secs(10);
    while frames.len() < n && Instant::now() < end {
        let got = rx.poll(n - frames.len(), |f| frames.push((f.bytes.to_vec(), f.meta))).unwrap();
        if got == 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!(frames.len(), n, "frames within ten seconds; {:?}", rx.stats());
    frames
}

/// Everything that comes before the marker frame, which is sent by this call.
pub fn receive_all(rx: &mut PacketRx, tx: &mut PacketTx) -> Received {
    let marker = frame(u32::MAX, 60);
    send(tx, &marker);
    tx.kick().unwrap();
    let mut frames = Received::new();
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        rx.poll(64, |f| frames.push((f.bytes.to_vec(), f.meta))).unwrap();
        if frames.last().is_some_and(|(bytes, _)| *bytes == marker) {
            frames.pop();
            return frames;
        }
        std::thread::yield_now();
    }
    panic!("the marker did not come within ten seconds; {:?}", rx.stats());
}
