//! Network namespaces joined by veth pairs, for tests against the real kernel.
//!
//! A [`Lab`] holds two namespaces, A with `v0` (10.99.0.1, fd99::1) and B with `v1` (10.99.0.2,
//! fd99::2), and takes them down when it drops. Nothing outside it is touched. Where it cannot be
//! built (no root, no `ip` command), [`Lab::new`] says why and the test skips by [`skip`].

pub mod clock;
pub mod refused;
pub mod syscalls;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Why a test cannot run here.
pub type Skip = String;

/// Prints the reason past the test harness's capture, and to the file that `LINERATE_SKIPS`
/// names, so that no skipped test passes silently.
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    // Past the capture of `eprintln!` on purpose. Nothing can be done if stderr is closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("LINERATE_SKIPS") {
        let file = File::options().create(true).append(true).open(path);
        let _ = file.and_then(|mut f| f.write_all(line.as_bytes()));
    }
}

/// A [`Lab`], or an early return from the test with the reason printed.
#[macro_export]
macro_rules! lab_or_skip {
    () => {
        match $crate::Lab::new() {
            Ok(lab) => lab,
            Err(why) => {
                $crate::skip(std::thread::current().name().unwrap_or("test"), &why);
                return;
            }
        }
    };
}

/// Two namespaces and the cable between them.
#[derive(Debug)]
pub struct Lab {
    a: String,
    b: String,
}

impl Lab {
    /// Builds the namespaces with one veth pair, MTU 1500, both ends up.
    pub fn new() -> Result<Self, Skip> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return Err("network namespaces need root".into());
        }
        let tag = format!("lr{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { a: format!("{tag}a"), b: format!("{tag}b") };
        ip(&["netns", "add", &lab.a])?;
        ip(&["netns", "add", &lab.b])?;
        lab.add_pair("v0", "v1")?;
        for (ns, dev, n) in [(&lab.a, "v0", 1), (&lab.b, "v1", 2)] {
            ip(&["-n", ns, "link", "set", "lo", "up"])?;
            ip(&["-n", ns, "addr", "add", &format!("10.99.0.{n}/24"), "dev", dev])?;
            ip(&["-n", ns, "addr", "add", &format!("fd99::{n}/64"), "dev", dev, "nodad"])?;
        }
        Ok(lab)
    }

    /// Joins A and B with one more veth pair, both ends up, without addresses.
    pub fn add_pair(&self, in_a: &str, in_b: &str) -> Result<(), Skip> {
        ip(&[
            "link", "add", in_a, "netns", &self.a, "type", "veth", "peer", in_b, "netns", &self.b,
        ])?;
        for (ns, dev) in [(&self.a, in_a), (&self.b, in_b)] {
            // No router solicitations or MLD reports of the kernel's own among the test's frames.
            let quiet = format!("net.ipv6.conf.{dev}.router_solicitations=0");
            run("ip", &["netns", "exec", ns, "sysctl", "-qw", &quiet])?;
            ip(&["-n", ns, "link", "set", dev, "addrgenmode", "none"])?;
            ip(&["-n", ns, "link", "set", dev, "up"])?;
        }
        Ok(())
    }

    /// Name of namespace A, for `ip netns exec`.
    pub fn a(&self) -> &str {
        &self.a
    }

    /// Name of namespace B, for `ip netns exec`.
    pub fn b(&self) -> &str {
        &self.b
    }

    /// Runs `f` on a thread of its own inside namespace A and gives its result.
    pub fn in_a<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        inside(&self.a, f)
    }

    /// Runs `f` on a thread of its own inside namespace B and gives its result.
    pub fn in_b<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        inside(&self.b, f)
    }

    /// Runs `ip -n A ARGS`.
    pub fn ip_a(&self, args: &[&str]) -> Result<(), Skip> {
        ip(&[&["-n", self.a.as_str()], args].concat())
    }

    /// Runs `ip -n B ARGS`.
    pub fn ip_b(&self, args: &[&str]) -> Result<(), Skip> {
        ip(&[&["-n", self.b.as_str()], args].concat())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [&self.a, &self.b] {
            // Either may not exist when `new` failed half-way.
            let _ = Command::new("ip").args(["netns", "del", ns]).output();
        }
    }
}

/// A thread inside a namespace, with a /sys that shows the namespace's interfaces.
fn inside<T: Send>(ns: &str, f: impl FnOnce() -> T + Send) -> T {
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, || {
            enter(ns).unwrap_or_else(|e| panic!("cannot enter namespace {ns}: {e}"));
            f()
        });
        match thread.expect("a thread can be spawned").join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Moves the calling thread, for good, into a namespace.
fn enter(ns: &str) -> std::io::Result<()> {
    let file = File::open(format!("/run/netns/{ns}"))?;
    let check = |rc: i32| if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: a valid namespace descriptor; these calls change only this thread's namespaces.
    check(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) })?;
    // SAFETY: as above.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let none = c"none".as_ptr();
    // SAFETY: NUL-terminated constant strings; the mounts live in this thread's namespace only.
    unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // The kernel looks at no type here; valgrind does.
        check(libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()))?;
        check(libc::mount(none, c"/sys".as_ptr(), c"sysfs".as_ptr(), 0, std::ptr::null()))
    }
}

fn ip(args: &[&str]) -> Result<(), Skip> {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> Result<(), Skip> {
    let out = Command::new(program)
        .args(args)
        .output()
        .map_err(|e| format!("cannot run {program}: {e} (Debian package iproute2)"))?;
    if out.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&out.stderr);
    Err(format!("{program} {}: {}", args.join(" "), why.trim()))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    #[test]
    fn a_datagram_crosses_the_cable() {
        let lab = lab_or_skip!();
        let rx = lab.in_b(|| UdpSocket::bind("10.99.0.2:7000").unwrap());
        lab.in_a(|| {
            let tx = UdpSocket::bind("10.99.0.1:0").unwrap();
            tx.send_to(b"hello", "10.99.0.2:7000").unwrap();
        });
        let mut buf = [0; 16];
        assert_eq!(rx.recv(&mut buf).unwrap(), 5);
        lab.in_b(|| assert!(std::path::Path::new("/sys/class/net/v1").exists()));
    }
}
