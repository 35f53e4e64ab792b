//! What is written is read back, and a full disk is counted to the frame.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod files;

use std::io::Cursor;

use files::read;
use linerate::adapter::FrameSink;
use linerate::file::{FileSink, InterfaceOptions, Reader, Writer};
use linerate::{NO_TS, RxFlags, RxFrame, RxMeta};
use proptest::prelude::*;

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
