//! What a capture that is killed leaves behind can be read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::{File, Metadata};
use std::io::{BufWriter, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Running, frames, json, linerate, write_pcap};
use linerate::file::{FileErrorKind, Reader};
use linerate_lab::lab_or_skip;

const LIMIT: Duration = Duration::from_secs(60);

/// Files that a disk is behind, if it is behind the build.
struct Place(std::path::PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("killed-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A capture that reads a pipe for as long as somebody writes into it.
fn capture(pipe: &str, out: &str, more: &[&str]) -> Child {
    let _ = std::fs::remove_file(pipe);
    assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let port = format!("pcap:{pipe}");
    let args = ["capture", "-i", &port, "-w", out];
    linerate(&[&args, more].concat()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn bytes_of(n: u64) -> Vec<u8> {
    (0..60 + n * 7 % 1455).map(|at| (at * 31 + n) as u8).collect()
}

/// Writes frame `n` in the format of pcap, with the time `n`.
fn put(pipe: &mut impl Write, n: u64) -> std::io::Result<()> {
    let bytes = bytes_of(n);
    let len = bytes.len() as u32;
    for word in [0, n as u32, len, len] {
        pipe.write_all(&word.to_le_bytes())?;
    }
    pipe.write_all(&bytes)
}

fn head(pipe: &mut impl Write) -> std::io::Result<()> {
    [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 1]
        .iter()
        .try_for_each(|word| pipe.write_all(&word.to_le_bytes()))
}

/// How many frames a file has. Each must be one that was sent, and later than the one before.
fn check(path: &str, may_be_cut: bool) -> u64 {
    let mut reader = Reader::open(path).unwrap();
    let (mut count, mut last) = (0, None);
    loop {
        match reader.next() {
            Ok(Some(record)) => {
                let n = record.info.ts_ns;
                assert!(last < Some(n), "{n} after {last:?}");
                assert!(record.bytes == bytes_of(n), "frame {n} is another");
                (count, last) = (count + 1, Some(n));
            }
            Ok(None) => return count,
            Err(e) if may_be_cut && e.kind() == FileErrorKind::Truncated => return count,
            Err(e) => panic!("after {count} frames: {e}"),
        }
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn killed_while_writing(more: &[&str], may_be_cut: bool) {
    let place = Place::new(&format!("busy{}", more.len()));
    let (pipe, out) = (place.path("pipe"), place.path("out.pcapng"));
    let mut frames = 0;
    for round in 0..12 {
        let _ = std::fs::remove_file(&out);
        let mut child = capture(&pipe, &out, more);
        let to = pipe.clone();
        let sender = std::thread::spawn(move || {
            let mut pipe = BufWriter::new(File::create(to).unwrap());
            // Until nobody reads any more.
            head(&mut pipe).and_then(|()| (0..u64::MAX).try_for_each(|n| put(&mut pipe, n)))
        });
        // Among the first writes, and among many.
        let long = |meta: Metadata| meta.len() > 2_000_000 + 3_000_000 * round;
        wait_for("a long file", || std::fs::metadata(&out).is_ok_and(long));
        std::thread::sleep(Duration::from_micros(1_700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(sender.join().unwrap().is_err());
        frames += check(&out, may_be_cut);
    }
    assert!(frames > 12_000, "{frames}");
}

#[test]
fn a_capture_killed_while_it_writes_to_the_disk_is_sound() {
    killed_while_writing(&[], false);
}

#[test]
fn a_capture_killed_while_it_writes_through_the_page_cache_is_sound_but_for_its_last_block() {
    killed_while_writing(&["--cached"], true);
}

#[test]
fn frames_of_a_slow_link_are_in_the_file_soon_and_stay_there() {
    let lab = lab_or_skip!();
    lab.add_pair("k0", "k1").unwrap();
    let place = Place::new("slow");
    let (one, out) = (place.path("one.pcap"), place.path("out.pcapng"));
    for more in [&[][..], &["--cached"], &["--sync"]] {
        let args = ["capture", "-i", "afpacket:k1", "-w", &out];
        let mut capture = lab.in_b(|| Running::start(&[&args, more].concat()));
        for n in 0..5 {
            // The interval is 250 ms: sometimes a frame is on its own, sometimes not.
            write_pcap(&one, &[(n + 1, bytes_of(100 * n))]);
            let replay = lab.in_a(|| json(&["replay", &one, "-o", "afpacket:k0"]));
            assert_eq!(replay.last["delivered"], 1, "{replay:?}");
            let whole = || (0..=n).map(|n| bytes_of(100 * n)).collect::<Vec<_>>();
            wait_for("the frame", || readable(&out) == whole());
        }
        capture.signal("-KILL");
        capture.finish();
        assert_eq!(frames(&out).len(), 5, "after the end as before it");
    }
}

/// The frames in a file that is being written.
fn readable(path: &str) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    if let Ok(mut reader) = Reader::open(path) {
        while let Ok(Some(record)) = reader.next() {
            frames.push(record.bytes.to_vec());
        }
    }
    frames
}
