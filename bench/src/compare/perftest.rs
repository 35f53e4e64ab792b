//! Debian's `raw_ethernet_bw`, unmodified, over the simulated verbs device as a driver of libibverbs.
//!
//! libibverbs finds the device in a directory tree made up for it, and in a mount namespace in which
//! `/dev` is another; the cable of the device ends at `vb`. callgrind counts what the program's own
//! loop executes: the function that polls for completions, without what the driver executes.

use std::fs;
use std::path::{Path, PathBuf};

use super::lab::{LOAD_CPU, MEASURED_CPU, Side, VA, VB, mac_text};
use super::program::{Program, Quit, words};
use super::{Ground, peers};
use crate::callgrind;

/// What raw_ethernet_bw is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Send, so many requests a call.
    Send(u32),
    /// Receive what a generator sends.
    Receive,
}

/// Frames of the runs that are counted: powers of two, as the queue is as long as all of them, so
/// that the program sends before it polls and all polls are alike.
const FRAMES: [u32; 4] = [512, 1024, 2048, 4096];
/// A completion for so many frames.
const MODERATION: u32 = 32;
/// The counts must lie on a line by so many instructions a frame.
const MISFIT: f64 = 1.0;

/// Enters a mount namespace of its own with such devices as libibverbs and valgrind ask for.
const ENTER: &str = r#"
set -e
dir=$1; shift
mount -t tmpfs none "$dir/dev"
mkdir "$dir/dev/infiniband" "$dir/dev/shm"
for device in null zero urandom; do
  touch "$dir/dev/$device"
  mount --bind "/dev/$device" "$dir/dev/$device"
done
touch "$dir/dev/infiniband/uverbs0"
mount --bind /dev/null "$dir/dev/infiniband/uverbs0"
mount --rbind "$dir/dev" /dev
exec "$@"
"#;

/// Instructions that `raw_ethernet_bw` executes for a frame, empty polls not counted.
///
/// # Errors
///
/// It, valgrind or the driver is not there; or its counts do not fit together.
pub fn instructions(ground: &Ground<'_>, way: Way) -> Result<f64, String> {
    for tool in ["raw_ethernet_bw", "valgrind", "unshare"] {
        if !peers::has(tool) {
            return Err(format!("{tool} is not installed"));
        }
    }
    if Path::new("/sys/class/infiniband_verbs").exists() {
        return Err("this kernel has RDMA: libibverbs asks it for devices".into());
    }
    let tree = Tree::new()?;
    // It gives up when the driver's thread, one of many here, answers late: once more then.
    let count =
        |frames| count(ground, &tree, way, frames).or_else(|_| count(ground, &tree, way, frames));
    let counts: Result<Vec<Count>, String> = FRAMES.into_iter().map(count).collect();
    per_frame(&counts?)
}

/// What one run came to.
#[derive(Debug, Clone, Copy)]
struct Count {
    frames: f64,
    polls: f64,
    instructions: f64,
}

fn count(ground: &Ground<'_>, tree: &Tree, way: Way, frames: u32) -> Result<Count, String> {
    let out = tree.0.join("callgrind");
    let mut all: Vec<String> = ["unshare", "-m", "sh", "-c", ENTER, "enter"].map(Into::into).into();
    all.extend([tree.text(), "valgrind".into(), "--tool=callgrind".into(), "--quiet".into()]);
    // Threads in turns, or the card's gets no CPU beside one that polls.
    all.extend(["--dump-line=no", "--fair-sched=yes"].map(String::from));
    all.push(format!("--callgrind-out-file={}", out.display()));
    all.extend(["raw_ethernet_bw", "-d", "simv0", "-s", "64", "-I", "0", "-N"].map(String::from));
    all.extend(["-B".into(), mac_text(VB.mac), "-E".into(), mac_text(VA.mac)]);
    all.extend(["-n".into(), frames.to_string()]);
    match way {
        Way::Receive => all.push("--server".into()),
        Way::Send(list) => {
            all.extend(["--client".into(), "-t".into(), frames.to_string()]);
            all.extend(["-l".into(), list.to_string(), "-Q".into(), MODERATION.to_string()]);
        }
    }
    let program = Program::new(Side::B, MEASURED_CPU, all)
        .says_nothing()
        .env("RDMAV_DRIVERS", &tree.0.join("simverbs").to_string_lossy())
        .env("SYSFS_PATH", &tree.0.join("sys").to_string_lossy())
        .env("LINERATE_SIM_PEER", VB.interface);
    let _feed = match way {
        // It does not say when it is ready: frames come until it has as many as it wants.
        Way::Receive => {
            let send = [peers::ours("loops")?, "send".into(), "afpacket:va".into(), "60".into()];
            Some(
                Program::new(Side::A, LOAD_CPU, send)
                    .quit_by(Quit::Signal(libc::SIGTERM))
                    .start(ground.lab)?,
            )
        }
        Way::Send(_) => None,
    };
    program.start(ground.lab)?.wait()?;
    let profile = fs::read_to_string(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let (instructions, polls) = callgrind::callers_of(&profile, "/raw_ethernet_bw", "poll_cq");
    if polls == 0 {
        return Err("callgrind saw no poll for completions".into());
    }
    let [frames, polls, instructions] = [f64::from(frames), polls as f64, instructions as f64];
    Ok(Count { frames, polls, instructions })
}

/// Each count is a constant, so much a frame, and so much a poll: least squares of what runs differ
/// by from the first.
fn per_frame(counts: &[Count]) -> Result<f64, String> {
    let Some((first, rest)) = counts.split_first().filter(|(_, rest)| rest.len() > 2) else {
        return Err("too few runs to tell frames from polls".into());
    };
    let rows: Vec<[f64; 3]> = rest
        .iter()
        .map(|run| {
            let polls = run.polls - first.polls;
            [run.frames - first.frames, polls, run.instructions - first.instructions]
        })
        .collect();
    let sum = |a: usize, b: usize| rows.iter().map(|row| row[a] * row[b]).sum::<f64>();
    let whole = sum(0, 0) * sum(1, 1) - sum(0, 1) * sum(0, 1);
    let a_frame = (sum(0, 2) * sum(1, 1) - sum(0, 1) * sum(1, 2)) / whole;
    let a_poll = (sum(0, 0) * sum(1, 2) - sum(0, 1) * sum(0, 2)) / whole;
    let off = |row: &[f64; 3]| (row[0] * a_frame + row[1] * a_poll - row[2]).abs() / row[0];
    let misfit = rows.iter().map(off).fold(0.0, f64::max);
    if misfit <= MISFIT {
        Ok(a_frame)
    } else {
        Err(format!("its counts do not lie on a line: {misfit:.1} instructions a frame beside it"))
    }
}

/// The driver, and the files that announce a device, whose node is /dev/null.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Result<Self, String> {
        let dir = std::env::temp_dir().join(format!("linerate-bench-{}", std::process::id()));
        let tree = Self(dir);
        let write = |file: PathBuf, text: &str| {
            fs::create_dir_all(file.parent().unwrap_or(&tree.0))
                .and_then(|()| fs::write(&file, format!("{text}\n")))
                .map_err(|e| format!("{}: {e}", file.display()))
        };
        for (file, text) in [
            ("infiniband_verbs/abi_version", "6"),
            ("infiniband_verbs/uverbs0/ibdev", "simv0"),
            ("infiniband_verbs/uverbs0/dev", "1:3"),
            ("infiniband_verbs/uverbs0/abi_version", "1"),
            ("infiniband/simv0/node_type", "1: CA"),
        ] {
            write(tree.0.join("sys/class").join(file), text)?;
        }
        write(tree.0.join("dev/none"), "")?;
        let driver = peers::ours("liblinerate_sim_verbs_driver.so")?;
        fs::copy(&driver, tree.0.join("simverbs-rdmav34.so"))
            .map_err(|e| format!("{driver}: {e}"))?;
        Ok(tree)
    }

    fn text(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Instructions a frame of one of our loops or of those in C over the same simulated device.
///
/// # Errors
///
/// What `instructions` says.
pub fn count_loop(ground: &Ground<'_>, way: &str) -> Result<f64, String> {
    let all = [peers::ours("instructions")?, "--count".into(), "verbs".into(), way.into()];
    let program = Program::new(Side::B, MEASURED_CPU, all).says_nothing();
    let said = program.start(ground.lab)?.wait()?;
    words(&said).get("instructions").copied().ok_or_else(|| format!("no result: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_polls_cost_is_taken_off() {
        let run = |frames: f64, polls: f64, noise: f64| Count {
            frames,
            polls,
            instructions: 91.0 + 120.0 * frames + 59.0 * polls + noise,
        };
        let counts = |noise| {
            [
                run(512.0, 12_768.0, 0.0),
                run(1024.0, 15_732.0, noise),
                run(2048.0, 32_382.0, 0.0),
                run(4096.0, 30_335.0, 0.0),
            ]
        };
        assert!((per_frame(&counts(5.0)).unwrap() - 120.0).abs() < 0.1);
        assert!(per_frame(&counts(50_000.0)).is_err());
        assert!(per_frame(&counts(0.0)[..1]).is_err());
    }
}
