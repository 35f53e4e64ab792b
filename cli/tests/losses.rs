//! Frames that cannot be kept are in the ledger under a name, and what was kept can be read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use common::{Running, Scratch, assert_same, frames, json, linerate, mixed_frames, write_pcap};
use linerate::file::Reader;
use linerate_lab::lab_or_skip;

#[test]
fn a_slow_reader_of_stdout_costs_named_frames_and_never_stops_the_receive_loop() {
    let dir = Scratch::new("slow");
    let input = dir.path("in.pcap");
    write_pcap(&input, &mixed_frames(20_000, 1_000));
    let port = format!("pcap:{input}");
    let args = ["capture", "-i", &port, "-w", "-", "--buffer", "1", "--json"];
    let mut child = linerate(&args).spawn().unwrap();
    // Nothing is read from the pipe until the receive loop has come to the end of its input.
    let tasks = format!("/proc/{}/task", child.id());
    let receiving = || {
        let names = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
        let mut names = names.map(|t| std::fs::read_to_string(t.path().join("comm")));
        names.any(|name| name.is_ok_and(|name| name.trim() == "linerate-rx"))
    };
    // It may have come and gone between two looks.
    for _ in 0..2_000 {
        if receiving() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    while receiving() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut capture = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut capture).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    let words = String::from_utf8(out.stderr).unwrap();
    let last: serde_json::Value = serde_json::from_str(words.lines().last().unwrap()).unwrap();
    let lost = last["dropped"]["writer_queue_full"].as_u64().unwrap_or(0);
    assert!(lost > 0, "{last}");
    assert_eq!((&last["frames"], &last["unexplained"]), (&20_000.into(), &0.into()), "{last}");
    assert_eq!(last["delivered"], 20_000 - lost, "{last}");

    let path = dir.path("out.pcapng");
    std::fs::write(&path, &capture).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let (mut kept, mut noted) = (0, 0);
    while let Some(record) = reader.next().unwrap() {
        kept += 1;
        noted += record.info.drops_before;
    }
    assert_eq!(kept, 20_000 - lost);
    assert!(noted <= lost, "the file notes losses where they happened");
    let statistics = reader.interfaces()[0].statistics.unwrap();
    assert_eq!(statistics.os_dropped, Some(lost));
}

#[test]
fn a_disk_that_fills_up_keeps_a_sound_capture() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("tmpfs");
    let input = dir.path("in.pcap");
    write_pcap(&input, &mixed_frames(5_000, 1_000));
    let sent = frames(&input);
    // The lab's threads have a mount namespace of their own.
    let (ended, kept) = lab.in_a(|| {
        let disk = dir.path("disk");
        std::fs::create_dir_all(&disk).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=1000k", "none", &disk];
        assert!(Command::new("mount").args(mount).status().unwrap().success());
        let out = dir.path("disk/out.pcapng");
        let ended = json(&["capture", "-i", &format!("pcap:{input}"), "-w", &out]);
        (ended, frames(&out))
    });
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = &ended.last;
    assert!(last["error"].as_str().unwrap().contains("disk/out.pcapng"), "{last}");
    assert_eq!(
        (&last["delivered"], &last["unexplained"]),
        (&kept.len().into(), &0.into()),
        "{last}"
    );
    let lost = last["dropped"]["disk_full"].as_u64().unwrap();
    assert!(lost > 0 && kept.len() > 500, "{last}");
    assert_same(&kept, &sent[..kept.len()], "what fitted on the disk");
}

#[test]
fn an_interface_that_goes_away_ends_the_capture_and_keeps_it() {
    let lab = lab_or_skip!();
    lab.add_pair("w0", "w1").unwrap();
    let dir = Scratch::new("gone");
    let input = dir.path("in.pcap");
    write_pcap(&input, &mixed_frames(200, 1_000));
    let out = dir.path("out.pcapng");
    let mut capture = lab.in_b(|| Running::start(&["capture", "-i", "afpacket:w1", "-w", &out]));
    let replay = lab.in_a(|| json(&["replay", &input, "-o", "afpacket:w0"]));
    assert_eq!(replay.last["delivered"], 200, "{replay:?}");
    lab.ip_b(&["link", "del", "w1"]).unwrap();
    let ended = capture.finish();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.last["error"].as_str().is_some_and(|e| e.contains("w1")), "{ended:?}");
    assert_eq!(ended.last["unexplained"], 0, "{ended:?}");
    assert_same(&frames(&out), &frames(&input), "before the interface went away");
}
