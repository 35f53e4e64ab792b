//! What the tests of the command share: running it, and making captures for it.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use linerate::file::Reader;
use serde_json::Value;

/// No run of the command takes longer, or the test fails instead of hanging.
const LIMIT: Duration = Duration::from_secs(120);

/// The command with these arguments, without a terminal.
pub(crate) fn linerate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linerate"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The command in a shell that first does something else.
pub(crate) fn linerate_after(shell: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_linerate")]);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    linerate(args).output().expect("the command runs")
}

/// A command that runs beside the test. Killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// The last line of stdout, as JSON.
    pub(crate) last: Value,
    pub(crate) stderr: String,
}

impl Running {
    /// Starts it with `--json`, in the calling thread's namespaces, and waits for its first line.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::started(&mut linerate(args))
    }

    /// The same for a command that was prepared.
    pub(crate) fn started(command: &mut Command) -> Self {
        let mut running = Self::spawn(command.arg("--json"));
        let first = running.lines.recv_timeout(LIMIT);
        if let Err(e) = first {
            let ended = running.finish();
            panic!("{command:?} printed nothing ({e}): {ended:?}");
        }
        if let Some(error) = first.ok().filter(|line| line.starts_with("{\"error\"")) {
            panic!("{command:?}: {error}");
        }
        running
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the command starts");
        let (send, lines) = std::sync::mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test may have lost interest.
                let _ = send.send(line);
            }
        });
        let stderr = child.stderr.take().expect("piped");
        let stderr =
            std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
        Self { child, lines, stderr: Some(stderr) }
    }

    /// Reads lines of stdout until one is as wanted.
    pub(crate) fn wait_until(&mut self, wanted: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            // Lines come every second, wanted or not.
            assert!(begun.elapsed() < LIMIT, "the line did not come");
            let line = self.lines.recv_timeout(LIMIT).expect("the line comes");
            if wanted(&serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"))) {
                return;
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as Ctrl-C does, and waits.
    pub(crate) fn interrupt(&mut self) -> Ended {
        self.signal("-INT");
        self.finish()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn finish(&mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(begun.elapsed() < LIMIT, "the command did not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut last = Value::Null;
        // The sender hangs up when stdout is closed.
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            last = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        let stderr = self.stderr.take().map(|t| t.join().expect("it reads")).unwrap_or_default();
        Ended { code: status.code(), last, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to its end with `--json` in the calling thread's namespaces.
pub(crate) fn json(args: &[&str]) -> Ended {
    json_of(linerate(args))
}

/// Runs this to its end, with `--json`.
pub(crate) fn json_of(mut command: Command) -> Ended {
    Running::spawn(command.arg("--json")).finish()
}

/// A directory that goes away with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("linerate-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A real capture of the shared folder, if it is there.
pub(crate) fn data(name: &str) -> Result<String, String> {
    let dir = std::env::var("LINERATE_DATA").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = dir.join(name);
    if path.exists() {
        Ok(path.to_str().expect("a plain path").to_owned())
    } else {
        Err(format!("{name} is not there; set LINERATE_DATA to the folder of the captures"))
    }
}

/// Writes a classic pcap file with ns stamps, by hand: `(ns, bytes)` each.
pub(crate) fn write_pcap(path: &str, frames: &[(u64, Vec<u8>)]) {
    let mut file = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (ts, bytes) in frames {
        let len = bytes.len() as u32;
        for word in [(ts / 1_000_000_000) as u32, (ts % 1_000_000_000) as u32, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(bytes);
    }
    std::fs::write(path, file).expect("the capture can be written");
}

/// Frames of all sizes with distinguishable content, `gap_ns` apart: plain ones, tagged ones, and
/// ones that are no IP at all.
pub(crate) fn mixed_frames(count: usize, gap_ns: u64) -> Vec<(u64, Vec<u8>)> {
    let start = 1_700_000_000_000_000_000;
    let frame = |i: usize| {
        let mut bytes: Vec<u8> = (0..60 + i * 7 % 1455).map(|at| (at * 31 + i) as u8).collect();
        bytes[..6].copy_from_slice(&[0x01, 0, 0x5e, 1, 2, 3]);
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        let head: &[u8] = match i % 3 {
            0 => &[0x88, 0xb5],
            1 => &[0x81, 0x00, 0x03, 0x89, 0x88, 0xb5],
            _ => &[0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x03, 0x89, 0x88, 0xb5],
        };
        bytes[12..12 + head.len()].copy_from_slice(head);
        bytes[24..32].copy_from_slice(&(i as u64).to_be_bytes());
        (start + i as u64 * gap_ns, bytes)
    };
    (0..count).map(frame).collect()
}

/// The frames of a capture file in order.
pub(crate) fn frames(path: &str) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut all = Vec::new();
    while let Some(record) = reader.next().unwrap_or_else(|e| panic!("{path}: {e}")) {
        all.push(record.bytes.to_vec());
    }
    all
}

/// Fails with the first difference rather than with two megabytes of frames.
pub(crate) fn assert_same(got: &[Vec<u8>], sent: &[Vec<u8>], what: &str) {
    for (i, (got, sent)) in got.iter().zip(sent).enumerate() {
        assert!(got == sent, "{what}: frame {i} differs:\n got {got:02x?}\nsent {sent:02x?}");
    }
    assert_eq!(got.len(), sent.len(), "{what}: number of frames");
}
