//! Capturing into a file, without loss.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::compare::lab::{LOAD_CPU, MEASURED_CPU, Side, VB};
use crate::compare::peers;
use crate::compare::program::{Program, Quit, number_after, pause, words};
use crate::compare::{
    Case, Class, Column, Contender, Ground, Load, Rule, Sample, Target, xdp::Bytes,
};

use super::receive::generate_at;

const TEXT: &str = "The highest rate at which every frame sent is in the file, found by some trials \
at rates that close in on it; `MB/s` is what that makes of bytes in the file. Frames come in even \
time from the kernel on CPU 0; programs capture on CPU 1, with 64 MB between them and what they \
write to (afxdp: and 32 MiB of ring). `linerate capture` writes on another thread, which shares \
CPU 0 with the generator; the disk takes its blocks as they lie. What the others write goes into \
the page cache, which at these lengths of a trial never has to wait for the disk: on their rows \
\"disk\" is what a burst does.";

/// Trials of a first search, and of one that knows what came out before.
const TRIALS: usize = 6;
const MORE_TRIALS: usize = 3;
/// Nothing between what worked and what did not: rates closer than this are one.
const CLOSE: f64 = 1.04;
/// Frames that a program may still have to get when the generator has ended.
const SETTLE: Duration = Duration::from_millis(60);
/// libpcap's programs get a block that is not full after their time-out, which is up to a second,
/// and leave there what they have not got when they are stopped.
const SETTLE_PCAP: Duration = Duration::from_millis(1200);
/// Fewer frames tell no rate.
const FEW: f64 = 10_000.0;
/// The room that a trial must find.
const ROOM: u64 = 6 << 30;

const DISK: u64 = 0;
const MEMORY: u64 = 1;

const OURS: &str = "linerate capture, afxdp";
const OTHERS: [&str; 3] = ["tcpdump", "dumpcap", "netsniff-ng"];
const WRITER: &str = "plain O_DIRECT writer";
const WRITER_BESIDE: &str = "plain O_DIRECT writer, beside a receiver";

/// Some ms of short frames, which fill little of each slot.
const SHORT_FRAMES: &str = "afxdp:vb?ring_slots=16384";
/// Long ones in so many slots would not stay in the cache, and the kernel's copies be the limit.
const LONG_FRAMES: &str = "afxdp:vb?ring_slots=4096";
/// What is sent beside the plain writer, and how long before it.
const BESIDE_PPS: f64 = 3e6;
const BEFORE: Duration = Duration::from_millis(100);

pub(super) fn cases() -> Vec<Case> {
    vec![short(), long()]
}

fn loads(bytes: usize) -> Vec<Load> {
    let load = |label, number, quick| Load { label, bytes: Bytes::Each(bytes), number, quick };
    vec![load("to disk", DISK, true), load("to memory", MEMORY, false)]
}

fn columns() -> Vec<Column> {
    vec![Column::new("mpps", "Mpps", 2), Column::new("mb_s", "MB/s", 0)]
}

fn short() -> Case {
    Case {
        name: "capture-64",
        title: "Capturing without loss, 64 bytes",
        text: TEXT,
        columns: columns(),
        loads: loads(60),
        contenders: programs(SHORT_FRAMES),
        targets: vec![Target::new(
            "2 × the best of tcpdump, dumpcap and netsniff-ng",
            OURS,
            &OTHERS,
            "mpps",
            Rule::AtLeast(2.0),
        )],
    }
}

fn long() -> Case {
    let mut contenders = programs(LONG_FRAMES);
    contenders.push(Contender::new(WRITER, Class::Bound, |ground, load| {
        plain_writer(ground, load, MEASURED_CPU)
    }));
    contenders.push(Contender::new(WRITER_BESIDE, Class::Bound, beside_a_receiver));
    Case {
        name: "capture-1400",
        title: "Capturing without loss, 1400 bytes",
        text: "As above, but with 8 MiB of ring for afxdp. The plain writer gives the disk one piece \
               of 4 MiB after the other, always the same, past the page cache, and does nothing \
               else: what the disk takes. Once it has the machine to itself; once it shares CPU 0 \
               with the generator as our writer does, which sends 3 Mpps, and `linerate capture` \
               takes these on CPU 1 and writes nothing.",
        columns: columns(),
        loads: loads(1396),
        contenders,
        targets: vec![Target::new(
            "95 % of what a plain O_DIRECT writer reaches on this disk",
            OURS,
            &[WRITER],
            "mb_s",
            Rule::AtLeast(0.95),
        )],
    }
}

/// What the disk takes in the time of a trial.
fn plain_writer(ground: &Ground<'_>, load: &Load, cpu: usize) -> Result<Sample, String> {
    disk_only(load)?;
    let place = Place::new(DISK)?;
    let seconds = longer(ground).time.as_secs_f64().to_string();
    let words_of =
        [peers::twin("capture")?, "disk".into(), place.file(), seconds, (4 << 20).to_string()];
    let said = Program::new(Side::B, cpu, words_of).says_nothing().start(ground.lab)?.wait()?;
    let rate = words(&said).get("mb_s").copied().ok_or_else(|| format!("no result: {said}"))?;
    Ok(Sample::from([("mb_s", rate)]))
}

/// The same while frames are sent and received.
fn beside_a_receiver(ground: &Ground<'_>, load: &Load) -> Result<Sample, String> {
    disk_only(load)?;
    let receiver = linerate(LONG_FRAMES, None)?.program.start(ground.lab)?;
    // It begins before the writer does and ends after it.
    let all_along = Ground { time: 2 * longer(ground).time, ..*ground };
    let written = thread::scope(|scope| {
        let sender = scope.spawn(|| generate_at(&all_along, load, "other", Some(BESIDE_PPS)));
        let written = pause(BEFORE).and_then(|()| plain_writer(ground, load, LOAD_CPU));
        sender.join().map_err(|_| "the generator's thread panicked")??;
        written
    });
    receiver.stop()?;
    written
}

fn disk_only(load: &Load) -> Result<(), String> {
    if load.number == DISK { Ok(()) } else { Err("memory is no disk".into()) }
}

/// All that capture; ours over AF_XDP by this port.
fn programs(port: &'static str) -> Vec<Contender> {
    vec![
        contender(OURS, Class::Ours, move |file| linerate(port, Some(file))),
        contender("linerate capture, afpacket", Class::Ours, |file| {
            linerate("afpacket:vb", Some(file))
        }),
        contender("tcpdump", Class::Peer, |file| {
            let all =
                ["tcpdump", "-n", "-i", VB.interface, "-B", "65536", "-Z", "root", "-w", file];
            named(all, "tcpdump").map(|program| Capture {
                program: program.ready_at("listening on"),
                count: |said| number_before(said, "packets captured"),
                settle: SETTLE_PCAP,
            })
        }),
        contender("dumpcap", Class::Peer, |file| {
            let all = ["dumpcap", "-q", "-i", VB.interface, "-B", "64", "-w", file];
            named(all, "dumpcap").map(|program| Capture {
                program: program.ready_at("File:").settle(Duration::from_millis(100)),
                count: |said| number_after(said, "Packets captured"),
                settle: SETTLE_PCAP,
            })
        }),
        contender("netsniff-ng", Class::Peer, |file| {
            let ring = ["--ring-size", "64MiB", "--silent"];
            let all = ["netsniff-ng", "--in", VB.interface, "--out", file];
            named(all.into_iter().chain(ring), "netsniff-ng").map(|program| Capture {
                program: program.ready_at("Running!").settle(Duration::from_millis(100)),
                count: |said| number_before(said, "packets passed filter"),
                settle: SETTLE,
            })
        }),
        contender("C loop, TPACKET_V3", Class::Twin, |file| {
            let all = [peers::twin("capture")?, "ring".into(), VB.interface.into(), file.into()];
            Ok(Capture {
                program: Program::new(Side::B, MEASURED_CPU, all),
                count: |said| words(said).get("frames").copied(),
                settle: SETTLE,
            })
        }),
    ]
}

/// A program that captures, and where it says how many frames it got.
struct Capture {
    program: Program,
    count: fn(&str) -> Option<f64>,
    settle: Duration,
}

/// Our command, on defaults but for the CPU. Without a file it only counts.
fn linerate(port: &str, file: Option<&str>) -> Result<Capture, String> {
    let cpu = MEASURED_CPU.to_string();
    let words_of = [
        &peers::ours("linerate")?,
        "capture",
        "-i",
        port,
        "--cpu",
        &cpu,
        "--loop",
        "throughput",
        "--json",
    ];
    Ok(Capture {
        program: Program::new(Side::B, MEASURED_CPU, words_of)
            .with(file.into_iter().flat_map(|file| ["-w", file]))
            .on_all_cpus()
            .ready_at("\"final\":false")
            .quit_by(Quit::Signal(libc::SIGINT)),
        count: |said| number_after(said, "\"delivered\""),
        settle: SETTLE,
    })
}

fn named<'a>(words_of: impl IntoIterator<Item = &'a str>, name: &str) -> Result<Program, String> {
    if !peers::has(name) {
        return Err(format!("{name} is not installed"));
    }
    Ok(Program::new(Side::B, MEASURED_CPU, words_of).quit_by(Quit::Signal(libc::SIGINT)))
}

fn contender(
    name: &'static str,
    class: Class,
    of: impl Fn(&str) -> Result<Capture, String> + 'static,
) -> Contender {
    // By load: what was asked for in the rounds before and worked.
    let mut known: BTreeMap<u64, f64> = BTreeMap::new();
    Contender::new(name, class, move |ground, load| {
        let place = Place::new(load.number)?;
        let best = search(known.get(&load.number).copied(), |pps| {
            trial(ground, load, &of(&place.file())?, &place, pps)
        })?;
        known.insert(load.number, best.asked);
        Ok(Sample::from([("mpps", best.pps / 1e6), ("mb_s", best.pps * best.bytes / 1e6)]))
    })
}

/// Twice the time of other cases: what lies in buffers at the end must be little beside the rest.
fn longer<'a>(ground: &Ground<'a>) -> Ground<'a> {
    Ground { time: 2 * ground.time, ..*ground }
}

/// What a trial without loss gave.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    /// As it came out.
    pps: f64,
    /// As it was asked for. A generator that shares its CPU with a writer falls behind.
    asked: f64,
    /// Of the file, a frame.
    bytes: f64,
}

/// The outcome of a trial: the rate, and the share of frames that are in the file.
type Trial = Result<(Rate, f64), String>;

/// The highest rate without loss. Without knowledge the first trial is at full speed: what gets
/// through there is about what can be had.
fn search(known: Option<f64>, mut trial: impl FnMut(Option<f64>) -> Trial) -> Result<Rate, String> {
    let (mut best, mut works) = (Rate::default(), 0.0_f64);
    let mut lost_at: Option<f64> = None;
    let mut next = known.map(|pps| pps * 1.02);
    let trials = if known.is_some() { MORE_TRIALS } else { TRIALS };
    for turn in 0..trials {
        let (rate, share) = match trial(next) {
            Ok(outcome) => outcome,
            // A mishap in between does not undo what was found.
            Err(_) if best.pps > 0.0 => break,
            Err(why) => return Err(why),
        };
        let whole = share >= 1.0;
        let asked = rate.asked;
        if whole {
            works = works.max(asked);
            if rate.pps > best.pps {
                best = rate;
            }
        }
        match (whole, next) {
            // There is no faster.
            (true, None) => break,
            (true, Some(_)) if lost_at.is_none() => next = Some(asked * 1.08),
            (false, None) => next = Some(rate.pps * share * 0.97),
            (false, Some(_)) => lost_at = Some(lost_at.map_or(asked, |at| at.min(asked))),
            _ => {}
        }
        if let Some(high) = lost_at {
            if works * CLOSE > high {
                break;
            }
            // The last trial should be one that works.
            let step = if turn + 2 == trials { 0.9 } else { 0.95 };
            next = Some(if works > 0.0 { (works * high).sqrt() } else { high * step * 0.95 });
        }
    }
    if best.pps > 0.0 { Ok(best) } else { Err("lost frames at every rate that was tried".into()) }
}

fn trial(
    ground: &Ground<'_>,
    load: &Load,
    capture: &Capture,
    place: &Place,
    pps: Option<f64>,
) -> Trial {
    let running = capture.program.start(ground.lab)?;
    let sent = generate_at(&longer(ground), load, "other", pps)?;
    pause(capture.settle)?;
    let said = running.stop()?;
    let got = (capture.count)(&said).ok_or_else(|| format!("no count of frames: {said}"))?;
    let size = fs::metadata(place.file()).map_or(0, |file| file.len());
    // It is sooner gone than written back.
    let _ = fs::remove_file(place.file());
    if size as f64 <= got * load.longest() as f64 {
        return Err(format!("{got} frames are not in a file of {size} bytes"));
    }
    if sent["frames"] < FEW {
        return Err(format!("the generator was kept from its CPU: {} frames", sent["frames"]));
    }
    let share = got / sent["frames"];
    let asked = pps.map_or("all".into(), |pps| format!("{:.3}", pps / 1e6));
    let pps_sent = sent["frames"] / sent["seconds"];
    let rate = Rate { pps: pps_sent, asked: pps.unwrap_or(pps_sent), bytes: size as f64 / got };
    eprintln!("      {asked} asked, {:.3} Mpps sent, {share:.6} in the file", rate.pps / 1e6);
    Ok((rate, share))
}

/// The number in front of `label`, where that occurs last.
fn number_before(text: &str, label: &str) -> Option<f64> {
    let before = text[..text.rfind(label)?].trim_end();
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A directory of a run, which goes with it.
struct Place(PathBuf);

impl Place {
    fn new(kind: u64) -> Result<Self, String> {
        let base = match kind {
            MEMORY => PathBuf::from("/dev/shm"),
            _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        };
        let dir = base.join(format!("linerate-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let place = Self(dir);
        let free = free_bytes(&place.0);
        if free < ROOM {
            return Err(format!("{} GB free in {}", free >> 30, base.display()));
        }
        Ok(place)
    }

    fn file(&self) -> String {
        self.0.join("capture").to_string_lossy().into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn free_bytes(dir: &Path) -> u64 {
    let path = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes()).unwrap_or_default();
    // SAFETY: all zeros is a value of this struct; a path that ends in NUL, and a place for the
    // answer.
    let (rc, answer) = unsafe {
        let mut answer: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut answer), answer)
    };
    if rc == 0 { answer.f_bavail * answer.f_frsize } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that loses what is above a limit.
    fn found(limit: f64, known: Option<f64>) -> Result<f64, String> {
        let rate = |pps: f64| Rate { pps, asked: pps, bytes: 92.0 };
        search(known, |pps| {
            let pps = pps.unwrap_or(6e6);
            Ok((rate(pps), if pps > limit { limit / pps } else { 1.0 }))
        })
        .map(|rate| rate.pps)
    }

    #[test]
    fn the_search_comes_near_and_never_beyond() {
        for limit in [0.4e6, 1.3e6, 2.9e6, 5.9e6] {
            for known in [None, Some(limit * 0.9), Some(limit * 1.05)] {
                let pps = found(limit, known).unwrap();
                assert!(pps <= limit && pps > 0.85 * limit, "{limit} from {known:?}: {pps}");
            }
        }
        assert_eq!(found(7e6, None), Ok(6e6));
        assert!(found(0.0, None).is_err());
    }

    /// A generator that falls behind what it is asked for, round after round.
    #[test]
    fn a_generator_that_falls_behind_does_not_pull_the_answer_down() {
        let (limit, mut known) = (2e6, None);
        for _ in 0..12 {
            let best = search(known, |pps| {
                let asked = pps.unwrap_or(6e6);
                let sent = asked * 0.88;
                let share = if sent > limit { limit / sent } else { 1.0 };
                Ok((Rate { pps: sent, asked, bytes: 92.0 }, share))
            })
            .unwrap();
            assert!((0.85 * limit..=limit).contains(&best.pps), "{best:?}");
            known = Some(best.asked);
        }
    }

    #[test]
    fn numbers_stand_before_their_words_too() {
        let text = "\n  3 packets captured\n12 packets received";
        assert_eq!(number_before(text, "packets captured"), Some(3.0));
        assert_eq!(number_before(text, "packets received"), Some(12.0));
        assert_eq!(number_before(text, "packets lost"), None);
    }
}
