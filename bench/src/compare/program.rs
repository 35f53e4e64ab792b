//! Other programs, as children that end with us.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, thread};

use super::interrupt;
use super::lab::{Lab, MEASURED_CPU, Side};

/// How long a program may take to be ready, and to end when told to.
const PATIENCE: Duration = Duration::from_secs(15);

/// A command to run measured programs under: `chrt -f 10` gives numbers for their own work on a
/// machine that is not quiet. Not for results that are kept.
const WRAP: &str = "LINERATE_BENCH_WRAP";

/// A program to be run in the lab.
#[derive(Debug, Clone)]
pub struct Program {
    words: Vec<String>,
    side: Side,
    cpu: Option<usize>,
    ready: Option<String>,
    quit: Quit,
    settle: Duration,
    env: Vec<(String, String)>,
}

/// How a program is told to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quit {
    /// A signal.
    Signal(i32),
    /// A line on its standard input.
    Line(String),
}

impl Program {
    /// A program of ours, or one that behaves alike: says `ready`, ends at SIGTERM and then prints
    /// `name=value` words.
    pub fn new(side: Side, cpu: usize, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            words: words.into_iter().map(Into::into).collect(),
            side,
            cpu: Some(cpu),
            ready: Some("ready".into()),
            quit: Quit::Signal(libc::SIGTERM),
            settle: Duration::ZERO,
            env: Vec::new(),
        }
    }

    /// It is ready when a line of its output contains this.
    #[must_use]
    pub fn ready_at(mut self, text: &str) -> Self {
        self.ready = Some(text.into());
        self
    }

    /// It is taken as ready when so much time has passed, after its word if it has one.
    #[must_use]
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = time;
        self
    }

    /// It says nothing when it is ready.
    #[must_use]
    pub fn says_nothing(mut self) -> Self {
        self.ready = None;
        self
    }

    /// How it is told to end.
    #[must_use]
    pub fn quit_by(mut self, quit: Quit) -> Self {
        self.quit = quit;
        self
    }

    /// More words for its command line.
    #[must_use]
    pub fn with<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.words.extend(words.into_iter().map(String::from));
        self
    }

    /// It runs in another namespace.
    #[must_use]
    pub fn with_side(mut self, side: Side) -> Self {
        self.side = side;
        self
    }

    /// It pins its threads itself.
    #[must_use]
    pub fn on_all_cpus(mut self) -> Self {
        self.cpu = None;
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It cannot be started, ends at once, or is never ready: with the end of what it said.
    pub fn start(&self, lab: &Lab) -> Result<Running, String> {
        // The kernel takes a moment to let go of a queue whose socket has been closed: what runs
        // next on it may find it busy.
        let mut tries = 5;
        loop {
            match self.start_once(lab) {
                Err(why) if tries > 1 && !interrupt::asked() && is_busy(&why) => {
                    tries -= 1;
                    pause(Duration::from_millis(200))?;
                }
                done => return done,
            }
        }
    }

    fn start_once(&self, lab: &Lab) -> Result<Running, String> {
        // Never beside the generator: the kernel's own threads run there, and must.
        let wrap = env::var(WRAP).ok().filter(|_| self.cpu == Some(MEASURED_CPU));
        let wrap: Vec<&str> = wrap.iter().flat_map(|words| words.split_whitespace()).collect();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &lab.namespace(self.side)])
            .args(["taskset", "-c", &self.cpu.map_or("0,1".into(), |cpu| cpu.to_string())])
            .args(&wrap)
            .args(&self.words)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: only prctl and setpgid, which may be called between fork and exec. Without them
        // a child would outlive us, or take the terminal's Ctrl-C before we do.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::setpgid(0, 0);
                Ok(())
            });
        }
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", self.words[0]))?;
        let (to, lines) = mpsc::channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as _),
            child.stderr.take().map(|out| Box::new(out) as _),
        ];
        for out in outputs.into_iter().flatten() {
            let to = to.clone();
            thread::spawn(move || {
                for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                    if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        break;
                    }
                }
            });
        }
        let quit = self.quit.clone();
        let mut running = Running { child, lines, said: Vec::new(), quit };
        if let Some(word) = &self.ready {
            running.wait_for(word)?;
        }
        pause(self.settle)?;
        Ok(running)
    }
}

fn is_busy(text: &str) -> bool {
    // xdpilone and others say it with the number alone.
    ["busy", "EBUSY", "code: 16", "Errno(16)"].iter().any(|word| text.contains(word))
}

/// Sleeps, but not through a Ctrl-C.
///
/// # Errors
///
/// There was one.
pub fn pause(time: Duration) -> Result<(), String> {
    let end = Instant::now() + time;
    loop {
        if interrupt::asked() {
            return Err(interrupt::WORD.into());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// A program that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    quit: Quit,
}

impl Running {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line on its standard input.
    ///
    /// # Errors
    ///
    /// It has closed it.
    pub fn tell(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("no standard input")?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).map_err(|e| e.to_string())
    }

    fn wait_for(&mut self, word: &str) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if interrupt::asked() {
                return Err(interrupt::WORD.into());
            }
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    let found = line.contains(word);
                    self.said.push(line);
                    if found {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.complain("was never ready")),
                Err(RecvTimeoutError::Disconnected) => return Err(self.complain("ended at once")),
            }
        }
    }

    fn complain(&self, what: &str) -> String {
        // The line with the reason, of a program that says more.
        let lines = || self.said.iter().rev().filter(|line| !line.trim().is_empty());
        let reason = lines().find(|line| is_busy(line) || line.contains("rror"));
        let said = reason.or_else(|| lines().next());
        format!("{what}: {}", said.map_or("it said nothing", |line| line.trim()))
    }

    /// Waits until it ends by itself, and returns all that it said.
    ///
    /// # Errors
    ///
    /// It does not end, or fails.
    pub fn wait(mut self) -> Result<String, String> {
        self.finish(Duration::from_secs(120))
    }

    /// Tells it to end, and returns all that it said.
    ///
    /// # Errors
    ///
    /// It does not end, or fails.
    pub fn stop(mut self) -> Result<String, String> {
        match self.quit.clone() {
            Quit::Signal(signal) => self.signal(signal),
            Quit::Line(line) => self.tell(&line)?,
        }
        self.finish(PATIENCE)
    }

    /// To it and to those that it has started: it leads a group of its own.
    fn signal(&self, signal: i32) {
        // SAFETY: our own child's group; the child has not been waited for, so its number is not
        // another's yet.
        unsafe { libc::kill(-(self.child.id() as i32), signal) };
    }

    fn finish(&mut self, patience: Duration) -> Result<String, String> {
        drop(self.child.stdin.take());
        let end = Instant::now() + patience;
        let status = loop {
            self.said.extend(self.lines.try_iter());
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            if Instant::now() > end {
                return Err(self.complain("did not end"));
            }
            pause(Duration::from_millis(5))?;
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
            self.said.push(line);
        }
        // Ended by the signal that asked for it is as good as 0.
        use std::os::unix::process::ExitStatusExt;
        let asked = matches!(self.quit, Quit::Signal(signal) if status.signal() == Some(signal));
        if !status.success() && !asked {
            return Err(self.complain(&status.to_string()));
        }
        Ok(self.said.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No group without a leader is left behind; where it has ended, there is nobody to hear.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// The `name=value` words of an output.
#[must_use]
pub fn words(text: &str) -> BTreeMap<&str, f64> {
    let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
}

/// The number that follows `label` in an output, where it occurs last.
#[must_use]
pub fn number_after(text: &str, label: &str) -> Option<f64> {
    let rest = &text[text.rfind(label)? + label.len()..];
    let rest = rest.trim_start_matches([' ', ':', '=', '\t']);
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_text() {
        let text = "ready\nframes=12 work_ns=3.5 mode=spin\n";
        assert_eq!(words(text), BTreeMap::from([("frames", 12.0), ("work_ns", 3.5)]));
        let text = "RX-packets: 5\n  RX-packets: 1203  RX-dropped: 0\n cycles/packet=24.50.";
        assert_eq!(number_after(text, "RX-packets"), Some(1203.0));
        assert_eq!(number_after(text, "cycles/packet"), Some(24.5));
        assert_eq!(number_after(text, "TX-packets"), None);
    }
}
