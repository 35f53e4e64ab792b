//! The four real captures: exact counts, and the same bytes and times that tshark reads.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use linerate::file::{InterfaceOptions, Reader, Writer};
use linerate::{FrameRx, RxFlags, RxFrame, RxMeta};

const FILES: [(&str, u64); 4] = [
    ("cme-mdp3-ab.pcapng", 10_000),
    ("iex-deep.pcap.gz", 5_000),
    ("miax-tom-vlan-fcs.pcap", 20_560),
    ("nyse-imbalances-paced.pcap", 11_819),
];

fn data(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("LINERATE_DATA").map_or(beside, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    linerate_lab::skip(test, "no real captures here (LINERATE_DATA names their directory)");
    None
}

/// One line a frame: time, lengths and a checksum of the bytes, as tshark can print it too.
fn digest(bytes: &[u8], ts_ns: u64, wire_len: u32, out: &mut Vec<u8>) {
    let (s, ns) = (ts_ns / 1_000_000_000, ts_ns % 1_000_000_000);
    writeln!(out, "{s}.{ns:09} {} {wire_len} {}", bytes.len(), hex(bytes)).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What tshark reads: its JSON-raw output is the only one with whole frames in hex.
fn tshark_digest(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let out = Command::new("tshark")
        .args(["-r", path.to_str().unwrap(), "-T", "jsonraw", "-j", "frame"])
        .output()
        .map_err(|e| format!("cannot run tshark: {e}"))?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let times = Command::new("tshark")
        .args(["-r", path.to_str().unwrap(), "-T", "fields"])
        .args(["-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len"])
        .output()
        .map_err(|e| format!("cannot run tshark: {e}"))?;
    let json = String::from_utf8(out.stdout).unwrap();
    let mut frames = json
        .match_indices("\"frame_raw\"")
        .map(|(at, _)| json[at + 11..].split('"').nth(1).unwrap_or_default());
    let mut lines = Vec::new();
    for line in String::from_utf8(times.stdout).unwrap().lines() {
        let line = line.replace('\t', " ");
        writeln!(lines, "{line} {}", frames.next().unwrap_or("missing")).unwrap();
    }
    Ok(lines)
}

#[test]
fn every_frame_and_its_copy_are_what_tshark_reads() {
    let test = "every_frame_and_its_copy_are_what_tshark_reads";
    let Some(dir) = data(test) else { return };
    for (name, expected) in FILES {
        let path = dir.join(name);
        let mut reader = Reader::open(&path).unwrap();
        let (mut frames, mut ours) = (0, Vec::new());
        while let Some(record) = reader.next().unwrap() {
            frames += 1;
            digest(record.bytes, record.info.ts_ns, record.info.wire_len, &mut ours);
        }
        assert_eq!(frames, expected, "{name}");
        assert!(reader.finished());
        let theirs = match tshark_digest(&path) {
            Ok(theirs) => theirs,
            Err(why) => return linerate_lab::skip(test, &why),
        };
        assert!(ours == theirs, "{name}: tshark reads something else");

        // The same through a port and into a file of our own.
        let mut port = linerate::open(&format!("pcap:{}", path.display())).unwrap();
        let copy = format!("linerate-{}-{name}.pcapng", std::process::id());
        let copy = std::env::temp_dir().join(copy);
        let mut writer = Writer::new(std::fs::File::create(&copy).unwrap(), "test").unwrap();
        let eth = writer.add_interface(&InterfaceOptions::named("eth2")).unwrap();
        let rx = &mut port.rx[0];
        while !rx.finished() {
            rx.poll(64, |frame| writer.write(eth, &frame).unwrap()).unwrap();
        }
        assert_eq!((rx.stats().frames, writer.frames()), (expected, expected), "{name}");
        writer.finish().unwrap();
        let copied = tshark_digest(&copy).unwrap();
        std::fs::remove_file(&copy).unwrap();
        assert!(ours == copied, "{name}: tshark reads something else in the copy");
    }
}

#[test]
fn the_order_of_the_file_is_kept_and_windows_hold() {
    let Some(dir) = data("the_order_of_the_file_is_kept_and_windows_hold") else { return };
    let mut reader = Reader::open(dir.join(FILES[0].0)).unwrap();
    let mut expected = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        expected.push((record.info.ts_ns, record.bytes.to_vec()));
    }
    let backwards = expected.windows(2).filter(|w| w[1].0 < w[0].0).count();
    assert_eq!(backwards, 581, "records that stand out of time order stay where they are");

    let mut port = linerate::open(&format!("pcap:{}", dir.join(FILES[0].0).display())).unwrap();
    let rx = &mut port.rx[0];
    let mut seen = 0;
    loop {
        let n = rx.acquire(64).unwrap();
        if n == 0 {
            break;
        }
        // All frames of a window at once, backwards: they are lent from one buffer.
        let frames: Vec<RxFrame<'_>> = (0..n).map(|i| rx.frame(i)).collect();
        for (i, frame) in frames.iter().enumerate().rev() {
            let (ts_ns, bytes) = &expected[seen + i];
            assert_eq!((frame.meta.ts_ns, frame.bytes), (*ts_ns, bytes.as_slice()));
        }
        seen += n;
        rx.release();
    }
    assert_eq!(seen, expected.len());
    assert!(rx.finished() && rx.failure().is_none());
}

#[test]
fn flows_of_a_file_are_filtered_and_the_rest_is_counted() {
    let Some(dir) = data("flows_of_a_file_are_filtered_and_the_rest_is_counted") else { return };
    let name = format!("pcap:{}", dir.join(FILES[0].0).display());
    let line_b = "224.0.32.64:15340".parse().unwrap();
    let mut port = linerate::port(&name).flow(line_b).open().unwrap();
    let rx = &mut port.rx[0];
    let mut first = Vec::new();
    while !rx.finished() {
        let sequence = |b: &[u8]| u32::from_le_bytes(b[42..46].try_into().unwrap());
        rx.poll(64, |frame| first.push(sequence(frame.bytes))).unwrap();
    }
    assert_eq!(first, (5615..=10_614).collect::<Vec<_>>());
    assert_eq!((rx.stats().frames, rx.stats().filtered), (5000, 5000));
}

#[test]
fn capinfos_reads_what_the_writer_says_about_itself() {
    let copy = std::env::temp_dir().join(format!("linerate-{}-about.pcapng", std::process::id()));
    let mut writer = Writer::new(std::fs::File::create(&copy).unwrap(), "linerate test 7").unwrap();
    let interface = InterfaceOptions {
        name: "eth2".into(),
        description: "afxdp:eth2?queue=3".into(),
        filter: "udp port 5000".into(),
        hardware: "A card".into(),
        comment: "kernel clock".into(),
        mac: Some([2, 0, 0, 0, 0, 7]),
        speed_bps: Some(25_000_000_000),
        snap_len: 128,
    };
    let eth = writer.add_interface(&interface).unwrap();
    let ts_ns = 1_790_000_000_123_456_789;
    let meta = RxMeta { ts_ns, wire_len: 1514, flags: RxFlags::TRUNCATED, ..RxMeta::plain(128) };
    writer.write_after_loss(eth, &RxFrame { bytes: &[7; 128], meta }, 3).unwrap();
    let stats = linerate::file::Statistics {
        received: Some(9),
        if_dropped: Some(3),
        os_dropped: Some(5),
        delivered: Some(1),
        ..Default::default()
    };
    writer.statistics(eth, &stats, "crc=3 kernel_drop=5").unwrap();
    writer.finish().unwrap();
    let capinfos = Command::new("capinfos").arg(&copy).output();
    let fields = Command::new("tshark")
        .args(["-r", copy.to_str().unwrap(), "-T", "fields", "-e", "frame.time_epoch"])
        .args(["-e", "frame.cap_len", "-e", "frame.len", "-e", "frame.interface_name"])
        .output();
    let mut reader = Reader::open(&copy).unwrap();
    let info = reader.next().unwrap().unwrap().info;
    assert_eq!((info.ts_ns, info.wire_len, info.drops_before), (ts_ns, 1514, 3));
    assert!(reader.next().unwrap().is_none());
    let read = &reader.interfaces()[0];
    assert_eq!(read.name.as_deref(), Some("eth2"));
    assert_eq!(read.description.as_deref(), Some("afxdp:eth2?queue=3"));
    assert_eq!(read.filter.as_deref(), Some("udp port 5000"));
    assert_eq!(read.statistics, Some(stats));
    std::fs::remove_file(&copy).unwrap();
    let (Ok(capinfos), Ok(fields)) = (capinfos, fields) else {
        return linerate_lab::skip("capinfos_reads_what_the_writer_says", "no capinfos or tshark");
    };
    let text = String::from_utf8_lossy(&capinfos.stdout);
    assert!(capinfos.status.success(), "{}", String::from_utf8_lossy(&capinfos.stderr));
    for part in [
        "linerate test 7",
        "Name = eth2",
        "Description = afxdp:eth2?queue=3",
        "Filter string = udp port 5000",
        "Capture length = 128",
        "Hardware = A card",
        "Speed = 25000000000",
        "Time precision = nanoseconds (9)",
        "Number of stat entries = 1",
        "Number of packets = 1",
    ] {
        assert!(text.contains(part), "capinfos does not say {part:?}:\n{text}");
    }
    let fields = String::from_utf8_lossy(&fields.stdout);
    assert_eq!(fields.trim(), "1790000000.123456789\t128\t1514\teth2");
}
