//! Debian's `perftest`, unmodified, over the simulated device as a driver of libibverbs, against
//! our queues over another simulated device: both directions, throughput and ping-pong.
//!
//! The two ends are joined by a veth pair in network namespaces of the test's own. perftest runs
//! in a mount namespace with a made-up `/dev/infiniband` and `SYSFS_PATH`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use linerate_common::{FrameRx, FrameTx};
use linerate_lab::Lab;
use linerate_sim::Plug;
use linerate_sim::verbs::{Device, api};
use linerate_verbs::{Context, Library, Options, VerbsRx, VerbsTx, open_on};

/// Few enough for a packet socket to hold all of them while nobody reads.
const FRAMES: usize = 200;
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 2];

struct Bench {
    lab: Lab,
    dir: PathBuf,
    _device: Device,
    tx: VerbsTx,
    rx: VerbsRx,
}

impl Bench {
    /// Or the reason why not here.
    fn new() -> Result<Self, String> {
        for tool in ["raw_ethernet_bw", "raw_ethernet_lat", "unshare"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
            if !found.is_ok_and(|o| o.status.success()) {
                return Err(format!("no {tool} (Debian: perftest, util-linux)"));
            }
        }
        if Path::new("/sys/class/infiniband_verbs").exists() {
            return Err("this kernel has RDMA: libibverbs asks it and not the made-up tree".into());
        }
        let lab = Lab::new()?;
        lab.add_pair("p0", "p1")?;
        let api = api().map_err(|e| e.to_string())?;
        let plug = lab.in_b(|| Plug::veth("p1")).map_err(|e| e.to_string())?;
        let device = Device::new("ours", plug).map_err(|e| e.to_string())?;
        let mut options = Options::default();
        options.flows = vec!["mac:02:00:00:00:00:02".parse().unwrap()];
        // SAFETY: a simulated device is valid for as long as the process lives.
        let context = unsafe { Context::from_device(Library::injected(api), device.raw()) };
        let (rx, tx) = open_on(&context.unwrap(), 1, &options).unwrap().split();
        Ok(Self { lab, dir: made_up_tree(), _device: device, tx, rx })
    }

    /// Starts one of perftest's programs at the other end.
    fn start(&self, program: &str, side: &str) -> Running {
        let child = Command::new("ip")
            .args(["netns", "exec", self.lab.a(), "unshare", "-m", "sh", "-c", ENTER, "enter"])
            .arg(&self.dir)
            .args([program, side, "-d", "simv0", "-B", "02:00:00:00:00:01"])
            .args(["-E", "02:00:00:00:00:02", "-s", "64", "-I", "0", "-n", &FRAMES.to_string()])
            .env("RDMAV_DRIVERS", self.dir.join("simverbs"))
            .env("SYSFS_PATH", self.dir.join("sys"))
            .env("LINERATE_SIM_PEER", "p0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running { child: Some(child), until: Instant::now() + Duration::from_secs(60) }
    }

    /// The frames that are there, each from them to us and whole.
    fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        self.rx.poll(64, |frame| got.push(frame.bytes.to_vec())).unwrap();
        for frame in &got {
            assert_eq!((&frame[..6], &frame[6..12]), (&OURS[..], &THEIRS[..]));
            // Its 64 bytes count the frame check sequence.
            assert_eq!(frame.len(), 60);
        }
        got
    }

    fn send(&mut self, count: usize) {
        let mut frame = [0x5a; 60];
        frame[..6].copy_from_slice(&THEIRS);
        frame[6..12].copy_from_slice(&OURS);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        for _ in 0..count {
            while !self.tx.send(&frame).unwrap() {
                self.tx.kick().unwrap();
            }
        }
        self.tx.kick().unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Mounts what libibverbs looks at, in a mount namespace that ends with the program.
const ENTER: &str = r#"
set -e
dir=$1; shift
mount -t tmpfs none "$dir/dev"
mkdir "$dir/dev/infiniband" "$dir/dev/shm"
for name in null zero urandom; do touch "$dir/dev/$name"; mount --bind "/dev/$name" "$dir/dev/$name"; done
touch "$dir/dev/infiniband/uverbs0"; mount --bind /dev/null "$dir/dev/infiniband/uverbs0"
mount --rbind "$dir/dev" /dev
exec "$@"
"#;

/// A directory with the driver and with the files that announce a device: its node is /dev/null.
fn made_up_tree() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir =
        std::env::temp_dir().join(format!("linerate-perftest-{}-{number}", std::process::id()));
    let class = dir.join("sys/class");
    for (file, text) in [
        ("infiniband_verbs/abi_version", "6"),
        ("infiniband_verbs/uverbs0/ibdev", "simv0"),
        ("infiniband_verbs/uverbs0/dev", "1:3"),
        ("infiniband_verbs/uverbs0/abi_version", "1"),
        ("infiniband/simv0/node_type", "1: CA"),
    ] {
        let file = class.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("{text}\n")).unwrap();
    }
    fs::create_dir_all(dir.join("dev")).unwrap();
    fs::copy(driver(), dir.join("simverbs-rdmav34.so")).unwrap();
    dir
}

/// Builds the driver, a library of another package: cargo makes none for a test by itself.
fn driver() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "linerate-sim-verbs-driver", "--message-format=json"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let file = text.split('"').rfind(|word| word.ends_with("linerate_sim_verbs_driver.so"));
    let errors = String::from_utf8_lossy(&output.stderr);
    file.unwrap_or_else(|| panic!("the driver was not built: {errors}")).into()
}

/// A program of perftest's, ended with the test.
struct Running {
    child: Option<Child>,
    until: Instant,
}

impl Running {
    fn goes_on(&mut self) -> bool {
        assert!(Instant::now() < self.until, "perftest does not end");
        std::thread::sleep(Duration::from_millis(1));
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// What it printed, once it has ended well.
    fn result(mut self) -> String {
        while self.goes_on() {}
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The line of results: size and count first.
fn measured(text: &str) -> bool {
    let counts = ["64".to_owned(), FRAMES.to_string()];
    text.lines().any(|line| line.split_whitespace().take(2).eq(counts.iter().map(String::as_str)))
}

macro_rules! bench_or_skip {
    ($test:expr) => {
        match Bench::new() {
            Ok(bench) => bench,
            Err(why) => return linerate_lab::skip($test, &why),
        }
    };
}

#[test]
fn all_that_raw_ethernet_bw_sends_arrives() {
    let mut bench = bench_or_skip!("all_that_raw_ethernet_bw_sends_arrives");
    let mut client = bench.start("raw_ethernet_bw", "--client");
    let mut got = 0;
    while client.goes_on() {
        got += bench.receive().len();
    }
    let until = Instant::now() + Duration::from_secs(20);
    while got < FRAMES {
        assert!(Instant::now() < until, "{got} of {FRAMES} frames arrived");
        got += bench.receive().len();
    }
    assert!(measured(&client.result()));
    assert_eq!((got, bench.rx.stats().lost()), (FRAMES, 0));
}

#[test]
fn raw_ethernet_bw_receives_what_we_send() {
    let mut bench = bench_or_skip!("raw_ethernet_bw_receives_what_we_send");
    let mut server = bench.start("raw_ethernet_bw", "--server");
    // It does not say when it is ready: it is sent to until it has what it waits for.
    while server.goes_on() {
        bench.send(10);
    }
    assert!(measured(&server.result()));
}

#[test]
fn raw_ethernet_lat_gets_its_answers() {
    let mut bench = bench_or_skip!("raw_ethernet_lat_gets_its_answers");
    let mut client = bench.start("raw_ethernet_lat", "--client");
    let mut pings = 0;
    while client.goes_on() {
        let n = bench.receive().len();
        bench.send(n);
        pings += n;
    }
    assert!(measured(&client.result()));
    assert_eq!(pings, FRAMES, "one ping for each answer");
}

#[test]
fn raw_ethernet_lat_answers_us() {
    let mut bench = bench_or_skip!("raw_ethernet_lat_answers_us");
    let mut server = bench.start("raw_ethernet_lat", "--server");
    let (mut pongs, mut asked) = (0, Instant::now());
    bench.send(1);
    while server.goes_on() {
        let n = bench.receive().len();
        pongs += n;
        // The first ones are lost until the server is there.
        if n > 0 || pongs == 0 && asked.elapsed() > Duration::from_millis(50) {
            bench.send(1);
            asked = Instant::now();
        }
    }
    pongs += bench.receive().len();
    assert!(measured(&server.result()));
    assert!(pongs >= FRAMES - 1, "{pongs} answers");
}
