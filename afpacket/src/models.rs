//! Every order in which we and the kernel can meet at the status words of either ring.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linerate_common::{RxFlags, RxFrame, RxMeta, RxStats};
use loom::thread;

use crate::blocks::{self, Blocks};
use crate::decode::{Decoder, Seen};
use crate::frames::{self, Frames};
use crate::ledger::Ledger;
use crate::map::{Map, Shared};
use crate::sys::Socket;

const UNIT: usize = 512;
/// Where a frame is, from its header.
const MAC: usize = 96;
/// From one header of a block to the next.
const STEP: usize = 128;

fn decoder(header: usize) -> Decoder {
    Decoder {
        header,
        snaplen: 64,
        max_frame: 1522,
        outgoing: true,
        hardware_ahead_ns: 0,
        hardware_flags: RxFlags::TS_HW,
    }
}

fn ledger() -> Ledger {
    Ledger { socket: Socket::fake(), stats: RxStats::default() }
}

/// Waits until a unit is the kernel's, and gives its bytes.
fn claim(ring: &Shared, unit: usize) -> *mut u8 {
    while ring.status(unit).load(Ordering::Acquire) != libc::TP_STATUS_KERNEL {
        thread::yield_now();
    }
    ring.bytes_of(unit)
}

/// Fills blocks of these many frames, numbered from 0.
fn fill_blocks(ring: &Shared, counts: &[u64]) {
    let mut number = 0;
    for (i, &count) in counts.iter().enumerate() {
        let block = claim(ring, i % 2);
        // SAFETY: the block is the kernel's, whom this plays, and all of this is within it.
        unsafe {
            let mut desc: libc::tpacket_block_desc = std::mem::zeroed();
            desc.hdr.bh1.num_pkts = count as u32;
            desc.hdr.bh1.offset_to_first_pkt = 64;
            block.cast::<libc::tpacket_block_desc>().write(desc);
            for n in 0..count as usize {
                let header = block.add(64 + n * STEP);
                let mut h: libc::tpacket3_hdr = std::mem::zeroed();
                (h.tp_snaplen, h.tp_len) = (8, 8);
                (h.tp_mac, h.tp_next_offset) = (MAC as u16, STEP as u32);
                header.cast::<libc::tpacket3_hdr>().write(h);
                header.add(MAC).cast::<u64>().write(number);
                number += 1;
            }
        }
        ring.status(i % 2).store(libc::TP_STATUS_USER, Ordering::Release);
    }
}

/// Fills `count` slots with one numbered frame each.
fn fill_slots(ring: &Shared, count: u64) {
    for number in 0..count {
        let unit = number as usize % 2;
        let slot = claim(ring, unit);
        // SAFETY: the slot is the kernel's, whom this plays, and all of this is within it.
        unsafe {
            let mut h: libc::tpacket2_hdr = std::mem::zeroed();
            (h.tp_snaplen, h.tp_len, h.tp_mac) = (8, 8, MAC as u16);
            slot.cast::<libc::tpacket2_hdr>().write(h);
            slot.add(MAC).cast::<u64>().write(number);
        }
        ring.status(unit).store(libc::TP_STATUS_USER, Ordering::Release);
    }
}

/// Is this frame `*want`, and its unit still ours?
fn expect(ring: &Shared, frame: RxFrame<'_>, want: &mut u64) {
    let number: [u8; 8] = frame.bytes.try_into().expect("eight bytes");
    ring.touch(frame.bytes.as_ptr());
    assert_eq!(u64::from_ne_bytes(number), *want);
    *want += 1;
}

const BLANK: (usize, Seen) = (0, Seen { at: 0, len: 0, meta: RxMeta::plain(0) });

#[test]
fn blocks_go_to_and_fro_polled() {
    loom::model(|| {
        let (map, shared) = Map::of_units(2, UNIT);
        let (mut ring, mut ledger) = (Blocks::new(map, UNIT, 2), ledger());
        let theirs = Arc::clone(&shared);
        let kernel = thread::spawn(move || fill_blocks(&theirs, &[2, 1, 1]));
        let (decoder, mut want) = (decoder(blocks::HEADER), 0);
        while want < 4 {
            // One at a time: between two polls a block may be half read.
            let see = |f: RxFrame<'_>| expect(&shared, f, &mut want);
            if ring.poll(1, &decoder, &mut ledger, see) == 0 {
                thread::yield_now();
            }
        }
        kernel.join().expect("no panic");
        assert_eq!((ledger.stats.frames, ledger.stats.malformed), (4, 0));
    });
}

#[test]
fn blocks_go_to_and_fro_in_windows() {
    loom::model(|| {
        let (map, shared) = Map::of_units(2, UNIT);
        let (mut ring, mut ledger) = (Blocks::new(map, UNIT, 2), ledger());
        let theirs = Arc::clone(&shared);
        let kernel = thread::spawn(move || fill_blocks(&theirs, &[2, 1, 1]));
        let (decoder, mut want) = (decoder(blocks::HEADER), 0);
        let mut window = [BLANK; 4];
        while want < 4 {
            let n = ring.window(&mut window, &decoder, &mut ledger);
            for entry in &window[..n] {
                // SAFETY: of the window just filled.
                expect(&shared, unsafe { ring.frame(entry) }, &mut want);
            }
            ring.give_back();
            if n == 0 {
                thread::yield_now();
            }
        }
        kernel.join().expect("no panic");
    });
}

#[test]
fn slots_go_to_and_fro_polled() {
    loom::model(|| {
        let (map, shared) = Map::of_units(2, UNIT);
        let (mut ring, mut ledger) = (Frames::new(map, UNIT, 2), ledger());
        let theirs = Arc::clone(&shared);
        let kernel = thread::spawn(move || fill_slots(&theirs, 4));
        let (decoder, mut want) = (decoder(frames::HEADER), 0);
        while want < 4 {
            let see = |f: RxFrame<'_>| expect(&shared, f, &mut want);
            if ring.poll(2, &decoder, &mut ledger, see) == 0 {
                thread::yield_now();
            }
        }
        kernel.join().expect("no panic");
        assert_eq!((ledger.stats.frames, ledger.stats.malformed), (4, 0));
    });
}

#[test]
fn slots_go_to_and_fro_in_windows() {
    loom::model(|| {
        let (map, shared) = Map::of_units(2, UNIT);
        let (mut ring, mut ledger) = (Frames::new(map, UNIT, 2), ledger());
        let theirs = Arc::clone(&shared);
        let kernel = thread::spawn(move || fill_slots(&theirs, 4));
        let (decoder, mut want) = (decoder(frames::HEADER), 0);
        let mut window = [BLANK; 4];
        while want < 4 {
            let n = ring.window(&mut window, &decoder, &mut ledger);
            for entry in &window[..n] {
                // SAFETY: of the window just filled.
                expect(&shared, unsafe { ring.frame(entry) }, &mut want);
            }
            ring.give_back();
            if n == 0 {
                thread::yield_now();
            }
        }
        kernel.join().expect("no panic");
    });
}

// The models' status words lie beside the memory; the real ones where the reader looks for them.
const _: () = assert!(blocks::STATUS == 8 && offset_of!(libc::tpacket2_hdr, tp_status) == 0);
