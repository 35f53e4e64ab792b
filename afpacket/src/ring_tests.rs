//! The rings over memory of our own: stamps that no veth gives, and headers that no kernel writes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use linerate_common::clock::{PhcReading, PhcWatch};
use linerate_common::{ClockDomain, Clocked, FrameRx, RxFlags, RxFrame, RxMeta, RxStats, Waitable};

use crate::blocks::{self, Blocks};
use crate::decode::{Decoder, Seen};
use crate::frames::{self, Frames};
use crate::ledger::Ledger;
use crate::map::Map;
use crate::rules::Rules;
use crate::rx::{PacketRx, RxRing};
use crate::sys::Socket;

const BLOCK: usize = 4096;
const SLOT: usize = 256;

fn decoder(header: usize) -> Decoder {
    Decoder {
        header,
        snaplen: 1 << 18,
        max_frame: 1522,
        outgoing: true,
        hardware_ahead_ns: 37_000_000_000,
        hardware_flags: RxFlags::TS_HW,
    }
}

fn ledger() -> Ledger {
    Ledger { socket: Socket::fake(), stats: RxStats::default() }
}

/// Random numbers that are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Mostly `usual`, sometimes near it, sometimes anything.
    fn around(&mut self, usual: u32) -> u32 {
        match self.next() % 32 {
            0 => self.next() as u32,
            1 => 0,
            2 => u32::MAX - self.next() as u32 % 64,
            3 => usual.wrapping_add(self.next() as u32 % 64).wrapping_sub(16),
            _ => usual,
        }
    }
}

fn v3_header(r: &mut Random) -> libc::tpacket3_hdr {
    // SAFETY: plain data.
    let mut h: libc::tpacket3_hdr = unsafe { std::mem::zeroed() };
    h.tp_next_offset = r.around(160);
    h.tp_snaplen = r.around(60);
    h.tp_len = r.around(60);
    h.tp_mac = r.around(86) as u16;
    h.tp_status = r.next() as u32;
    h.hv1.tp_vlan_tpid = 0x8100;
    h
}

fn within(frame: &[u8], memory: &Range<usize>) -> bool {
    let start = frame.as_ptr() as usize;
    memory.contains(&start) && start + frame.len() <= memory.end
}

#[test]
fn no_header_leads_out_of_its_block() {
    let (mut r, mut ledger) = (Random(0x1234_5678_9abc_def1), ledger());
    let d = decoder(blocks::HEADER);
    for round in 0..20_000 {
        let map = Map::anonymous(2 * BLOCK);
        // SAFETY: offsets within the map, whose two blocks nobody else uses yet.
        let start = unsafe {
            let start = map.at(0);
            let block: *mut libc::tpacket_block_desc = start.cast();
            (*block).hdr.bh1.block_status = libc::TP_STATUS_USER;
            (*block).hdr.bh1.num_pkts = r.around(16);
            (*block).hdr.bh1.offset_to_first_pkt = r.around(64);
            for at in (64..BLOCK - 64).step_by(160) {
                start.add(at).cast::<libc::tpacket3_hdr>().write_unaligned(v3_header(&mut r));
            }
            start as usize
        };
        let memory = start..start + BLOCK;
        let mut ring = Blocks::new(map, BLOCK, 2);
        let before = ledger.stats;
        let mut window = [(0, Seen { at: 0, len: 0, meta: RxMeta::plain(0) }); 64];
        let mut shown = 0;
        if round % 2 == 0 {
            shown += ring.poll(1000, &d, &mut ledger, |f: RxFrame<'_>| {
                assert!(within(f.bytes, &memory));
            });
        } else {
            loop {
                let n = ring.window(&mut window, &d, &mut ledger);
                for entry in &window[..n] {
                    // SAFETY: of the window just filled.
                    assert!(within(unsafe { ring.frame(entry) }.bytes, &memory));
                }
                ring.give_back();
                shown += n;
                if n == 0 {
                    break;
                }
            }
        }
        assert_eq!(ledger.stats.frames - before.frames, shown as u64);
        assert_eq!(ring.poll(1, &d, &mut ledger, |_| ()), 0, "the block went back");
    }
    let stats = ledger.stats;
    assert!(stats.frames > 1000 && stats.malformed > 1000, "{stats:?}");
}

#[test]
fn no_header_leads_out_of_its_slot() {
    let (mut r, mut ledger) = (Random(0xfeed_f00d_dead_beef), ledger());
    let d = decoder(frames::HEADER);
    let map = Map::anonymous(4 * SLOT);
    // SAFETY: within the map.
    let start = unsafe { map.at(0) };
    let mut ring = Frames::new(map, SLOT, 4);
    for n in 0..40_000 {
        let slot = start as usize + n % 4 * SLOT;
        // SAFETY: plain data; the slot is the kernel's, whom we play.
        unsafe {
            let mut h: libc::tpacket2_hdr = std::mem::zeroed();
            h.tp_status = r.next() as u32 | libc::TP_STATUS_USER;
            h.tp_snaplen = r.around(60);
            h.tp_len = r.around(60);
            h.tp_mac = r.around(70) as u16;
            if n % 4 == 0 {
                // Right at the end of the slot, or just beyond.
                h.tp_snaplen = (SLOT - 70 + n / 4 % 5 - 2) as u32;
            }
            (slot as *mut libc::tpacket2_hdr).write(h);
        }
        let frames = ring.poll(10, &d, &mut ledger, |f| {
            assert!(within(f.bytes, &(slot..slot + SLOT)));
        });
        assert!(frames <= 1);
    }
    let stats = ledger.stats;
    assert!(stats.frames > 1000 && stats.malformed > 1000, "{stats:?}");
    assert_eq!(stats.frames + stats.malformed, 40_000, "each slot went back");
}

#[test]
fn stamps_and_flags_are_passed_on() {
    let map = Map::anonymous(SLOT);
    // SAFETY: within the map.
    let start = unsafe { map.at(0) };
    let mut ring = Frames::new(map, SLOT, 1);
    let mut ledger = ledger();
    let mut decode = |status: u32, len: u32| {
        // SAFETY: plain data; the slot is the kernel's, whom we play.
        unsafe {
            let mut h: libc::tpacket2_hdr = std::mem::zeroed();
            h.tp_status = status | libc::TP_STATUS_USER;
            (h.tp_snaplen, h.tp_len, h.tp_mac) = (60, len, 70);
            (h.tp_sec, h.tp_nsec) = (1_790_000_037, 999_999_999);
            start.cast::<libc::tpacket2_hdr>().write(h);
        }
        let mut meta = RxMeta::plain(0);
        assert_eq!(ring.poll(1, &decoder(frames::HEADER), &mut ledger, |f| meta = f.meta), 1);
        meta
    };
    let software = decode(libc::TP_STATUS_TS_SOFTWARE | libc::TP_STATUS_CSUM_VALID, 60);
    assert_eq!(software.ts_ns, 1_790_000_037_999_999_999);
    assert_eq!(software.flags, RxFlags::TS_SW | RxFlags::CSUM_OK);
    let hardware = decode(libc::TP_STATUS_TS_RAW_HARDWARE | libc::TP_STATUS_CSUMNOTREADY, 60);
    assert_eq!(hardware.ts_ns, 1_790_000_000_999_999_999, "UTC, not TAI");
    assert_eq!(hardware.flags, RxFlags::TS_HW | RxFlags::CSUM_PARTIAL);
    let merged = decode(crate::sys::TP_STATUS_GSO_TCP, 1522);
    assert_eq!(merged.flags, RxFlags::TS_SW | RxFlags::MERGED | RxFlags::TRUNCATED);
    let long = decode(0, 1523);
    assert_eq!(long.flags, RxFlags::TS_SW | RxFlags::MERGED | RxFlags::TRUNCATED);
    let losing = decode(libc::TP_STATUS_LOSING, 60);
    assert_eq!(losing.flags, RxFlags::TS_SW | RxFlags::LOSS_BEFORE);
}

/// A frame that the card stamped with this second of its clock, as the queue shows it.
fn stamped(rx: &mut PacketRx, slot: *mut u8, sec: u32) -> RxMeta {
    // SAFETY: plain data; the slot is the kernel's, whom we play.
    unsafe {
        let mut h: libc::tpacket2_hdr = std::mem::zeroed();
        h.tp_status = libc::TP_STATUS_USER | libc::TP_STATUS_TS_RAW_HARDWARE;
        (h.tp_snaplen, h.tp_len, h.tp_mac, h.tp_sec) = (60, 60, 70, sec);
        slot.cast::<libc::tpacket2_hdr>().write(h);
    }
    let mut meta = RxMeta::plain(0);
    assert_eq!(rx.poll(1, |f| meta = f.meta), Ok(1));
    meta
}

#[test]
fn a_card_that_is_moved_to_tai_is_followed() {
    type Look = fn(&mut PacketRx);
    let ways: [Look; 2] = [|rx| _ = rx.stats(), |rx| rx.arm().unwrap()];
    for look in ways {
        let ahead = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&ahead);
        let read = move || Some(PhcReading { ahead_ns: shown.load(Ordering::Relaxed), tai_s: 37 });
        let map = Map::anonymous(SLOT);
        // SAFETY: within the map.
        let slot = unsafe { map.at(0) };
        let ring = RxRing::Frames(Frames::new(map, SLOT, 1));
        let rules = Rules::new(&[], 1 << 18, true).unwrap();
        let phc = PhcWatch::with(2, read);
        let decoder = decoder(frames::HEADER);
        let mut rx = PacketRx::new(ring, decoder, Socket::fake(), rules, Some(phc));
        let utc = 1_790_000_000;
        let before = stamped(&mut rx, slot, utc);
        assert_eq!((before.ts_ns / 1_000_000_000, before.flags), (utc.into(), RxFlags::TS_HW));

        ahead.store(37_000_000_000, Ordering::Relaxed);
        let begun = Instant::now();
        while rx.clock().domain == ClockDomain::Phc(2) {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody looked");
            look(&mut rx);
        }
        let moved = stamped(&mut rx, slot, utc + 37);
        assert_eq!(moved.ts_ns / 1_000_000_000, utc.into());
        assert_eq!(moved.flags, RxFlags::TS_HW | RxFlags::TS_UNSYNCED, "of either time, perhaps");
        assert_eq!((rx.clock().domain, rx.clock().synced), (ClockDomain::PhcTai(2), Some(false)));
        // The next look finds the same.
        while rx.clock().synced.is_some() {
            look(&mut rx);
        }
        assert_eq!(stamped(&mut rx, slot, utc + 37).flags, RxFlags::TS_HW);
    }
}
