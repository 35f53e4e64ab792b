//! Hearing that interfaces and addresses come and go.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Error, last_errno};

/// A netlink socket that becomes readable when an interface or an address changes.
///
/// It is a bell, not a source of truth: after it rang, ask the kernel how things are. The one
/// thing that must be read out of the messages is that an interface was *removed*, since one with
/// the same name and index may have taken its place since.
#[derive(Debug)]
pub struct LinkEvents {
    socket: OwnedFd,
}

/// What [`LinkEvents::drain`] saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Something changed on some interface.
    pub any: bool,
    /// The interface asked about was removed, or messages were lost and it may have been.
    pub removed: bool,
}

/// `struct nlmsghdr` and, for link messages, the `struct ifinfomsg` behind it.
const HEADER: usize = size_of::<libc::nlmsghdr>();
const FAMILY_AT: usize = HEADER;
const INDEX_AT: usize = HEADER + 4;

impl LinkEvents {
    /// Listens to the calling thread's network namespace. Needs no rights.
    ///
    /// # Errors
    ///
    /// The kernel has no netlink, or no descriptor is left.
    pub fn open() -> Result<Self, Error> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(Error::os("socket(AF_NETLINK)", last_errno()));
        }
        // SAFETY: a descriptor that the kernel just made and nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: sockaddr_nl is plain data for which zeros are valid.
        let mut addr: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        addr.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        addr.nl_groups =
            (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
        // SAFETY: `addr` outlives the call and the length is its own.
        let rc = unsafe {
            let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            libc::bind(fd, (&raw const addr).cast(), len)
        };
        if rc == 0 { Ok(Self { socket }) } else { Err(Error::last_os("bind(AF_NETLINK)")) }
    }

    /// Readable when something changed since the last [`drain`](Self::drain).
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes in all waiting messages, without blocking. `interface` is the index of the one to
    /// report the removal of; 0 for none.
    pub fn drain(&mut self, interface: u32) -> LinkChange {
        let mut seen = LinkChange::default();
        let mut buf = [0u64; 1024];
        loop {
            // SAFETY: the buffer outlives the call and its size in bytes is given.
            let n = unsafe {
                let len = size_of_val(&buf);
                libc::recv(self.socket.as_raw_fd(), buf.as_mut_ptr().cast(), len, libc::MSG_TRUNC)
            };
            match usize::try_from(n) {
                // With MSG_TRUNC: what did not fit may have said anything.
                Ok(n) if n > size_of_val(&buf) => seen = LinkChange { any: true, removed: true },
                Ok(n) => {
                    // SAFETY: `n` is at most the buffer's size, and all of it is initialised.
                    let bytes = unsafe { std::slice::from_raw_parts(buf.as_ptr().cast(), n) };
                    seen.any = true;
                    seen.removed |= removes(bytes, interface);
                }
                Err(_) => match last_errno() {
                    libc::EINTR => {}
                    // Messages were lost: any interface may have been removed.
                    libc::ENOBUFS => seen = LinkChange { any: true, removed: true },
                    _ => return seen,
                },
            }
        }
    }
}

/// Does one of these messages say that the interface is gone?
fn removes(mut messages: &[u8], interface: u32) -> bool {
    let word = |m: &[u8], at: usize| {
        m.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
    };
    while let Some(len) = word(messages, 0).map(|n| n as usize) {
        let Some(message) = messages.get(..len).filter(|_| len >= HEADER) else { return false };
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        // A bridge that loses a port says so in a message of its own family.
        if kind == libc::RTM_DELLINK
            && message.get(FAMILY_AT) == Some(&(libc::AF_UNSPEC as u8))
            && word(message, INDEX_AT) == Some(interface)
        {
            return true;
        }
        messages = messages.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, family: u8, index: u32) -> Vec<u8> {
        let mut m = Vec::new();
        m.extend(32u32.to_ne_bytes());
        m.extend(kind.to_ne_bytes());
        m.resize(HEADER, 0);
        m.extend([family, 0, 0, 0]);
        m.extend(index.to_ne_bytes());
        m.resize(32, 0);
        m
    }

    #[test]
    fn only_the_removal_of_this_interface_counts() {
        let other = message(libc::RTM_DELLINK, 0, 6);
        let change = message(libc::RTM_NEWLINK, 0, 7);
        let bridge = message(libc::RTM_DELLINK, libc::AF_BRIDGE as u8, 7);
        let gone = message(libc::RTM_DELLINK, 0, 7);
        let quiet = [other, change, bridge].concat();
        assert!(!removes(&quiet, 7));
        assert!(removes(&[quiet, gone].concat(), 7));
    }

    #[test]
    fn garbage_ends_the_walk() {
        assert!(!removes(&[], 1));
        assert!(!removes(&[0; 40], 1), "length 0 must not loop");
        let mut long = message(libc::RTM_DELLINK, 0, 1);
        long[0] = 200;
        assert!(!removes(&long, 1));
        assert!(!removes(&message(libc::RTM_DELLINK, 0, 1)[..20], 1));
    }
}
