//! The system's clock is set while commands run: what is paced, limited or timed goes by another
//! clock and does not notice; stamps follow; and it is told.
//!
//! Nobody may set the clock of the machine that tests run on. So the command runs over a library
//! (compiled here, by the C compiler that links Rust programs) that adds to what the kernel says.
//! In the guest of `tests/guest/run.sh` the kernel's own clock is set, which its stamps follow.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Ended, Running, Scratch, linerate, mixed_frames, write_pcap};
use linerate::NO_TS;
use linerate::file::Reader;
use linerate_lab::{Lab, lab_or_skip, skip};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// No honest time in these tests is as long, on the busiest machine.
const LONG: u64 = 600 * SECOND as u64;
const GROUP: &str = "239.1.1.1:5000";

/// `clock_gettime`, with what a file says added to the time of day.
const SHIFTED: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long long *shift;

__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("CLOCK_SHIFT"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) abort();
    shift = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (shift == MAP_FAILED) abort();
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int rc = syscall(SYS_clock_gettime, clock, now);
    if (rc == 0 && clock == CLOCK_REALTIME) {
        long long ns = now->tv_sec * 1000000000LL + now->tv_nsec + *shift;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return rc;
}
"#;

/// A clock that can be set.
enum Clock {
    Shifted { dir: Scratch, file: std::fs::File, by: Mutex<i64> },
    Kernel { _alone: MutexGuard<'static, ()> },
}

impl Clock {
    fn new(test: &str) -> Result<Self, String> {
        static ALONE: Mutex<()> = Mutex::new(());
        if std::env::var_os("LINERATE_GUEST").is_some() {
            let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
            return Ok(Self::Kernel { _alone: alone });
        }
        let dir = Scratch::new(&format!("clock-{test}"));
        let (source, library) = (dir.path("shift.c"), dir.path("shift.so"));
        std::fs::write(&source, SHIFTED).unwrap();
        let args = ["-shared", "-fPIC", "-O", "-o", &library, &source];
        let built = Command::new("cc").args(args).output();
        let built = built.map_err(|e| format!("no C compiler: {e}"))?;
        if !built.status.success() {
            return Err(format!("cc: {}", String::from_utf8_lossy(&built.stderr)));
        }
        std::fs::write(dir.path("shift"), [0; 8]).unwrap();
        let file = std::fs::File::options().write(true).open(dir.path("shift")).unwrap();
        Ok(Self::Shifted { dir, file, by: Mutex::new(0) })
    }

    /// The command, under this clock.
    fn linerate(&self, args: &[&str]) -> Command {
        let mut command = linerate(args);
        if let Self::Shifted { dir, .. } = self {
            command.env("LD_PRELOAD", dir.path("shift.so")).env("CLOCK_SHIFT", dir.path("shift"));
        }
        command
    }

    fn start(&self, args: &[&str]) -> Running {
        Running::started(&mut self.linerate(args))
    }

    /// Sets the clock by so much.
    fn set(&self, by_ns: i64) {
        match self {
            Self::Shifted { file, by, .. } => {
                let mut by = by.lock().unwrap();
                *by += by_ns;
                file.write_all_at(&by.to_le_bytes(), 0).unwrap();
            }
            Self::Kernel { .. } => linerate_lab::clock::set(now_ns() + by_ns),
        }
    }

    /// The time of day that the command sees.
    fn now_ns(&self) -> i64 {
        match self {
            Self::Shifted { by, .. } => now_ns() + *by.lock().unwrap(),
            Self::Kernel { .. } => now_ns(),
        }
    }

    fn is_the_kernels(&self) -> bool {
        matches!(self, Self::Kernel { .. })
    }
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// The clock for a test, or an early return from it where there is only the other one.
macro_rules! clock {
    ($name:literal, $kernels:expr) => {
        match Clock::new($name) {
            Ok(clock) if clock.is_the_kernels() != $kernels => return,
            Ok(clock) => clock,
            Err(why) => return skip($name, &why),
        }
    };
}

const OF_A_LIBRARY: bool = false;
const OF_THE_KERNEL: bool = true;

fn lab_with_route(lab: &Lab) {
    lab.ip_a(&["route", "add", "239.0.0.0/8", "dev", "v0"]).unwrap();
}

/// It has seen the clock go forward, far back, and on again.
fn told(ended: &Ended, what: &str) {
    assert_eq!(ended.code, Some(0), "{what}: {ended:?}");
    let last = &ended.last;
    assert_eq!(last["clock_steps"], 3, "{what}: {last}");
    let net = last["clock_set_ns"].as_i64().unwrap();
    assert!(net.abs() < SECOND, "{what}: {last}");
}

/// Forward by an hour, back by two, forward by one, with `between` each time.
fn steps(clock: &Clock, mut between: impl FnMut()) {
    for by in [HOUR, -2 * HOUR, HOUR] {
        between();
        clock.set(by);
    }
    between();
}

#[test]
fn a_load_keeps_its_pace_and_its_times() {
    let clock = clock!("load", OF_A_LIBRARY);
    let lab = lab_or_skip!();
    let mut sink = lab.in_b(|| clock.start(&["sink", "sim:exanic?peer=v1", "-g", GROUP]));
    let args = ["blast", "afpacket:v0", "-g", GROUP, "--pps", "300", "-d", "5"];
    let mut blast = lab.in_a(|| clock.start(&args));
    steps(&clock, || blast.wait_until(|line| line["final"] == false));
    let blast = blast.finish();
    told(&blast, "blast");
    let sent = blast.last["frames"].as_u64().unwrap();
    // Neither a hole of an hour nor an hour's worth of frames at once.
    assert!((1_400..=1_500).contains(&sent), "{blast:?}");
    let late = blast.last["schedule_error_ns"]["max"].as_u64().unwrap();
    assert!(late < LONG, "{blast:?}");
    sink.wait_until(|line| line["frames"].as_u64() == Some(sent));
    let sink = sink.interrupt();
    told(&sink, "sink");
    assert_eq!((&sink.last["missing"], &sink.last["damaged"]), (&0.into(), &0.into()), "{sink:?}");
}

#[test]
fn a_replay_keeps_its_pace() {
    let clock = clock!("replay", OF_A_LIBRARY);
    let lab = lab_or_skip!();
    let dir = Scratch::new("clock-replay-file");
    let file = dir.path("in.pcap");
    write_pcap(&file, &mixed_frames(70, 100_000_000));
    let args = ["replay", &file, "-o", "afpacket:v0"];
    let mut replay = lab.in_a(|| clock.start(&args));
    steps(&clock, || replay.wait_until(|line| line["final"] == false));
    let ended = replay.finish();
    told(&ended, "replay");
    assert_eq!(ended.last["frames"], 70, "{ended:?}");
    assert!(ended.last["seconds"].as_f64().unwrap() < 600.0, "{ended:?}");
    let late = ended.last["schedule_error_ns"]["max"].as_u64();
    assert!(late.is_some_and(|ns| ns < LONG), "{ended:?}");
}

#[test]
fn round_trips_are_those_of_a_clock_that_nobody_sets() {
    let clock = clock!("ping", OF_A_LIBRARY);
    let lab = lab_or_skip!();
    // Both stamps of a frame, of its leaving and of its answer, are by the clock that is set.
    let from = "sim:efvi?peer=v0&tx_stamps=on";
    let mut pong = lab.in_b(|| clock.start(&["pong", "afpacket:v1", "--loop", "adaptive"]));
    let args = ["ping", from, "--pps", "100", "-d", "8", "--timeout", "30", "--loop", "blocking"];
    let args = [&args[..], &["--warm-up", "5"]].concat();
    let mut ping = lab.in_a(|| clock.start(&args));
    // While the clock is set, some are under way.
    let answered = std::cell::Cell::new(0);
    steps(&clock, || {
        pong.signal("-CONT");
        let seen = answered.get();
        ping.wait_until(|line| {
            answered.set(line["answered"].as_u64().unwrap());
            answered.get() > seen
        });
        pong.signal("-STOP");
        std::thread::sleep(Duration::from_millis(50));
    });
    pong.signal("-CONT");
    let ended = ping.finish();
    told(&ended, "ping");
    let last = &ended.last;
    assert_eq!((&last["lost"], &last["damaged"]), (&0.into(), &0.into()), "{ended:?}");
    let size = &last["sizes"][0];
    let max = |name: &str| size[name]["max"].as_u64().unwrap();
    assert!(last["torn_stamps"].as_u64() > Some(0), "{ended:?}");
    let times = ["rtt_ns", "service_ns", "stamped_ns"];
    assert!(times.iter().all(|name| max(name) < LONG), "{ended:?}");
    told(&pong.interrupt(), "pong");
}

/// Sends numbered datagrams from A.
fn send(lab: &Lab, numbers: std::ops::Range<u8>) {
    lab.in_a(|| {
        let socket = std::net::UdpSocket::bind("10.99.0.1:0").unwrap();
        for n in numbers {
            socket.send_to(&[n; 100], GROUP).unwrap();
        }
    });
}

/// Captures side by side, on one cable.
fn captures(lab: &Lab, clock: &Clock, ports: &[&str]) {
    let dir = Scratch::new(&format!("clock-captures-{}", ports.len()));
    let file = |i: usize| dir.path(&format!("{i}.pcapng"));
    let start = |(i, port): (usize, &&str)| {
        let args = ["capture", "-i", port, "-g", GROUP, "-w", &file(i)];
        lab.in_b(|| clock.start(&args))
    };
    let mut running: Vec<Running> = ports.iter().enumerate().map(start).collect();
    let mut sent = 0;
    let mut bounds = Vec::new();
    steps(clock, || {
        let before = clock.now_ns();
        send(lab, sent..sent + 10);
        sent += 10;
        for capture in &mut running {
            capture.wait_until(|line| line["frames"].as_u64() == Some(sent.into()));
        }
        bounds.push((before, clock.now_ns()));
    });
    for ((i, port), mut capture) in ports.iter().enumerate().zip(running) {
        let ended = capture.interrupt();
        told(&ended, port);
        let last = &ended.last;
        assert_eq!((&last["delivered"], &last["unexplained"]), (&sent.into(), &0.into()));
        check(&file(i), &bounds, port);
    }
}

/// All are there, in the order in which they came, stamped by the clock as it was then. (What a
/// card's own clock is read with may be a second old.)
fn check(file: &str, bounds: &[(i64, i64)], port: &str) {
    let mut reader = Reader::open(file).unwrap();
    let mut n = 0;
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(usize::from(record.bytes[42]), n, "{port}");
        let (from, to) = bounds[n / 10];
        let ts = record.info.ts_ns as i64;
        // An ExaNIC tells 32 bits of its clock. When that was set since its ring was last empty,
        // the rest is not to be had, and there is no stamp.
        let none = port.contains("exanic") && record.info.ts_ns == NO_TS && n >= 10;
        let fits = none || (from - SECOND..to + SECOND).contains(&ts);
        assert!(fits, "{port}: frame {n}, stamped {ts}, came between {from} and {to}");
        n += 1;
    }
    assert_eq!(n, 10 * bounds.len(), "{port}");
    let text = std::fs::read(file).unwrap();
    let comment = b"the system's clock was set 3 times, by ";
    assert!(text.windows(comment.len()).any(|part| part == comment), "{port}: no comment");
}

#[test]
fn captures_on_simulated_cards_follow_the_clock_and_say_so() {
    let clock = clock!("cards", OF_A_LIBRARY);
    let lab = lab_or_skip!();
    lab_with_route(&lab);
    captures(&lab, &clock, &["sim:exanic?peer=v1", "sim:efvi?peer=v1", "sim:verbs?peer=v1"]);
}

#[test]
fn captures_of_the_kernel_follow_its_clock_and_say_so() {
    let clock = clock!("kernel", OF_THE_KERNEL);
    let lab = lab_or_skip!();
    lab_with_route(&lab);
    captures(&lab, &clock, &["afpacket:v1", "udp:v1"]);
}

/// AF_XDP's frames are stamped by this program, where the driver does not stamp them.
#[test]
fn a_capture_on_xdp_follows_the_clock_and_says_so() {
    let clock = clock!("xdp", OF_A_LIBRARY);
    let lab = lab_or_skip!();
    lab_with_route(&lab);
    captures(&lab, &clock, &["afxdp:v1"]);
}

/// A capture that ends after a time.
#[test]
fn a_limit_of_time_holds() {
    let clock = clock!("limits", OF_A_LIBRARY);
    let lab = lab_or_skip!();
    lab_with_route(&lab);
    let dir = Scratch::new("clock-limit");
    let file = dir.path("out.pcapng");
    let args = ["capture", "-i", "afpacket:v1", "-g", GROUP, "-w", &file, "-d", "5"];
    let mut capture = lab.in_b(|| clock.start(&args));
    steps(&clock, || {
        capture.wait_until(|line| line["final"] == false);
        send(&lab, 0..20);
    });
    let ended = capture.finish();
    told(&ended, "capture");
    let seconds = ended.last["seconds"].as_f64().unwrap();
    assert!((5.0..600.0).contains(&seconds), "{ended:?}");
    assert_eq!((&ended.last["delivered"], &ended.last["unexplained"]), (&80.into(), &0.into()));
}

/// In the guest only: the last second of a day is told twice.
#[test]
fn a_leap_second_is_a_step_of_one_second() {
    let clock = clock!("leap", OF_THE_KERNEL);
    let lab = lab_or_skip!();
    // Some time before the midnight that begins 2027: starting takes its time there.
    linerate_lab::clock::set(1_798_761_600 * SECOND - 9 * SECOND);
    linerate_lab::clock::arm_leap_second();
    let mut pong = lab.in_b(|| clock.start(&["pong", "afpacket:v1", "--loop", "adaptive"]));
    let args = ["ping", "afpacket:v0", "--pps", "100", "-d", "600", "--loop", "blocking"];
    let args = [&args[..], &["--warm-up", "5", "--timeout", "30"]].concat();
    let mut ping = lab.in_a(|| clock.start(&args));
    ping.wait_until(|line| line["clock_steps"] == 1);
    let ended = ping.interrupt();
    let last = &ended.last;
    assert_eq!((ended.code, &last["lost"]), (Some(0), &0.into()), "{ended:?}");
    assert_eq!(last["clock_steps"], 1, "{ended:?}");
    let by = last["clock_set_ns"].as_i64().unwrap();
    assert!((by + SECOND).abs() < SECOND / 10, "{ended:?}");
    assert!(last["sizes"][0]["rtt_ns"]["max"].as_u64() < Some(LONG), "{ended:?}");
    assert_eq!(pong.interrupt().code, Some(0));
}
