//! The ioctls and libc calls behind the list of interfaces. All of them are open to everyone.

mod diag;
mod ethtool;

use std::ffi::CStr;
use std::mem::{self, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
const ARPHRD_ETHER: u16 = 1;
const SPEED_UNKNOWN: u32 = u32::MAX;

pub(super) use diag::xdp_sockets;

/// Index and name of every interface.
pub(super) fn names() -> Vec<(u32, String)> {
    let mut list = Vec::new();
    // SAFETY: allocates an array that ends with index 0 and is freed below, or gives null.
    let head = unsafe { libc::if_nameindex() };
    if head.is_null() {
        return list;
    }
    let mut at = head;
    loop {
        // SAFETY: `at` walks the array and stops at its terminator.
        let entry = unsafe { &*at };
        if entry.if_index == 0 || entry.if_name.is_null() {
            break;
        }
        // SAFETY: a NUL-terminated name that lives until `if_freenameindex`.
        let name = unsafe { CStr::from_ptr(entry.if_name) };
        list.push((entry.if_index, name.to_string_lossy().into_owned()));
        // SAFETY: this was not the terminator, so there is one more.
        at = unsafe { at.add(1) };
    }
    // SAFETY: what `if_nameindex` gave, freed once.
    unsafe { libc::if_freenameindex(head) };
    list
}

/// Interface name and address of every IP address.
pub(super) fn addresses() -> Vec<(String, IpAddr)> {
    let mut list = Vec::new();
    let mut head = ptr::null_mut();
    // SAFETY: fills `head` with a list that is freed below.
    if unsafe { libc::getifaddrs(&mut head) } != 0 {
        return list;
    }
    let mut at = head;
    while !at.is_null() {
        // SAFETY: a node of the list, which lives until `freeifaddrs`.
        let entry = unsafe { &*at };
        at = entry.ifa_next;
        if entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: not null; every socket address begins with its family.
        let family = i32::from(unsafe { (*entry.ifa_addr).sa_family });
        let ip = match family {
            libc::AF_INET => {
                // SAFETY: the family says that it is a sockaddr_in.
                let addr = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                IpAddr::V4(Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr)))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that it is a sockaddr_in6.
                let addr = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                IpAddr::V6(Ipv6Addr::from(addr.sin6_addr.s6_addr))
            }
            _ => continue,
        };
        // SAFETY: a NUL-terminated name that lives until `freeifaddrs`.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        list.push((name.to_string_lossy().into_owned(), ip));
    }
    // SAFETY: what `getifaddrs` gave, freed once.
    unsafe { libc::freeifaddrs(head) };
    list
}

/// A socket to put questions about interfaces to.
pub(super) struct Control(OwnedFd);

impl Control {
    pub(super) fn open() -> Option<Self> {
        let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the descriptor is owned by what is returned.
        let fd = unsafe { libc::socket(libc::AF_INET, flags, 0) };
        // SAFETY: a new descriptor that nobody else owns.
        (fd >= 0).then(|| Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn flags(&self, name: &str) -> Option<i32> {
        let request = self.ask(name, libc::SIOCGIFFLAGS, ptr::null_mut())?;
        // SAFETY: SIOCGIFFLAGS filled this member of the union.
        Some(unsafe { request.ifr_ifru.ifru_flags }.into())
    }

    pub(super) fn mtu(&self, name: &str) -> Option<u32> {
        let request = self.ask(name, libc::SIOCGIFMTU, ptr::null_mut())?;
        // SAFETY: SIOCGIFMTU filled this member of the union.
        unsafe { request.ifr_ifru.ifru_mtu }.try_into().ok()
    }

    pub(super) fn mac(&self, name: &str) -> Option<[u8; 6]> {
        let request = self.ask(name, libc::SIOCGIFHWADDR, ptr::null_mut())?;
        // SAFETY: SIOCGIFHWADDR filled this member of the union.
        let addr = unsafe { request.ifr_ifru.ifru_hwaddr };
        if addr.sa_family != ARPHRD_ETHER {
            return None;
        }
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(addr.sa_data) {
            *to = from as u8;
        }
        Some(mac)
    }

    /// Driver and bus address.
    pub(super) fn driver(&self, name: &str) -> Option<(Option<String>, Option<String>)> {
        // struct ethtool_drvinfo: command, driver[32], version[32], firmware[32], bus[32], …
        let mut info = [0_u8; 196];
        info[..4].copy_from_slice(&ETHTOOL_GDRVINFO.to_ne_bytes());
        self.ask(name, libc::SIOCETHTOOL as _, info.as_mut_ptr().cast())?;
        let text = |at: usize| {
            let field = &info[at..at + 32];
            let text = String::from_utf8_lossy(field.split(|b| *b == 0).next().unwrap_or_default());
            (!text.is_empty()).then(|| text.into_owned())
        };
        Some((text(4), text(100)))
    }

    pub(super) fn speed_mbps(&self, name: &str) -> Option<u32> {
        // struct ethtool_link_settings: command, speed, seven single bytes, the length of the
        // masks; 48 bytes in all and then three bit masks of that many words. Asked with length
        // 0, the kernel answers with the length it wants, negative.
        const MASK_WORDS: usize = 15;
        let mut settings = [0_u8; 48 + 3 * 4 * 127];
        settings[..4].copy_from_slice(&ETHTOOL_GLINKSETTINGS.to_ne_bytes());
        self.ask(name, libc::SIOCETHTOOL as _, settings.as_mut_ptr().cast())?;
        let words = settings[MASK_WORDS] as i8;
        if words < 0 {
            let words = words.unsigned_abs();
            settings.fill(0);
            settings[..4].copy_from_slice(&ETHTOOL_GLINKSETTINGS.to_ne_bytes());
            settings[MASK_WORDS] = words.min(127);
            self.ask(name, libc::SIOCETHTOOL as _, settings.as_mut_ptr().cast())?;
        }
        let speed = u32::from_ne_bytes([settings[4], settings[5], settings[6], settings[7]]);
        (speed != SPEED_UNKNOWN && speed != 0).then_some(speed)
    }

    /// One ioctl about the interface. `data` is null, or points to what the request reads and
    /// writes, of the size that it expects.
    fn ask(
        &self,
        name: &str,
        request: libc::Ioctl,
        data: *mut libc::c_char,
    ) -> Option<libc::ifreq> {
        // SAFETY: all zeros is a valid ifreq.
        let mut ifr: libc::ifreq = unsafe { mem::zeroed() };
        if name.len() >= size_of::<[libc::c_char; libc::IFNAMSIZ]>() {
            return None;
        }
        for (to, from) in ifr.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        if !data.is_null() {
            ifr.ifr_ifru.ifru_data = data;
        }
        // SAFETY: an ifreq with a NUL-terminated name; the caller vouches for `data`, and the
        // kernel writes nothing else.
        let rc = unsafe { libc::ioctl(self.0.as_raw_fd(), request, &mut ifr) };
        (rc == 0).then_some(ifr)
    }
}

/// Can this process open packet sockets? Asks by opening one that receives nothing.
pub(crate) fn may_open_packet_socket() -> Result<(), i32> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; protocol 0 binds it to no traffic.
    let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
    if fd < 0 {
        return Err(linerate_common::last_errno());
    }
    // SAFETY: a new descriptor that nobody else owns, closed here.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}
