//! What a reader must know of the machine and of the programs.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::lab::command;

/// Everything, by name, for the head of the page.
#[must_use]
pub fn facts() -> Vec<(String, String)> {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let virtual_machine = match command(&["systemd-detect-virt", "--vm"]) {
        Ok(kind) if kind.trim() != "none" => format!(", virtual ({})", kind.trim()),
        _ if fs::read_to_string("/proc/cpuinfo").is_ok_and(|c| c.contains(" hypervisor")) => {
            ", virtual".into()
        }
        _ => String::new(),
    };
    let mut facts = vec![
        ("date".to_owned(), date()),
        ("CPU".into(), format!("{cpu}, {cpus} CPUs{virtual_machine}")),
        ("CPU 0 and CPU 1".into(), topology()),
        ("kernel".into(), read("/proc/sys/kernel/osrelease")),
        ("system".into(), field_equals("/etc/os-release", "PRETTY_NAME")),
    ];
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split_whitespace().take(1).collect();
    facts.push(("load before".into(), load.join(" ")));
    for (name, words) in [("rustc", ["rustc", "--version"]), ("C compiler", ["cc", "--version"])] {
        if let Ok(text) = command(&words) {
            facts.push((name.into(), text.lines().next().unwrap_or_default().into()));
        }
    }
    facts
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// `name : value` in a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn field_equals(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// `2026-11-20 18:00 UTC`
fn date() -> String {
    command(&["date", "-u", "+%Y-%m-%d %H:%M UTC"]).map_or_else(
        |_| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{} s after 1970", now.as_secs())
        },
        |text| text.trim().to_owned(),
    )
}

/// Threads of one core or not: what the system says, and what a line of memory says that goes
/// there and back.
fn topology() -> String {
    let siblings = read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list");
    let said = match siblings.as_str() {
        "" => "topology unknown".to_owned(),
        "0" => "said to be separate cores".into(),
        both => format!("threads of one core: {both}"),
    };
    match round_trip_ns() {
        Some(ns) => {
            let kind = if ns < 200.0 { "as between threads of one core" } else { "separate cores" };
            format!("{said}; a cache line goes there and back in {ns:.0} ns ({kind})")
        }
        None => said,
    }
}

/// Pins the calling thread. False: there is no such CPU.
pub fn pin(cpu: usize) -> bool {
    // SAFETY: an all-zero set is a valid one, and `cpu` is far below its 1024 bits.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set) == 0
    }
}

/// How long a line of memory takes from CPU 0 to CPU 1 and back: it is short between threads of one
/// core. `None` with one CPU.
#[must_use]
pub fn round_trip_ns() -> Option<f64> {
    const TURNS: u32 = 100_000;
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    let line = AtomicU32::new(0);
    let wait = |value: u32| {
        while line.load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for turn in 0..TURNS {
                wait(2 * turn + 1);
                line.store(2 * turn + 2, Ordering::Release);
            }
        });
        let here = scope.spawn(|| {
            pin(0);
            let mut best = f64::INFINITY;
            // The best of several parts: a stranger on the CPU spoils some of them.
            for part in 0..10 {
                let start = Instant::now();
                for turn in part * TURNS / 10..(part + 1) * TURNS / 10 {
                    line.store(2 * turn + 1, Ordering::Release);
                    wait(2 * turn + 2);
                }
                best = best.min(start.elapsed().as_nanos() as f64 * 10.0 / f64::from(TURNS));
            }
            best
        });
        here.join().ok()
    })
}
