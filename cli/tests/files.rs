//! `capture` from a file: everything behind the receive queue, without a network.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use common::{Scratch, assert_same, frames, json, linerate, mixed_frames, write_pcap};
use linerate::file::Reader;

fn input(dir: &Scratch, count: usize) -> (String, Vec<Vec<u8>>) {
    let path = dir.path("in.pcap");
    let made = mixed_frames(count, 1_000);
    write_pcap(&path, &made);
    (format!("pcap:{path}"), made.into_iter().map(|(_, bytes)| bytes).collect())
}

#[test]
fn a_capture_holds_every_frame_with_its_time_and_the_ledger() {
    let dir = Scratch::new("whole");
    let (port, sent) = input(&dir, 5_000);
    let out = dir.path("out.pcapng");
    let ended = json(&["capture", "-i", &port, "-w", &out]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let last = &ended.last;
    assert_eq!((&last["final"], &last["frames"]), (&true.into(), &5_000.into()), "{last}");
    assert_eq!((&last["delivered"], &last["unexplained"]), (&5_000.into(), &0.into()), "{last}");
    let bytes: usize = sent.iter().map(Vec::len).sum();
    assert_eq!(last["bytes"], bytes, "{last}");
    assert!(last["dropped"].as_object().is_some_and(serde_json::Map::is_empty), "{last}");
    assert_same(&frames(&out), &sent, "pcap: to pcapng");

    let mode = std::fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others may not read a capture");
    let mut reader = Reader::open(&out).unwrap();
    let first = reader.next().unwrap().unwrap();
    assert_eq!(first.info.ts_ns, 1_700_000_000_000_000_000);
    while reader.next().unwrap().is_some() {}
    let interface = &reader.interfaces()[0];
    let statistics = interface.statistics.expect("the file ends with its statistics");
    assert_eq!(statistics.delivered, Some(5_000));
    assert!(interface.description.as_ref().is_some_and(|d| d.starts_with("pcap:")));
}

#[test]
fn count_and_snaplen_limit_what_is_kept() {
    let dir = Scratch::new("limits");
    let (port, sent) = input(&dir, 500);
    let out = dir.path("out.pcapng");
    let ended = json(&["capture", "-i", &port, "-w", &out, "-c", "123", "-s", "64"]);
    assert_eq!((ended.code, &ended.last["frames"]), (Some(0), &123.into()), "{ended:?}");
    assert_eq!(ended.last["unexplained"], 0, "{ended:?}");
    let mut reader = Reader::open(&out).unwrap();
    for frame in &sent[..123] {
        let record = reader.next().unwrap().unwrap();
        assert_eq!(record.info.wire_len as usize, frame.len(), "the true length is kept");
        assert_eq!(record.bytes, &frame[..frame.len().min(64)]);
    }
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn a_rotation_is_sound_in_every_part() {
    let dir = Scratch::new("rotation");
    let (port, sent) = input(&dir, 2_000);
    let out = dir.path("day.pcapng");
    let ended = json(&["capture", "-i", &port, "-w", &out, "-C", "0.2"]);
    assert_eq!(ended.last["delivered"], 2_000, "{ended:?}");
    let files = ended.last["files"].as_u64().unwrap();
    assert!(files >= 4, "{ended:?}");
    let parts = (1..=files).map(|n| dir.path(&format!("day_{n:05}.pcapng")));
    let all: Vec<Vec<u8>> = parts.flat_map(|path| frames(&path)).collect();
    assert_same(&all, &sent, "all parts together");

    let ended =
        json(&["capture", "-i", &port, "-w", &dir.path("ring.pcapng"), "-C", "0.2", "-W", "2"]);
    let left = std::fs::read_dir(dir.path("")).unwrap();
    let ring = left.filter(|f| f.as_ref().unwrap().file_name().to_str().unwrap().contains("ring"));
    assert_eq!((ring.count(), ended.code), (2, Some(0)));
}

#[test]
fn stdout_carries_the_capture_and_stderr_the_words() {
    let dir = Scratch::new("stdout");
    let (port, sent) = input(&dir, 300);
    let out = linerate(&["capture", "-i", &port, "-w", "-"]).output().unwrap();
    assert!(out.status.success());
    let path = dir.path("copy.pcapng");
    std::fs::write(&path, &out.stdout).unwrap();
    assert_same(&frames(&path), &sent, "stdout");
    let words = String::from_utf8(out.stderr).unwrap();
    assert!(words.contains("300 frames") && words.contains("unexplained"), "{words}");
}

#[test]
fn a_reader_that_goes_away_ends_the_capture_in_order() {
    let dir = Scratch::new("pipe");
    let (port, _) = input(&dir, 20_000);
    let mut child = linerate(&["capture", "-i", &port, "-w", "-", "--json"]).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    let words = String::from_utf8(out.stderr).unwrap();
    let last: serde_json::Value = serde_json::from_str(words.lines().last().unwrap()).unwrap();
    assert_eq!(last["unexplained"], 0, "{last}");
    assert!(last["dropped"]["output_closed"].as_u64().is_some_and(|n| n > 0), "{last}");
}

#[test]
fn a_full_disk_is_named_and_ends_the_capture() {
    let dir = Scratch::new("full");
    let (port, _) = input(&dir, 5_000);
    let ended = json(&["capture", "-i", &port, "-w", "/dev/full"]);
    assert_eq!(ended.code, Some(1));
    let last = &ended.last;
    assert_eq!((&last["final"], &last["unexplained"]), (&true.into(), &0.into()), "{last}");
    assert_eq!(last["dropped"]["disk_full"], last["frames"], "{last}");
    let error = last["error"].as_str().unwrap();
    assert!(error.contains("/dev/full") && error.contains("No space left"), "{error}");

    let out = linerate(&["capture", "-i", &port, "-w", "/dev/full"])
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8(out.stderr).unwrap();
    assert_eq!(words.lines().count(), 1, "{words}");
}

#[test]
fn a_damaged_file_costs_only_what_is_behind_the_damage() {
    let dir = Scratch::new("damaged");
    let (_, sent) = input(&dir, 100);
    let path = dir.path("in.pcap");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let out = dir.path("out.pcapng");
    let ended = json(&["capture", "-i", &format!("pcap:{path}"), "-w", &out]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.last["unexplained"], 0, "{ended:?}");
    assert!(ended.last["error"].as_str().is_some_and(|e| e.contains("in.pcap")), "{ended:?}");
    assert_same(&frames(&out), &sent[..99], "before the damage");
}
