//! The ground that all run on: three network namespaces and two veth pairs.
//!
//! ```text
//!   A            B                     C
//!   va ========= vb    forwarder
//!   generator,   receiver, vc ======== vd
//!   far end      sender in B: vb         counter
//! ```
//!
//! Nothing outside is touched but the number of huge pages, which is put back.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::thread;

/// The address of an interface of the lab.
#[derive(Debug, Clone, Copy)]
pub struct Station {
    /// Name.
    pub interface: &'static str,
    /// Ethernet address.
    pub mac: [u8; 6],
    /// IPv4 address, in a /24.
    pub ip: [u8; 4],
}

const fn station(interface: &'static str, mac: u8, ip: [u8; 4]) -> Station {
    Station { interface, mac: [2, 0, 0, 0, 0x10, mac], ip }
}

/// In namespace A.
pub const VA: Station = station("va", 1, [10, 98, 1, 1]);
/// In namespace B, the other end of `va`.
pub const VB: Station = station("vb", 2, [10, 98, 1, 2]);
/// In namespace B.
pub const VC: Station = station("vc", 3, [10, 98, 2, 3]);
/// In namespace C, the other end of `vc`.
pub const VD: Station = station("vd", 4, [10, 98, 2, 4]);

/// The CPU of what makes the load.
pub const LOAD_CPU: usize = 0;
/// The CPU of what is measured.
pub const MEASURED_CPU: usize = 1;

const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";
/// Pages of 2 MiB that all that may run at the same time need together.
const WANTED_PAGES: u64 = 512;
const PREFIX: &str = "lrb";

/// One of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where the generator is.
    A,
    /// Where the measured program is.
    B,
    /// Behind the forwarder.
    C,
}

/// The namespaces. They go when this is dropped.
#[derive(Debug)]
pub struct Lab {
    tag: String,
    pages_before: Option<u64>,
    /// What could not be had as wanted.
    pub notices: Vec<String>,
}

/// Runs a command to its end; its error output is the error.
///
/// # Errors
///
/// It cannot be started, or fails.
pub fn command(words: &[&str]) -> Result<String, String> {
    let out = Command::new(words[0])
        .args(&words[1..])
        .output()
        .map_err(|e| format!("{}: {e}", words[0]))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    Err(format!("{}: {}", words.join(" "), text.trim()))
}

/// `02:00:…`
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// `10.98.1.1`
#[must_use]
pub fn ip_text(ip: [u8; 4]) -> String {
    ip.map(|byte| byte.to_string()).join(".")
}

impl Lab {
    /// Builds it; what an earlier run that was killed left behind goes first.
    ///
    /// # Errors
    ///
    /// Not root, no `ip` command, or the kernel refuses.
    pub fn new() -> Result<Self, String> {
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return Err("network namespaces need root".into());
        }
        remove_leftovers();
        let mut lab = Self {
            tag: format!("{PREFIX}{}", std::process::id()),
            pages_before: None,
            notices: Vec::new(),
        };
        for side in [Side::A, Side::B, Side::C] {
            command(&["ip", "netns", "add", &lab.namespace(side)])?;
            lab.run(side, &["ip", "link", "set", "lo", "up"])?;
        }
        lab.pair((Side::A, VA), (Side::B, VB))?;
        lab.pair((Side::B, VC), (Side::C, VD))?;
        lab.huge_pages();
        Ok(lab)
    }

    /// Name of a namespace.
    #[must_use]
    pub fn namespace(&self, side: Side) -> String {
        format!("{}{}", self.tag, ["a", "b", "c"][side as usize])
    }

    /// Runs a command to its end in a namespace.
    ///
    /// # Errors
    ///
    /// It cannot be started, or fails.
    pub fn run(&self, side: Side, words: &[&str]) -> Result<String, String> {
        let namespace = self.namespace(side);
        command(&[&["ip", "netns", "exec", &namespace], words].concat())
    }

    /// Calls `f` on a thread of its own in a namespace.
    ///
    /// # Errors
    ///
    /// Those of `f`, or the namespace cannot be entered.
    pub fn inside<T: Send>(
        &self,
        side: Side,
        f: impl FnOnce() -> std::io::Result<T> + Send,
    ) -> Result<T, String> {
        let path = format!("/run/netns/{}", self.namespace(side));
        let work = || {
            let file = File::open(&path)?;
            // SAFETY: an open namespace file; only this thread, which ends here, moves.
            if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            f()
        };
        thread::scope(|scope| scope.spawn(work).join())
            .map_err(|_| "a thread of the lab panicked".to_owned())?
            .map_err(|e| e.to_string())
    }

    fn pair(&self, one: (Side, Station), other: (Side, Station)) -> Result<(), String> {
        let namespaces = [self.namespace(one.0), self.namespace(other.0)];
        command(&[
            "ip",
            "link",
            "add",
            one.1.interface,
            "netns",
            &namespaces[0],
            "address",
            &mac_text(one.1.mac),
            "type",
            "veth",
            "peer",
            other.1.interface,
            "netns",
            &namespaces[1],
            "address",
            &mac_text(other.1.mac),
        ])?;
        for ((side, here), there) in [(one, other.1), (other, one.1)] {
            let dev = here.interface;
            let ipv6 = format!("net.ipv6.conf.{dev}.disable_ipv6=1");
            let quiet = |words: &[&str]| self.run(side, words).map(drop);
            quiet(&["sysctl", "-qw", &ipv6]).ok();
            // Frames as they are; GRO stands for the NAPI path, without which a pair takes no
            // frames from another device.
            quiet(&["ethtool", "-K", dev, "tx", "off", "tso", "off", "gso", "off", "gro", "on"])?;
            let address = format!("{}/24", ip_text(here.ip));
            quiet(&["ip", "addr", "add", &address, "dev", dev])?;
            quiet(&["ip", "link", "set", dev, "up"])?;
            self.acquaint(side, here, there)?;
        }
        Ok(())
    }

    /// Puts the pair between namespaces A and B in order again: a program that took the link down
    /// and up has made the kernel forget who is at its other end, and a counter there answers
    /// no questions.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn tidy(&self) -> Result<(), String> {
        for (side, here, there) in [(Side::A, VA, VB), (Side::B, VB, VA)] {
            self.run(side, &["ip", "link", "set", here.interface, "up"])?;
            self.acquaint(side, here, there)?;
        }
        Ok(())
    }

    /// Tells one station where the other is.
    fn acquaint(&self, side: Side, here: Station, there: Station) -> Result<(), String> {
        let (ip, mac) = (ip_text(there.ip), mac_text(there.mac));
        let words = ["ip", "neigh", "replace", &ip, "lladdr", &mac, "dev", here.interface];
        self.run(side, &[&words[..], &["nud", "permanent"]].concat()).map(drop)
    }

    /// Programs get huge pages, as they would where speed matters.
    fn huge_pages(&mut self) {
        let read = || fs::read_to_string(HUGE_PAGES).ok()?.trim().parse::<u64>().ok();
        let Some(before) = read().filter(|pages| *pages < WANTED_PAGES) else { return };
        self.pages_before = Some(before);
        let _ = fs::write(HUGE_PAGES, WANTED_PAGES.to_string());
        let got = read().unwrap_or(0);
        if got < WANTED_PAGES {
            self.notices.push(format!("{got} of {WANTED_PAGES} huge pages could be had"));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in [Side::A, Side::B, Side::C] {
            let _ = command(&["ip", "netns", "del", &self.namespace(side)]);
        }
        if let Some(pages) = self.pages_before {
            let _ = fs::write(HUGE_PAGES, pages.to_string());
        }
    }
}

/// Removes the namespaces of runs that are no more.
fn remove_leftovers() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).map(|rest| rest.trim_end_matches(char::is_alphabetic));
        if let Some(pid) = pid.filter(|pid| !pid.is_empty() && pid.parse::<u32>().is_ok())
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = command(&["ip", "netns", "del", &name]);
        }
    }
}
