//! xsk-rs: `xsk_rs receive IF | send IF BYTES|imix`.

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;

use common::{Meter, attach, frame, lengths, ticks};
use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{Socket, Umem};

const FRAMES: u32 = 8192;
const SLOTS: usize = 4096;
const BURST: usize = 64;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let (receives, interface) = (words[1] == "receive", words[2].as_str());
    let slots = QueueSize::new(SLOTS as u32).expect("a power of two");
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(2048).expect("a frame size"))
        .fill_queue_size(slots)
        .comp_queue_size(slots)
        .build()
        .expect("a configuration");
    let frames = FRAMES.try_into().expect("not 0");
    let new = |huge| Umem::new(config, frames, huge);
    let (umem, mut descs) = new(true).or_else(|_| new(false)).expect("umem");
    let config = SocketConfig::builder()
        .rx_queue_size(slots)
        .tx_queue_size(slots)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let name = interface.parse().expect("a name");
    // SAFETY: the only socket of this memory.
    let (mut tx, mut rx, rings) =
        unsafe { Socket::new(config, &umem, &name, 0) }.expect("socket");
    let (mut fill, mut done) = rings.expect("the first socket of its memory");

    if receives {
        // SAFETY (here and below): descriptors of this memory, which the kernel has given back.
        unsafe { fill.produce(&descs[..SLOTS]) };
        attach(interface, rx.fd().as_raw_fd());
        let mut batch = descs[..BURST].to_vec();
        let mut meter = Meter::start();
        while meter.goes_on() {
            let start = ticks();
            // SAFETY: as above.
            let n = unsafe { rx.consume(&mut batch) };
            if n == 0 {
                if fill.needs_wakeup() {
                    let _ = fill.wakeup(rx.fd_mut(), 0);
                }
                continue;
            }
            for desc in &batch[..n] {
                // SAFETY: as above.
                meter.see(unsafe { umem.data(desc) }.contents());
            }
            let mut back = 0;
            while back < n {
                // SAFETY: as above.
                back += unsafe { fill.produce(&batch[back..n]) };
            }
            meter.turn(start, n);
        }
        meter.report();
    } else {
        let lengths = lengths(&words[3]);
        let model = frame(*lengths.iter().max().expect("a length"));
        let mut kinds = lengths.iter().copied().cycle();
        let mut spare = descs.split_off(SLOTS);
        let mut batch = spare[..BURST].to_vec();
        let mut meter = Meter::start();
        while meter.goes_on() {
            let start = ticks();
            // SAFETY: as above.
            let back = unsafe { done.consume(&mut batch) };
            spare.extend_from_slice(&batch[..back]);
            let first = spare.len() - spare.len().min(BURST);
            for desc in &mut spare[first..] {
                let len = kinds.next().unwrap_or(60);
                // SAFETY: as above.
                let mut data = unsafe { umem.data_mut(desc) };
                let mut cursor = data.cursor();
                cursor.set_pos(0);
                cursor.write_all(&model[..len]).expect("room");
            }
            // SAFETY: as above.
            let sent = unsafe { tx.produce(&spare[first..]) };
            if sent > 0 {
                spare.truncate(first);
            }
            if tx.needs_wakeup() {
                let _ = tx.wakeup();
            }
            meter.turn(start, sent);
        }
        meter.report();
    }
}
