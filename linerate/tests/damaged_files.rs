//! Files of every kind made here, then cut at every byte, bent and replaced by noise.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Cursor, Read, Write as _};

use linerate::adapter::FrameSink;
use linerate::file::{FileErrorKind, FileRx, FileSink, InterfaceOptions, Reader, Writer};
use linerate::{ClockDomain, Clocked, ErrorKind, FrameRx, NO_TS, RxFlags, RxFrame, RxMeta};
use proptest::prelude::*;

/// One frame as it should come out: time, length on the wire, bytes.
type Frame = (u64, u32, Vec<u8>);

const SECOND: u64 = 1_790_000_000;

fn frames() -> Vec<Frame> {
    let times = [5_000, 4_000, 999_999_000];
    let frame = |(i, ns): (usize, u64)| {
        let len = 14 + 3 * i;
        (SECOND * 1_000_000_000 + ns, (len + i) as u32, vec![i as u8 + 1; len])
    };
    times.into_iter().enumerate().map(frame).collect()
}

/// Writes integers in either byte order.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u16(self, n: u16) -> [u8; 2] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn u32(self, n: u32) -> [u8; 4] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn classic(self, magic: u32, fraction_ns: u64) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(self.u32(magic));
        file.extend([self.u16(2), self.u16(4)].concat());
        file.extend([0, 0, 65_535, 1].map(|n| self.u32(n)).concat());
        for (ns, wire_len, bytes) in frames() {
            let fraction = (ns % 1_000_000_000 / fraction_ns) as u32;
            let head = [SECOND as u32, fraction, bytes.len() as u32, wire_len];
            file.extend(head.map(|n| self.u32(n)).concat());
            file.extend(bytes);
        }
        file
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = self.u32(body.len() as u32 + 12);
        [&self.u32(kind), &len, body.as_slice(), &len].concat()
    }

    fn section(self) -> Vec<u8> {
        let words = [self.u32(0x1a2b_3c4d).to_vec(), self.u16(1).to_vec(), self.u16(0).to_vec()];
        self.block(0x0a0d_0d0a, &[words.concat(), vec![0xff; 8]].concat())
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [self.u16(code), self.u16(value.len() as u16)].concat();
        option.extend(value);
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn interface(self, snap_len: u32, options: &[Vec<u8>]) -> Vec<u8> {
        let head = [self.u16(1), self.u16(0)].concat();
        self.block(1, &[head, self.u32(snap_len).to_vec(), options.concat(), vec![0; 4]].concat())
    }

    fn packet(self, kind: u32, interface: [u8; 4], ticks: u64, wire_len: u32, b: &[u8]) -> Vec<u8> {
        let words = [(ticks >> 32) as u32, ticks as u32, b.len() as u32, wire_len];
        let head = [interface.to_vec(), words.map(|n| self.u32(n)).concat()].concat();
        let mut body = [head, b.to_vec()].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        // Direction: outbound.
        body.extend([self.option(2, &self.u32(2)), vec![0; 4]].concat());
        self.block(kind, &body)
    }

    /// Two sections; µs, ns, binary and offset clocks; enhanced, simple and obsolete packets;
    /// a block of unknown type.
    fn pcapng(self) -> Vec<u8> {
        let f = frames();
        let offset = self.option(14, &(SECOND as i64).to_ne_bytes_of(self));
        let binary = self.interface(0, &[self.option(9, &[0x80 | 20]), offset]);
        let micros = self.interface(20, &[self.option(2, b"us"), self.option(1, b"hello")]);
        let nanos = self.interface(0, &[self.option(9, &[9])]);
        [
            self.section(),
            micros,
            nanos,
            self.packet(6, self.u32(0), f[0].0 / 1000, f[0].1, &f[0].2),
            self.block(0x0000_0bad, &[1; 13]),
            self.packet(6, self.u32(1), f[1].0, f[1].1, &f[1].2),
            self.section(),
            binary,
            self.packet(6, self.u32(0), 1 << 19, 14, &[7; 14]),
            self.packet(
                2,
                [self.u16(0), self.u16(9)].concat().try_into().unwrap(),
                0,
                15,
                &[8; 15],
            ),
            self.block(3, &[self.u32(13).to_vec(), vec![9; 13]].concat()),
        ]
        .concat()
    }
}

trait BytesOf {
    fn to_ne_bytes_of(self, order: Order) -> [u8; 8];
}

impl BytesOf for i64 {
    fn to_ne_bytes_of(self, order: Order) -> [u8; 8] {
        if order.big { self.to_be_bytes() } else { self.to_le_bytes() }
    }
}

fn pcapng_frames() -> Vec<Frame> {
    let f = frames();
    let base = SECOND * 1_000_000_000;
    vec![
        f[0].clone(),
        f[1].clone(),
        (base + 500_000_000, 14, vec![7; 14]),
        (base, 15, vec![8; 15]),
        (NO_TS, 13, vec![9; 13]),
    ]
}

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

fn gzip(file: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(file).unwrap();
    gz.finish().unwrap()
}

/// Every frame up to the end or the first error.
fn read(file: impl Read + Send + 'static) -> (Vec<Frame>, Option<linerate::file::FileError>) {
    let mut reader = match Reader::new(file) {
        Ok(reader) => reader,
        Err(e) => return (Vec::new(), Some(e)),
    };
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(r)) => frames.push((r.info.ts_ns, r.info.wire_len, r.bytes.to_vec())),
            Ok(None) => return (frames, None),
            Err(e) => {
                assert!(matches!(reader.next(), Ok(None)), "nothing comes after an error");
                return (frames, Some(e));
            }
        }
    }
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

/// Accepts so many bytes and then has no room.
#[derive(Debug)]
struct FullDisk(Vec<u8>, usize);

impl std::io::Write for FullDisk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = bytes.len().min(self.1 - self.0.len()).min(1000);
        if n == 0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.extend(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_leaves_a_sound_file_and_an_exact_count() {
    for room in [100, 5_000, 77_777, 300_001] {
        let mut writer = Writer::new(FullDisk(Vec::new(), room), "test").unwrap();
        let id = writer.add_interface(&InterfaceOptions::named("eth2")).unwrap();
        let meta = RxMeta { ts_ns: 7, ..RxMeta::plain(61) };
        let frame = RxFrame { bytes: &[3; 61], meta };
        let mut result = Ok(());
        while result.is_ok() {
            result = writer.write(id, &frame);
        }
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert!(writer.write(id, &frame).is_err(), "it stays failed");
        let intact = writer.intact_bytes() as usize;
        assert!(intact <= room && room - intact < 400);
        let written = writer.frames_written();
        assert!(writer.frames() > written);
        let file = writer.get_ref().unwrap().0[..intact].to_vec();
        if written > 0 {
            let (frames, error) = read(Cursor::new(file));
            assert!(error.is_none(), "{error:?}");
            assert_eq!(frames.len() as u64, written);
        }
    }
}

#[test]
fn a_tap_counts_what_its_file_could_not_take() {
    let mut writer = Writer::new(FullDisk(Vec::new(), 300_000), "test").unwrap();
    let id = writer.add_interface(&InterfaceOptions::named("eth2")).unwrap();
    let mut sink = FileSink::new(writer, id);
    let frame = RxFrame { bytes: &[3; 61], meta: RxMeta::plain(61) };
    for _ in 0..20_000 {
        sink.frame(&frame);
    }
    let written = sink.writer().frames_written();
    assert!(written > 3000 && sink.error().is_some());
    assert_eq!(sink.lost(), 20_000 - written);
    assert!(sink.finish().is_err());
}

#[test]
fn frames_without_a_time_come_back_without_one() {
    let mut writer = Writer::new(Vec::new(), "test").unwrap();
    let first = writer.add_interface(&InterfaceOptions::named("a")).unwrap();
    let second = writer.add_interface(&InterfaceOptions::named("b")).unwrap();
    let frame = RxFrame { bytes: &[1; 15], meta: RxMeta::plain(15) };
    writer.write(first, &frame).unwrap();
    writer.write(second, &frame).unwrap();
    let (frames, error) = read(Cursor::new(writer.finish().unwrap()));
    assert!(error.is_none());
    assert_eq!(frames, [(NO_TS, 15, vec![1; 15]), (0, 15, vec![1; 15])]);
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

    #[test]
    fn what_is_written_is_read(
        frames in prop::collection::vec((0..u64::MAX, 0..3000_u32, prop::collection::vec(any::<u8>(), 0..200), 0..3_u64), 0..40)
    ) {
        let mut writer = Writer::new(Vec::new(), "test").unwrap();
        let id = writer.add_interface(&InterfaceOptions::named("eth2")).unwrap();
        for (ts_ns, extra, bytes, lost) in &frames {
            let flags = if extra % 2 == 0 { RxFlags::OUTGOING } else { RxFlags::TS_SW };
            let wire_len = bytes.len() as u32 + extra;
            let meta = RxMeta { ts_ns: *ts_ns, wire_len, flags, mark: 0 };
            writer.write_after_loss(id, &RxFrame { bytes, meta }, *lost).unwrap();
        }
        let mut reader = Reader::new(Cursor::new(writer.finish().unwrap())).unwrap();
        for (ts_ns, extra, bytes, lost) in &frames {
            let record = reader.next().unwrap().unwrap();
            prop_assert_eq!(record.bytes, bytes.as_slice());
            prop_assert_eq!(record.info.ts_ns, *ts_ns);
            prop_assert_eq!(record.info.wire_len, bytes.len() as u32 + extra);
            prop_assert_eq!(record.info.drops_before, *lost);
            prop_assert_eq!(record.info.epb_flags, if extra % 2 == 0 { 2 } else { 0 });
        }
        prop_assert!(reader.next().unwrap().is_none());
    }
}
