//! Joins and leaves on one socket.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::{Error, ErrorKind, last_errno};

/// The groups that one socket has joined, and joining more.
///
/// For backends whose receiving sockets join for themselves. Programs that only need a group to
/// reach the card want [`Membership`](super::Membership).
///
/// The kernel keeps one filter per socket and group. A source joined on a socket that already
/// listens to *any* source would quietly narrow it, so the two are never mixed on one socket.
#[derive(Debug, Default)]
pub struct SocketJoins {
    /// The sources wanted of each group; an empty set is any source.
    groups: BTreeMap<IpAddr, BTreeSet<IpAddr>>,
}

impl SocketJoins {
    /// Joins on the interface with this index (`IP_ADD_MEMBERSHIP`, `MCAST_JOIN_GROUP`,
    /// `MCAST_JOIN_SOURCE_GROUP`).
    /// `Ok(false)`: this socket cannot take the join, because it is full (`ENOBUFS`: 20 groups
    /// and 10 sources a group by default) or because it holds the group in the other mode; try
    /// another socket. A join that is there already stays as it is.
    ///
    /// # Errors
    ///
    /// `interface` is 0, `group` is not multicast, or the kernel refuses.
    pub fn join(
        &mut self,
        socket: BorrowedFd<'_>,
        interface: u32,
        group: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<bool, Error> {
        if interface == 0 || !group.is_multicast() {
            return Err(Error::new(ErrorKind::BadArgument, "join"));
        }
        if let Some(sources) = self.groups.get(&group) {
            match source {
                None => return Ok(sources.is_empty()),
                Some(_) if sources.is_empty() => return Ok(false),
                Some(source) if sources.contains(&source) => return Ok(true),
                Some(_) => {}
            }
        }
        match join(socket, interface, group, source) {
            Ok(()) => {
                self.groups.entry(group).or_default().extend(source);
                Ok(true)
            }
            Err(e) if e.errno == libc::ENOBUFS => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Leaves again. `Ok(false)`: this socket had not joined that.
    ///
    /// # Errors
    ///
    /// The kernel refuses, which it does when the interface is gone; the socket counts as having
    /// left all the same.
    pub fn leave(
        &mut self,
        socket: BorrowedFd<'_>,
        interface: u32,
        group: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<bool, Error> {
        let Some(sources) = self.groups.get_mut(&group) else { return Ok(false) };
        let held = match source {
            None => sources.is_empty(),
            Some(source) => sources.remove(&source),
        };
        if !held {
            return Ok(false);
        }
        if sources.is_empty() {
            self.groups.remove(&group);
        }
        leave(socket, interface, group, source)?;
        Ok(true)
    }

    /// Leaves everything. Closing the socket does that too, but only when the last copy of the
    /// descriptor is closed, and a process that is just being started may hold one.
    pub fn leave_all(&mut self, socket: BorrowedFd<'_>, interface: u32) {
        for (group, sources) in std::mem::take(&mut self.groups) {
            // What fails here went with its interface already.
            if sources.is_empty() {
                let _ = leave(socket, interface, group, None);
            }
            for source in sources {
                let _ = leave(socket, interface, group, Some(source));
            }
        }
    }

    /// Has the socket joined this?
    #[must_use]
    pub fn contains(&self, group: IpAddr, source: Option<IpAddr>) -> bool {
        self.groups.get(&group).is_some_and(|sources| match source {
            None => sources.is_empty(),
            Some(source) => sources.contains(&source),
        })
    }

    /// What the socket has joined, in order of address.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, Option<IpAddr>)> + '_ {
        self.groups.iter().flat_map(|(group, sources)| {
            let any = sources.is_empty().then_some((*group, None));
            any.into_iter().chain(sources.iter().map(|source| (*group, Some(*source))))
        })
    }

    /// The group, if the socket has joined exactly one.
    #[must_use]
    pub fn only_group(&self) -> Option<IpAddr> {
        let mut groups = self.groups.keys();
        groups.next().copied().filter(|_| groups.next().is_none())
    }

    /// Has the socket joined nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

// For IPv4 from any source this is the old call, which means the same: it is the only one that
// VMA and exasock understand. It takes the interface by index too.

fn join(
    socket: BorrowedFd<'_>,
    interface: u32,
    group: IpAddr,
    source: Option<IpAddr>,
) -> Result<(), Error> {
    match (group, source) {
        (IpAddr::V4(v4), None) => {
            let req = of_index(interface, v4);
            set(socket, "IP_ADD_MEMBERSHIP", group, libc::IP_ADD_MEMBERSHIP, &req)
        }
        (IpAddr::V6(_), None) => {
            let req = libc::group_req { gr_interface: interface, gr_group: storage(group) };
            set(socket, "MCAST_JOIN_GROUP", group, libc::MCAST_JOIN_GROUP, &req)
        }
        (_, Some(source)) => {
            let req = of_source(interface, group, source);
            set(socket, "MCAST_JOIN_SOURCE_GROUP", group, libc::MCAST_JOIN_SOURCE_GROUP, &req)
        }
    }
}

fn leave(
    socket: BorrowedFd<'_>,
    interface: u32,
    group: IpAddr,
    source: Option<IpAddr>,
) -> Result<(), Error> {
    match (group, source) {
        (IpAddr::V4(v4), None) => {
            let req = of_index(interface, v4);
            set(socket, "IP_DROP_MEMBERSHIP", group, libc::IP_DROP_MEMBERSHIP, &req)
        }
        (IpAddr::V6(_), None) => {
            let req = libc::group_req { gr_interface: interface, gr_group: storage(group) };
            set(socket, "MCAST_LEAVE_GROUP", group, libc::MCAST_LEAVE_GROUP, &req)
        }
        (_, Some(source)) => {
            let req = of_source(interface, group, source);
            set(socket, "MCAST_LEAVE_SOURCE_GROUP", group, libc::MCAST_LEAVE_SOURCE_GROUP, &req)
        }
    }
}

fn of_index(interface: u32, group: Ipv4Addr) -> libc::ip_mreqn {
    libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes(group.octets()) },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: interface as libc::c_int,
    }
}

fn of_source(interface: u32, group: IpAddr, source: IpAddr) -> libc::group_source_req {
    libc::group_source_req {
        gsr_interface: interface,
        gsr_group: storage(group),
        gsr_source: storage(source),
    }
}

fn set<T>(
    socket: BorrowedFd<'_>,
    op: &'static str,
    group: IpAddr,
    option: libc::c_int,
    req: &T,
) -> Result<(), Error> {
    let level = if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    // SAFETY: `req` outlives the call and its own size is given.
    let rc = unsafe {
        let len = size_of::<T>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(req).cast(), len)
    };
    if rc == 0 { Ok(()) } else { Err(Error::os(op, last_errno())) }
}

/// An address as the kernel takes it, with port 0.
fn storage(addr: IpAddr) -> libc::sockaddr_storage {
    // SAFETY: sockaddr_storage is plain data for which zeros are valid.
    let mut out: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let at = &raw mut out;
    match addr {
        IpAddr::V4(a) => {
            // SAFETY: sockaddr_storage is larger and at least as aligned as sockaddr_in.
            let sin = unsafe { &mut *at.cast::<libc::sockaddr_in>() };
            sin.sin_family = libc::AF_INET as libc::sa_family_t;
            sin.sin_addr.s_addr = u32::from_ne_bytes(a.octets());
        }
        IpAddr::V6(a) => {
            // SAFETY: sockaddr_storage is larger and at least as aligned as sockaddr_in6.
            let sin6 = unsafe { &mut *at.cast::<libc::sockaddr_in6>() };
            sin6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            sin6.sin6_addr.s6_addr = a.octets();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::interface::dgram_socket;
    use std::os::fd::AsFd;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn any_source_and_one_source_never_share_a_socket() {
        let socket = dgram_socket(libc::AF_INET).unwrap();
        let fd = socket.as_fd();
        let mut joins = SocketJoins::default();
        let (group, source) = (ip("239.200.1.1"), Some(ip("10.1.1.1")));
        assert_eq!(joins.join(fd, 1, group, None), Ok(true));
        assert_eq!(joins.join(fd, 1, group, None), Ok(true), "joined twice is joined");
        assert_eq!(joins.join(fd, 1, group, source), Ok(false), "the kernel would narrow it");
        assert!(joins.contains(group, None) && !joins.contains(group, source));
        assert_eq!(joins.leave(fd, 1, group, source), Ok(false));
        assert_eq!(joins.leave(fd, 1, group, None), Ok(true));
        assert_eq!(joins.join(fd, 1, group, source), Ok(true));
        assert_eq!(joins.join(fd, 1, group, None), Ok(false));
        assert_eq!(joins.only_group(), Some(group));
        assert!(!joins.is_empty());
    }

    #[test]
    fn interface_0_and_unicast_addresses_are_refused() {
        let socket = dgram_socket(libc::AF_INET).unwrap();
        let mut joins = SocketJoins::default();
        assert!(joins.join(socket.as_fd(), 0, ip("239.1.1.1"), None).is_err());
        assert!(joins.join(socket.as_fd(), 1, ip("10.1.1.1"), None).is_err());
        assert!(joins.is_empty());
    }
}
