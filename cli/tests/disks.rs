//! Disks that are full, slow, limited, read-only or gone: a capture ends with one line that says
//! what to do, everything before can be read, and every frame is in the file or has a name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{
    Ended, Running, Scratch, assert_same, frames, json, json_of, linerate_after, mixed_frames,
    write_pcap,
};
use linerate::file::Reader;
use linerate_lab::{lab_or_skip, skip};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

const LIMIT: Duration = Duration::from_secs(60);

fn done(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    if out.status.success() { Ok(()) } else { Err(format!("{command:?}: {why}")) }
}

/// Mounts a new file system in a file. Call it where there is a mount namespace to do it in: with
/// that it goes.
fn disk(dir: &Scratch, kind: &str, options: &str) -> Result<String, String> {
    let (image, place) = (dir.path(&format!("{kind}.img")), dir.path(kind));
    // XFS does not become smaller.
    File::create(&image).unwrap().set_len(320 << 20).unwrap();
    let quiet = if kind == "ext4" { ["-q", "-F"] } else { ["-q", "-f"] };
    done(Command::new(format!("mkfs.{kind}")).args(quiet).arg(&image))?;
    std::fs::create_dir(&place).unwrap();
    done(Command::new("mount").args(["-o", &format!("loop{options}"), &image, &place]))?;
    Ok(place)
}

/// Every frame that came is in the file or in a loss of this name, and the one line of the error
/// has these words.
fn accounted(ended: &Ended, loss: &str, kept: usize, words: &[&str]) {
    let last = &ended.last;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let error = last["error"].as_str().unwrap_or_default();
    assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{ended:?}");
    assert!(error.contains("; "), "with a remedy: {error}");
    let lost = last["dropped"][loss].as_u64().unwrap_or(0);
    assert_eq!((&last["delivered"], &last["unexplained"]), (&kept.into(), &0.into()), "{last}");
    assert_eq!(last["frames"], kept as u64 + lost, "{last}");
    assert!(lost > 0, "{last}");
}

#[test]
fn a_real_disk_that_fills_up_keeps_what_it_has_room_for() {
    let test = "a_real_disk_that_fills_up_keeps_what_it_has_room_for";
    let lab = lab_or_skip!();
    let dir = Scratch::new("full-disk");
    let input = dir.path("in.pcap");
    write_pcap(&input, &mixed_frames(40_000, 1_000));
    let sent = frames(&input);
    let room = 12 << 20;
    for kind in ["ext4", "xfs"] {
        lab.in_a(|| {
            let place = match disk(&dir, kind, "") {
                Ok(place) => place,
                Err(why) => return skip(test, &why),
            };
            let free = statvfs(&place).unwrap();
            let filler = File::create(format!("{place}/filler")).unwrap();
            let filled = (free.f_bavail * free.f_frsize).saturating_sub(room);
            fallocate(&filler, FallocateFlags::empty(), 0, filled).unwrap();
            let out = format!("{place}/out.pcapng");
            let ended = json(&["capture", "-v", "-i", &format!("pcap:{input}"), "-w", &out]);
            let kept = frames(&out);
            accounted(&ended, "disk_full", kept.len(), &[&out, "No space left", "make room"]);
            assert_same(&kept, &sent[..kept.len()], kind);
            let long = std::fs::metadata(&out).unwrap().len();
            assert!(long > room * 3 / 4, "{kind}: {long} bytes where there was room for {room}");
            // It began past the page cache, and left that way when there was no room for more.
            assert!(ended.stderr.contains("page cache: No space left"), "{kind}: {ended:?}");
        });
    }
}

#[test]
fn a_limit_of_the_file_size_is_an_error_and_not_a_signal() {
    let dir = Scratch::new("limit");
    let (input, out) = (dir.path("in.pcap"), dir.path("out.pcapng"));
    write_pcap(&input, &mixed_frames(10_000, 1_000));
    let sent = frames(&input);
    for more in [&[][..], &["--cached"]] {
        let port = format!("pcap:{input}");
        let args = [&["capture", "-i", &port, "-w", &out], more].concat();
        let ended = json_of(linerate_after("ulimit -f 1001", &args));
        let kept = frames(&out);
        accounted(&ended, "file_size_limit", kept.len(), &[&out, "File too large", "ulimit -f"]);
        assert_same(&kept, &sent[..kept.len()], "below the limit");
        assert!(kept.len() > 300, "{}", kept.len());
    }
}

/// A group of processes that write no more than this to a device. It goes with the test.
struct Slow(PathBuf);

impl Slow {
    fn new(dir: &Scratch, device: u64, bytes_a_second: u64) -> Result<Self, String> {
        let root = dir.path("groups");
        std::fs::create_dir_all(&root).unwrap();
        let mount = ["-t", "cgroup", "-o", "blkio", "none", &root];
        let (limit, line) = if done(Command::new("mount").args(mount)).is_ok() {
            ("blkio.throttle.write_bps_device", "")
        } else {
            done(Command::new("mount").args(["-t", "cgroup2", "none", &root]))?;
            ("io.max", "wbps=")
        };
        let group = Path::new(&root).join(format!("linerate-{}", std::process::id()));
        std::fs::create_dir(&group).map_err(|e| format!("no control group: {e}"))?;
        let slow = Self(group);
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        // Not `write`: that would create the file where there is none.
        OpenOptions::new()
            .write(true)
            .open(slow.0.join(limit))
            .and_then(|mut f| {
                f.write_all(format!("{major}:{minor} {line}{bytes_a_second}").as_bytes())
            })
            .map_err(|e| format!("this kernel makes no disk slow ({limit}: {e})"))?;
        Ok(slow)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_slow_disk_costs_named_frames_and_never_stops_the_receive_loop() {
    let test = "a_slow_disk_costs_named_frames_and_never_stops_the_receive_loop";
    let lab = lab_or_skip!();
    let dir = Scratch::new("slow-disk");
    let input = dir.path("in.pcap");
    write_pcap(&input, &mixed_frames(20_000, 1_000));
    let sent = frames(&input);
    lab.in_a(|| {
        let place = match disk(&dir, "ext4", "") {
            Ok(place) => place,
            Err(why) => return skip(test, &why),
        };
        let device = std::fs::metadata(&place).unwrap().dev();
        let slow = match Slow::new(&dir, device, 4_000_000) {
            Ok(slow) => slow,
            Err(why) => return skip(test, &why),
        };
        let join = format!("echo $$ > {}/cgroup.procs", slow.0.display());
        let out = format!("{place}/out.pcapng");
        let port = format!("pcap:{input}");
        let args = ["capture", "-v", "-i", &port, "-w", &out, "--buffer", "2"];
        let ended = json_of(linerate_after(&join, &args));
        let last = &ended.last;
        assert!(!ended.stderr.contains("page cache"), "past the page cache: {ended:?}");
        assert_eq!((ended.code, &last["unexplained"]), (Some(0), &0.into()), "{ended:?}");
        let lost = last["dropped"]["writer_queue_full"].as_u64().unwrap_or(0);
        assert!(lost > 0, "{last}");
        assert_eq!(last["delivered"], 20_000 - lost, "{last}");

        let mut reader = Reader::open(&out).unwrap();
        let (mut kept, mut noted, mut rest) = (0, 0, sent.iter());
        while let Some(record) = reader.next().unwrap() {
            assert!(
                rest.any(|frame| frame == record.bytes),
                "frame {kept} was sent after the last"
            );
            kept += 1;
            noted += record.info.drops_before;
        }
        assert_eq!(kept, 20_000 - lost);
        assert!(noted <= lost, "{noted} of {lost}");
        assert_eq!(reader.interfaces()[0].statistics.unwrap().os_dropped, Some(lost));
    });
}

/// A capture of a pipe that gets many frames at once and then one after the other.
struct Live {
    capture: Running,
    sender: JoinHandle<()>,
    enough: Arc<AtomicBool>,
    sent: Vec<Vec<u8>>,
}

/// Frames that come at once.
const AT_ONCE: usize = 2_000;

impl Live {
    fn start(dir: &Scratch, out: &str, more: &[&str]) -> Self {
        let (input, pipe) = (dir.path("in.pcap"), dir.path("pipe"));
        write_pcap(&input, &mixed_frames(6 * AT_ONCE, 1_000));
        done(Command::new("mkfifo").arg(&pipe)).unwrap();
        let sent = frames(&input);
        let ends = sent.iter().scan(24, |end, frame| {
            *end += 16 + frame.len();
            Some(*end)
        });
        let ends: Vec<usize> = ends.collect();
        let enough = Arc::new(AtomicBool::new(false));
        let (to, stop) = (pipe.clone(), Arc::clone(&enough));
        let sender = std::thread::spawn(move || {
            let bytes = std::fs::read(input).unwrap();
            let mut pipe = OpenOptions::new().write(true).open(to).unwrap();
            let mut at = 0;
            for end in ends.into_iter().skip(AT_ONCE - 1) {
                // When the capture has ended nobody reads any more.
                if stop.load(Ordering::Relaxed) || pipe.write_all(&bytes[at..end]).is_err() {
                    break;
                }
                at = end;
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let port = format!("pcap:{pipe}");
        let capture = Running::start(&[&["capture", "-i", &port, "-w", out], more].concat());
        Self { capture, sender, enough, sent }
    }

    fn finish(mut self) -> (Ended, Vec<Vec<u8>>) {
        self.enough.store(true, Ordering::Relaxed);
        self.sender.join().unwrap();
        (self.capture.finish(), self.sent)
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn len(path: &str) -> u64 {
    std::fs::metadata(path).map_or(0, |about| about.len())
}

#[test]
fn a_disk_that_turns_read_only_keeps_what_was_written() {
    let test = "a_disk_that_turns_read_only_keeps_what_was_written";
    let lab = lab_or_skip!();
    let dir = Scratch::new("read-only");
    lab.in_a(|| {
        let place = match disk(&dir, "ext4", ",errors=remount-ro") {
            Ok(place) => place,
            Err(why) => return skip(test, &why),
        };
        let device = std::fs::metadata(&place).unwrap().dev();
        let fault = format!("/sys/fs/ext4/loop{}/trigger_fs_error", rustix::fs::minor(device));
        let out = format!("{place}/out.pcapng");
        let live = Live::start(&dir, &out, &[]);
        wait_for("frames in the file", || len(&out) > 1_500_000);
        if let Err(why) = std::fs::write(&fault, "1") {
            return skip(test, &format!("{fault}: {why}"));
        }
        let Live { mut capture, sender, sent, .. } = live;
        // By itself: there are still frames to come.
        let ended = capture.finish();
        sender.join().unwrap();
        let kept = frames(&out);
        accounted(&ended, "disk_read_only", kept.len(), &[&out, "Read-only", "-w"]);
        assert_same(&kept, &sent[..kept.len()], "before the disk was read-only");
        assert!(kept.len() > 1_500, "{}", kept.len());

        // And one that has been so from the beginning.
        let ended = json(&[
            "capture",
            "-i",
            &format!("pcap:{}", dir.path("in.pcap")),
            "-w",
            &format!("{place}/new.pcapng"),
        ]);
        let error = ended.last["error"].as_str().unwrap();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(error.contains("new.pcapng: Read-only") && error.contains("-w"), "{error}");
    });
}

#[test]
fn a_file_that_is_deleted_ends_its_capture() {
    let dir = Scratch::new("deleted");
    let place = dir.path("place");
    std::fs::create_dir(&place).unwrap();
    let out = format!("{place}/out.pcapng");
    let mut live = Live::start(&dir, &out, &[]);
    wait_for("frames in the file", || len(&out) > 100_000);
    std::fs::remove_dir_all(&place).unwrap();
    // By itself: there are still frames to come.
    let ended = live.capture.finish();
    accounted(&ended, "file_deleted", 0, &[&out, "deleted"]);
}

#[test]
fn a_rotation_outlives_one_deleted_file_and_names_its_frames() {
    let dir = Scratch::new("deleted-part");
    let out = dir.path("out.pcapng");
    let live = Live::start(&dir, &out, &["-C", "1"]);
    let part = |n: u32| dir.path(&format!("out_{n:05}.pcapng"));
    wait_for("the second file", || len(&part(2)) > 100_000);
    std::fs::remove_file(part(2)).unwrap();
    wait_for("the third file", || len(&part(3)) > 100_000);
    let (ended, sent) = live.finish();
    let kept_parts = (1..20).map(part).filter(|path| Path::new(path).exists());
    let parts: Vec<_> = kept_parts.map(|path| frames(&path)).collect();
    assert!(parts.len() >= 2, "{ended:?}");
    let kept = parts.concat();
    accounted(&ended, "file_deleted", kept.len(), &["deleted"]);
    let came = ended.last["frames"].as_u64().unwrap() as usize;
    let (before, after) = (parts[0].len(), kept.len() - parts[0].len());
    assert_same(&kept[..before], &sent[..before], "before the deleted file");
    assert_same(&kept[before..], &sent[came - after..came], "after it");
}

#[test]
fn what_is_no_disk_is_told_in_one_line() {
    let dir = Scratch::new("no-disk");
    let input = dir.path("in.pcap");
    write_pcap(&input, &mixed_frames(5_000, 1_000));
    let (port, sent) = (format!("pcap:{input}"), frames(&input));
    let ended = json(&["capture", "-i", &port, "-w", "/dev/full"]);
    accounted(&ended, "disk_full", 0, &["/dev/full: No space left", "make room"]);

    // A pipe whose reader has enough, and one whose reader has not.
    let pipe = dir.path("pipe");
    done(Command::new("mkfifo").arg(&pipe)).unwrap();
    for enough in [true, false] {
        let from = pipe.clone();
        let reader = std::thread::spawn(move || {
            let (mut pipe, mut bytes) = (File::open(from).unwrap(), Vec::new());
            if enough {
                bytes.resize(1_000, 0);
                pipe.read_exact(&mut bytes).unwrap();
            } else {
                pipe.read_to_end(&mut bytes).unwrap();
            }
            bytes
        });
        let ended = json(&["capture", "-i", &port, "-w", &pipe]);
        let bytes = reader.join().unwrap();
        if enough {
            assert_eq!((ended.code, &ended.last["unexplained"]), (Some(1), &0.into()), "{ended:?}");
            assert!(ended.last["dropped"]["output_closed"].as_u64() > Some(0), "{ended:?}");
            let error = ended.last["error"].as_str().unwrap();
            assert!(error.contains(&pipe) && error.contains("Broken pipe"), "{error}");
        } else {
            assert_eq!((ended.code, &ended.last["delivered"]), (Some(0), &5_000.into()));
            let copy = dir.path("copy.pcapng");
            std::fs::write(&copy, bytes).unwrap();
            assert_same(&frames(&copy), &sent, "through the pipe");
        }
    }
}
