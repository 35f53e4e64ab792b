//! xdpilone: `xdpilone receive IF | send IF BYTES|imix`.

mod common;

use std::num::NonZeroU32;
use std::ptr::{NonNull, null_mut};

use common::{Meter, attach, frame, lengths, ticks};
use xdpilone::xdp::XdpDesc;
use xdpilone::{IfInfo, Socket, SocketConfig, Umem, UmemConfig};

const FRAME: usize = 2048;
const FRAMES: usize = 8192;
const SLOTS: u32 = 4096;
const BURST: u32 = 64;
const COPY: u16 = 2;

fn memory() -> NonNull<[u8]> {
    let map = |flags| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | flags;
        // SAFETY: a new mapping, ours until the end of the process.
        unsafe { libc::mmap(null_mut(), FRAMES * FRAME, 3, flags, -1, 0) }
    };
    let mut at = map(libc::MAP_HUGETLB);
    if at == libc::MAP_FAILED {
        at = map(0);
    }
    assert!(at != libc::MAP_FAILED);
    NonNull::slice_from_raw_parts(NonNull::new(at.cast()).expect("memory"), FRAMES * FRAME)
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let (receives, interface) = (words[1] == "receive", words[2].as_str());
    let area = memory();
    let base: *mut u8 = area.as_ptr().cast();
    let config = UmemConfig {
        fill_size: SLOTS,
        complete_size: SLOTS,
        frame_size: FRAME as u32,
        ..UmemConfig::default()
    };
    // SAFETY: the memory lives until the end of the process and is used by this socket alone.
    let umem = unsafe { Umem::new(config, area) }.expect("umem");
    let mut info = IfInfo::invalid();
    info.from_name(&std::ffi::CString::new(interface).expect("a name")).expect("interface");
    info.set_queue(0);
    let socket = Socket::with_shared(&info, &umem).expect("socket");
    let mut device = umem.fq_cq(&socket).expect("fill and completion ring");
    let slots = NonZeroU32::new(SLOTS);
    let config = SocketConfig {
        rx_size: slots.filter(|_| receives),
        tx_size: slots.filter(|_| !receives),
        bind_flags: SocketConfig::XDP_BIND_NEED_WAKEUP | COPY,
    };
    let user = umem.rx_tx(&socket, &config).expect("rings");

    if receives {
        let mut rx = user.map_rx().expect("rx");
        let mut fill = device.fill(SLOTS);
        fill.insert((0..u64::from(SLOTS)).map(|i| i * FRAME as u64));
        fill.commit();
        drop(fill);
        umem.bind(&user).expect("bind");
        attach(interface, rx.as_raw_fd());
        let mut back = [0u64; BURST as usize];
        let mut meter = Meter::start();
        while meter.goes_on() {
            let start = ticks();
            let mut n = 0;
            let mut window = rx.receive(BURST);
            while let Some(desc) = window.read() {
                // SAFETY: the kernel gives descriptors within the memory.
                let bytes = unsafe {
                    std::slice::from_raw_parts(base.add(desc.addr as usize), desc.len as usize)
                };
                meter.see(bytes);
                back[n] = desc.addr & !(FRAME as u64 - 1);
                n += 1;
            }
            window.release();
            drop(window);
            if n == 0 {
                if device.needs_wakeup() {
                    device.wake();
                }
                continue;
            }
            let mut fill = device.fill(n as u32);
            fill.insert(back[..n].iter().copied());
            fill.commit();
            drop(fill);
            meter.turn(start, n);
        }
        meter.report();
    } else {
        let lengths = lengths(&words[3]);
        let model = frame(*lengths.iter().max().expect("a length"));
        let mut tx = user.map_tx().expect("tx");
        umem.bind(&user).expect("bind");
        let mut spare: Vec<u64> = (0..u64::from(SLOTS)).map(|i| i * FRAME as u64).collect();
        let mut kinds = lengths.iter().copied().cycle();
        let mut meter = Meter::start();
        while meter.goes_on() {
            let start = ticks();
            let mut done = device.complete(SLOTS);
            while let Some(address) = done.read() {
                spare.push(address);
            }
            done.release();
            drop(done);
            let n = spare.len().min(BURST as usize);
            let mut window = tx.transmit(n as u32);
            let sent = window.insert(spare.drain(spare.len() - n..).map(|addr| {
                let len = kinds.next().unwrap_or(60);
                // SAFETY: one of our frames, which the kernel has given back.
                unsafe { base.add(addr as usize).copy_from_nonoverlapping(model.as_ptr(), len) };
                XdpDesc { addr, len: len as u32, options: 0 }
            }));
            assert_eq!(sent as usize, n);
            window.commit();
            drop(window);
            if tx.needs_wakeup() {
                tx.wake();
            }
            meter.turn(start, n);
        }
        meter.report();
    }
}
