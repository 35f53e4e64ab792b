//! Files of every kind, whole, cut at every byte, bent and replaced by noise.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod files;

use std::io::{Cursor, Read, Write as _};

use files::{Frame, Order, SECOND, frames, gzip, pcapng_frames, read};
use linerate::file::{FileErrorKind, FileRx, Reader};
use linerate::{ClockDomain, Clocked, ErrorKind, FrameRx, RxFlags};
use proptest::prelude::*;

/// Of compressed data that is damaged, all that comes before the damage is delivered.
#[test]
fn what_was_packed_before_the_damage_is_delivered() {
    const FRAMES: u32 = 1_000;
    let order = Order { big: false };
    let mut file = Order { big: false }.classic(0xa1b2_3c4d, 1);
    file.truncate(24);
    for i in 0..FRAMES {
        file.extend([SECOND as u32, i, 64, 64].map(|n| order.u32(n)).concat());
        file.extend([i as u8; 64]);
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&file).unwrap();
    // Ends the block at a whole byte, so that what follows is the next block's head.
    gz.flush().unwrap();
    let whole = gz.get_ref().clone();
    for (tail, kind) in [
        (&[0xff; 64][..], FileErrorKind::Damaged), // no such kind of block
        (&[], FileErrorKind::Truncated),
        // An empty last block, then a checksum that is none.
        (&[3, 0, 1, 2, 3, 4, 0, 0, 0, 0], FileErrorKind::Damaged),
    ] {
        let mut reader = Reader::new(Cursor::new([&whole, tail].concat())).unwrap();
        let mut seen = 0;
        let error = loop {
            match reader.next() {
                Ok(Some(record)) => {
                    assert_eq!(record.bytes, [seen as u8; 64]);
                    seen += 1;
                }
                Ok(None) => panic!("damage after {seen} frames is not told"),
                Err(e) => break e,
            }
        };
        assert_eq!((seen, error.kind()), (FRAMES, kind), "{error}");
        assert_eq!(error.offset(), file.len() as u64, "{error}");
    }
}

/// Members of all kinds of headers, one after the other.
#[test]
fn members_of_a_gzip_follow_each_other() {
    let file = Order { big: true }.pcapng();
    let (first, second) = file.split_at(100);
    let mut gz = flate2::GzBuilder::new()
        .filename("capture.pcapng")
        .comment("made by a test")
        .extra(vec![7; 300])
        .write(Vec::new(), flate2::Compression::best());
    gz.write_all(first).unwrap();
    let both = [gz.finish().unwrap(), gzip(b""), gzip(second)].concat();
    let mut reader = Reader::new(Cursor::new(both)).unwrap();
    let mut frames = 0;
    while reader.next().unwrap().is_some() {
        frames += 1;
    }
    assert_eq!(frames, pcapng_frames().len());
}

fn every_kind() -> Vec<(&'static str, Vec<u8>, Vec<Frame>)> {
    let (le, be) = (Order { big: false }, Order { big: true });
    let mut kinds = vec![
        ("us le", le.classic(0xa1b2_c3d4, 1000), frames()),
        ("us be", be.classic(0xa1b2_c3d4, 1000), frames()),
        ("ns le", le.classic(0xa1b2_3c4d, 1), frames()),
        ("ns be", be.classic(0xa1b2_3c4d, 1), frames()),
        ("ng le", le.pcapng(), pcapng_frames()),
        ("ng be", be.pcapng(), pcapng_frames()),
    ];
    kinds.push(("ng le gz", gzip(&le.pcapng()), pcapng_frames()));
    kinds
}

/// A stream that gives its bytes in small, odd pieces.
struct Trickle(Cursor<Vec<u8>>, usize);

impl Read for Trickle {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 % 7 + 1;
        let n = out.len().min(self.1);
        self.0.read(&mut out[..n])
    }
}

#[test]
fn every_kind_of_file_reads_the_same_in_any_pieces() {
    for (name, file, expected) in every_kind() {
        let (frames, error) = read(Cursor::new(file.clone()));
        assert!(error.is_none(), "{name}: {error:?}");
        assert_eq!(frames, expected, "{name}");
        let (frames, error) = read(Trickle(Cursor::new(file), 0));
        assert!(error.is_none() && frames == expected, "{name} in pieces");
    }
}

#[test]
fn a_file_cut_anywhere_gives_all_before_the_cut_and_says_where() {
    for (name, file, expected) in every_kind() {
        for cut in 0..file.len() {
            let (frames, error) = read(Cursor::new(file[..cut].to_vec()));
            assert!(expected.starts_with(&frames), "{name} cut at {cut}");
            match error {
                None => assert!(!frames.is_empty() || cut >= 24, "{name} cut at {cut}"),
                Some(e) => {
                    let kinds = [FileErrorKind::Truncated, FileErrorKind::NotACapture];
                    assert!(kinds.contains(&e.kind()), "{name} cut at {cut}: {e}");
                    assert!(e.offset() <= cut as u64 || name.ends_with("gz"));
                    assert!(!e.to_string().contains('\n'));
                }
            }
        }
    }
}

#[test]
fn only_cuts_between_records_go_unnoticed() {
    let order = Order { big: false };
    let clean = |file: &[u8]| {
        (24..file.len()).filter(|cut| read(Cursor::new(file[..*cut].to_vec())).1.is_none()).count()
    };
    // The header, then each of the first two records.
    assert_eq!(clean(&order.classic(0xa1b2_3c4d, 1)), 3);
    assert_eq!(clean(&order.pcapng()), 10, "eleven blocks have ten seams");
    assert_eq!(clean(&gzip(&order.pcapng())), 0, "gzip has a checksum at the end");
}

#[test]
fn impossible_lengths_are_refused_without_memory() {
    let order = Order { big: false };
    let good = order.classic(0xa1b2_c3d4, 1000);
    let mut huge = good.clone();
    huge[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let (frames, error) = read(Cursor::new(huge));
    let error = error.unwrap();
    assert_eq!((frames.len(), error.kind(), error.offset()), (0, FileErrorKind::Damaged, 24));
    assert!(error.to_string().starts_with("at byte 24: a record of 4294967295 bytes"), "{error}");

    // Blocks of 4 GiB, of a known type and of an unknown one.
    for (kind, expected) in [(6, FileErrorKind::Damaged), (0xbad, FileErrorKind::Truncated)] {
        let mut file = order.pcapng();
        let at = file.len();
        file.extend(order.u32(kind));
        file.extend(order.u32(u32::MAX - 3));
        file.extend([0; 64]);
        let (frames, error) = read(Cursor::new(file));
        assert_eq!(frames, pcapng_frames());
        let error = error.unwrap();
        assert_eq!((error.kind(), error.offset()), (expected, at as u64), "{error}");
    }

    // A frame that claims more than its block.
    let mut file = [order.section(), order.interface(0, &[])].concat();
    let at = file.len();
    file.extend(order.packet(6, [0; 4], 0, 60, &[0; 60]));
    file[at + 20..at + 24].copy_from_slice(&200_u32.to_le_bytes());
    let error = read(Cursor::new(file)).1.unwrap();
    assert_eq!(error.kind(), FileErrorKind::Damaged);
}

#[test]
fn the_two_lengths_of_a_block_must_agree() {
    let order = Order { big: true };
    for kind in [6, 0xbad] {
        let mut file = order.pcapng();
        let at = file.len() as u64;
        file.extend(order.packet(kind, [0; 4], 0, 60, &[0; 60]));
        let last = file.len() - 1;
        file[last] ^= 4;
        let (frames, error) = read(Cursor::new(file));
        assert_eq!(frames, pcapng_frames());
        let error = error.unwrap();
        assert_eq!((error.kind(), error.offset()), (FileErrorKind::Damaged, at), "{error}");
    }
}

#[test]
fn offsets_are_of_the_file_not_of_the_buffer() {
    let order = Order { big: false };
    let mut file = order.classic(0xa1b2_3c4d, 1);
    let records = file[24..].to_vec();
    while file.len() < 3 << 20 {
        file.extend(&records);
    }
    let whole = file.len() as u64;
    file.extend([0xff; 16]);
    let (frames, error) = read(Cursor::new(file.clone()));
    assert_eq!(frames.len(), (whole as usize - 24) / records.len() * 3);
    assert_eq!(error.unwrap().offset(), whole);
    let mut reader = Reader::new(Cursor::new(file)).unwrap();
    let mut expected = 24;
    while let Ok(Some(record)) = reader.next() {
        assert_eq!(record.info.offset, expected);
        expected += 16 + record.bytes.len() as u64;
    }
    assert_eq!(expected, whole);
}

#[test]
fn frames_of_unknown_interfaces_are_damage() {
    let order = Order { big: false };
    let mut file = order.pcapng();
    let at = file.len() as u64;
    // Interface 1 existed, in the section before.
    file.extend(order.packet(6, order.u32(1), 0, 14, &[0; 14]));
    let (frames, error) = read(Cursor::new(file));
    assert_eq!(frames, pcapng_frames());
    let error = error.unwrap();
    assert_eq!((error.kind(), error.offset()), (FileErrorKind::Damaged, at));
    assert!(error.to_string().contains("interface 1 is used, but 1 are described"), "{error}");
}

#[test]
fn what_is_no_capture_says_so() {
    for file in [&b""[..], b"\x7fELF and more", b"\x1f\x8b", b"G"] {
        let (frames, error) = read(Cursor::new(file.to_vec()));
        assert!(frames.is_empty() && error.is_some());
    }
    let error = read(Cursor::new(b"\x7fELF and more".to_vec())).1.unwrap();
    assert_eq!(error.kind(), FileErrorKind::NotACapture);
    let error = linerate::open("pcap:/nonexistent/file.pcap").unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/file.pcap: No such file"), "{error}");
}

#[test]
fn the_port_delivers_all_before_the_damage_then_fails_once() {
    let order = Order { big: false };
    let mut file = order.classic(0xa1b2_3c4d, 1);
    let whole = file.len();
    file.extend([0; 10]);
    let mut rx = FileRx::of(Reader::new(Cursor::new(file)).unwrap());
    assert_eq!(rx.acquire(64).unwrap(), 3);
    assert_eq!(rx.frame(1).bytes, frames()[1].2);
    assert!(rx.frame(1).meta.flags.contains(RxFlags::TRUNCATED));
    assert!(!rx.finished());
    let error = rx.acquire(64).unwrap_err();
    assert_eq!((error.kind, error.errno), (ErrorKind::Os, 74));
    assert_eq!(rx.failure().unwrap().offset(), whole as u64);
    assert!(rx.finished());
    assert_eq!(rx.acquire(64).unwrap(), 0);
    assert_eq!((rx.stats().frames, rx.stats().flagged), (3, 2));
    assert_eq!(rx.clock().domain, ClockDomain::Recorded);
}

#[test]
fn the_port_refuses_what_is_not_ethernet() {
    let mut file = Order { big: false }.classic(0xa1b2_3c4d, 1);
    file[20] = 113;
    let mut rx = FileRx::of(Reader::new(Cursor::new(file)).unwrap());
    assert!(rx.acquire(64).is_err());
    let text = rx.failure().unwrap().to_string();
    assert!(text.contains("link type 113"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn bent_files_never_panic(kind in 0..7_usize, at in any::<prop::sample::Index>(), byte: u8, more: [u8; 4]) {
        let (_, mut file, expected) = every_kind().swap_remove(kind);
        let at = at.index(file.len());
        file[at] = byte;
        for (i, b) in more.into_iter().enumerate().filter(|_| byte % 2 == 0) {
            if let Some(place) = file.get_mut(at + i) {
                *place = b;
            }
        }
        let (frames, _) = read(Cursor::new(file));
        prop_assert!(frames.len() <= expected.len() + 8);
    }

    #[test]
    fn noise_never_panics(mut noise: Vec<u8>, magic in 0..5_usize) {
        let magic = [0xa1b2_c3d4_u32, 0xd4c3_b2a1, 0x4d3c_b2a1, 0x0a0d_0d0a, 0x8b1f][magic];
        noise.splice(0..0, magic.to_le_bytes());
        let _ = read(Cursor::new(noise));
    }
}
