//! Ports give back what they use. Alone in its process, because it counts descriptors.
#![allow(clippy::unwrap_used)]

mod rig;

use std::collections::BTreeSet;
use std::fs;

use linerate_afxdp::{Options, open};
use linerate_lab::lab_or_skip;
use rig::{all, until};

/// A line of /proc/self/status in KiB.
fn status_kib(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Ids of the BPF objects that this process has open, by kind.
fn bpf_objects() -> BTreeSet<(&'static str, u32)> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        for kind in ["prog_id:", "map_id:", "link_id:"] {
            let id = text.lines().find_map(|l| l.strip_prefix(kind)?.trim().parse().ok());
            ids.extend(id.map(|id| (kind, id)));
        }
    }
    ids
}

/// Is an object still in the kernel?
fn is_there((kind, id): (&str, u32)) -> bool {
    let command = match kind {
        "prog_id:" => 13,
        "map_id:" => 14,
        _ => 30,
    };
    let attr = [id, 0, 0, 0];
    // SAFETY: BPF_*_GET_FD_BY_ID take an id and two words more.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), 16) };
    if fd >= 0 {
        // SAFETY: a new descriptor, ours alone.
        unsafe { libc::close(fd as i32) };
    }
    fd >= 0
}

/// Opens and closes ports on one interface, and gives the BPF objects that some of them had.
fn cycles(interface: &str, options: &Options, n: usize) -> BTreeSet<(&'static str, u32)> {
    let mut seen = BTreeSet::new();
    for cycle in 0..n {
        let port = open(interface, options).unwrap();
        if cycle % 50 == 0 {
            seen.extend(bpf_objects());
        }
        drop(port);
    }
    seen
}

#[test]
fn a_thousand_ports_leave_nothing() {
    const INTERFACES: [&str; 4] = ["v0", "w0", "x0", "y0"];
    let lab = lab_or_skip!();
    for (a, b) in [("w0", "w1"), ("x0", "x1"), ("y0", "y1")] {
        lab.add_pair(a, b).unwrap();
    }
    lab.in_a(|| {
        // Several interfaces at once, since most of it is waiting for the kernel.
        let run = |n: usize| -> BTreeSet<_> {
            std::thread::scope(|scope| {
                let threads =
                    INTERFACES.map(|name| scope.spawn(move || cycles(name, &all_small(), n)));
                threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
            })
        };
        run(5);
        let before = (descriptors(), status_kib("VmLck"));
        let resident = status_kib("VmRSS");
        let seen = run(250);
        assert!(seen.len() >= 4 * 5 * 7, "{seen:?}");
        assert_eq!((descriptors(), status_kib("VmLck")), before);
        // A port of this size has 2.4 MiB of frames: a leak would show many times over.
        assert!(status_kib("VmRSS") < resident + 8192, "{resident} KiB at first");
        // The kernel frees them when the last program has left them, a little later.
        until(|| seen.iter().all(|object| !is_there(*object)));
    });
}

fn all_small() -> Options {
    let mut options = all();
    options.ring_slots = 64;
    options
}
