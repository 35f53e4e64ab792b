//! Where the others come from: Debian packages, two crates, and C compiled here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lab::command;

/// Commands, and the Debian package that has each.
const PACKAGES: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
    ("taskset", "util-linux"),
    ("cc", "gcc"),
    ("dpdk-testpmd", "dpdk-dev"),
    ("trafgen", "netsniff-ng"),
    ("tcpreplay", "tcpreplay"),
    ("tcpdump", "tcpdump"),
    ("dumpcap", "wireshark-common"),
    ("sockperf", "sockperf"),
    ("raw_ethernet_bw", "perftest"),
    ("valgrind", "valgrind"),
    ("objdump", "binutils"),
];

/// What is no command: a file, and the package that has it.
const FILES: &[(&str, &str)] = &[
    ("/usr/lib/x86_64-linux-gnu/librte_net_af_xdp.so.23", "librte-net-af-xdp23"),
    ("/usr/lib/x86_64-linux-gnu/librte_net_af_packet.so.23", "librte-net-af-packet23"),
    ("/usr/lib/x86_64-linux-gnu/librte_mempool_ring.so.23", "librte-mempool-ring23"),
    ("/usr/include/pcap/pcap.h", "libpcap-dev"),
    ("/usr/include/linux/if_xdp.h", "linux-libc-dev"),
    // For xsk-rs, which builds libxdp and its bindings itself.
    ("/usr/bin/clang", "clang"),
    ("/usr/include/libelf.h", "libelf-dev"),
    ("/usr/include/zlib.h", "zlib1g-dev"),
    ("/usr/bin/m4", "m4"),
    ("/usr/bin/make", "make"),
    ("/usr/bin/pkg-config", "pkg-config"),
];

/// Is there such a command?
#[must_use]
pub fn has(name: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(name).exists())
}

/// Installs what is missing. What cannot be had is a notice: its rows will say so.
pub fn install(notices: &mut Vec<String>) {
    let commands = PACKAGES.iter().filter(|(name, _)| !has(name)).map(|(_, package)| *package);
    let files = FILES.iter().filter(|(path, _)| !Path::new(path).exists());
    let missing: Vec<&str> = commands.chain(files.map(|(_, package)| *package)).collect();
    if missing.is_empty() {
        return;
    }
    eprintln!("installing {}", missing.join(" "));
    let apt = |words: &[&str]| {
        let prefix = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"];
        command(&[&prefix, words].concat())
    };
    if let Err(why) = apt(&["update"]) {
        notices.push(format!("package lists are old: {why}"));
    }
    // One by one where together fails: a missing package must not keep the others away.
    let words = ["install", "-y", "--no-install-recommends"];
    if apt(&[&words[..], &missing].concat()).is_err() {
        for package in missing {
            if let Err(why) = apt(&[&words[..], &[package]].concat()) {
                let last = why.lines().last().unwrap_or_default().to_owned();
                notices.push(format!("no {package}: {last}"));
            }
        }
    }
}

/// Versions of the packages that are compared, for the page.
#[must_use]
pub fn versions() -> String {
    let mut words = vec!["dpkg-query", "-W", "-f", "${Package} ${Version}, "];
    words.extend([
        "dpdk-dev",
        "libpcap0.8",
        "netsniff-ng",
        "tcpreplay",
        "tcpdump",
        "wireshark-common",
        "sockperf",
        "perftest",
        "libibverbs1",
    ]);
    // It fails if one is missing, and has told of the others.
    let out = Command::new(words[0]).args(&words[1..]).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let mut all = text.trim_end_matches(", ").to_owned();
    let lock = fs::read_to_string(manifest().join("peers/Cargo.lock")).unwrap_or_default();
    for name in ["xdpilone", "xsk-rs", "pnet", "pcap"] {
        let version = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
        if let Some(version) = version.and_then(|(_, rest)| rest.split('"').next()) {
            all.push_str(&format!(", {name} {version}"));
        }
    }
    all
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where programs are built: beside this one.
fn target() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|e| e.to_string())?;
    let release = here.parent().ok_or("no directory of its own")?;
    Ok(release.to_owned())
}

/// A program of this package.
///
/// # Errors
///
/// It was not built.
pub fn ours(name: &str) -> Result<String, String> {
    existing(target()?.join(name))
}

/// A benchmark of this package, as `cargo bench --no-run` leaves it: with a hash in its name.
///
/// # Errors
///
/// It was not built.
pub fn bench(name: &str) -> Result<String, String> {
    let dir = target()?.join("deps");
    let files = fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?.flatten();
    let named = files.map(|file| file.path()).filter(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hash = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        hash.is_some_and(|hash| hash.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let age = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
    let newest = named.max_by_key(age).ok_or_else(|| format!("no benchmark {name} was built"))?;
    existing(newest)
}

/// A C program of `bench/twins`, compiled when it is older than its sources.
///
/// # Errors
///
/// No C compiler, or what it said.
pub fn twin(name: &str) -> Result<String, String> {
    let sources = manifest().join("twins");
    let source = sources.join(format!("{name}.c"));
    let dir = target()?.join("twins");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let program = dir.join(name);
    let age = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let headers = ["program.h", "bursts.h"].map(|header| sources.join(header));
    let newest = headers.iter().chain([&source]).filter_map(|path| age(path)).max();
    if age(&program) < newest {
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(&source);
        if name == "pcap" {
            cc.arg("-lpcap");
        }
        let out = cc.output().map_err(|e| format!("cc: {e}"))?;
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).trim().to_owned());
        }
    }
    existing(program)
}

/// A program of `bench/peers`, which is a package of its own so that what it depends on stays out
/// of the workspace. Built by `bench/run`.
///
/// # Errors
///
/// It was not built: why is in the log beside it.
pub fn rust_peer(name: &str) -> Result<String, String> {
    let dir = manifest().join("peers/target");
    existing(dir.join("release").join(name)).map_err(|_| {
        let log = fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
        let why = log.lines().find(|line| line.starts_with("error"));
        format!("not built: {}", why.unwrap_or("no log of its build"))
    })
}

fn existing(path: PathBuf) -> Result<String, String> {
    if path.exists() {
        Ok(path.to_string_lossy().into_owned())
    } else {
        Err(format!("there is no {}", path.file_name().unwrap_or_default().to_string_lossy()))
    }
}
