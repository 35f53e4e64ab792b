//! Sockets: options, addresses, and the little C around them.

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use linerate_common::{Error, last_errno};

/// An IPv4 or IPv6 socket address as the kernel takes and gives it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union RawAddr {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddr {
    /// The whole of it, for the kernel to write into.
    pub(crate) const LEN: libc::socklen_t = size_of::<Self>() as libc::socklen_t;

    pub(crate) const EMPTY: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: libc::AF_UNSPEC as libc::sa_family_t,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// `interface` is the scope of IPv6 addresses that need one.
    pub(crate) fn new(addr: SocketAddr, interface: u32) -> Self {
        let mut raw = Self::EMPTY;
        match addr {
            SocketAddr::V4(a) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: a.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(a.ip().octets()) },
                    sin_zero: [0; 8],
                };
            }
            SocketAddr::V6(a) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: a.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: a.ip().octets() },
                    sin6_scope_id: if is_scoped(*a.ip()) { interface } else { 0 },
                };
            }
        }
        raw
    }

    /// Length of what [`new`](Self::new) filled in.
    pub(crate) fn len(&self) -> libc::socklen_t {
        // SAFETY: every value of this type has its first 28 bytes initialised, and the family
        // is plain data.
        match i32::from(unsafe { self.family }) {
            libc::AF_INET => size_of::<libc::sockaddr_in>() as libc::socklen_t,
            _ => size_of::<libc::sockaddr_in6>() as libc::socklen_t,
        }
    }

    /// Is it the same address, port and scope?
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // SAFETY: as in `len`; both unions are fully initialised where they are compared.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => {
                    let (a, b) = (&self.v4, &other.v4);
                    (a.sin_family, a.sin_port, a.sin_addr.s_addr)
                        == (b.sin_family, b.sin_port, b.sin_addr.s_addr)
                }
                _ => {
                    let (a, b) = (&self.v6, &other.v6);
                    (a.sin6_family, a.sin6_port, a.sin6_scope_id, a.sin6_addr.s6_addr)
                        == (b.sin6_family, b.sin6_port, b.sin6_scope_id, b.sin6_addr.s6_addr)
                }
            }
        }
    }

    /// The address; `None` when it is of neither family.
    #[inline]
    pub(crate) fn get(&self) -> Option<(IpAddr, u16)> {
        // SAFETY: as in `len`; any bytes are a valid sockaddr_in and sockaddr_in6.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => Some((
                    Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes()).into(),
                    u16::from_be(self.v4.sin_port),
                )),
                libc::AF_INET6 => Some((
                    Ipv6Addr::from(self.v6.sin6_addr.s6_addr).into(),
                    u16::from_be(self.v6.sin6_port),
                )),
                _ => None,
            }
        }
    }
}

/// Link-local addresses and link-local groups mean nothing without an interface.
fn is_scoped(addr: Ipv6Addr) -> bool {
    let [a, b, ..] = addr.octets();
    (a == 0xfe && b & 0xc0 == 0x80) || (a == 0xff && matches!(b & 0x0f, 1 | 2))
}

/// A non-blocking UDP socket.
pub(crate) fn udp_socket(v6: bool) -> Result<OwnedFd, Error> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    own("socket", unsafe { libc::socket(family, kind, 0) })
}

/// Takes over a descriptor that a call just made, or its error.
pub(crate) fn own(op: &'static str, fd: RawFd) -> Result<OwnedFd, Error> {
    if fd < 0 {
        return Err(Error::last_os(op));
    }
    // SAFETY: the kernel just made it, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One `setsockopt`; `op` names the option.
pub(crate) fn set<T>(
    socket: BorrowedFd<'_>,
    op: &'static str,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> Result<(), Error> {
    // SAFETY: the value outlives the call and its own size is given.
    let rc = unsafe {
        let data = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, option, data, size_of::<T>() as libc::socklen_t)
    };
    if rc == 0 { Ok(()) } else { Err(Error::last_os(op)) }
}

/// A `setsockopt` that turns an int option on.
pub(crate) fn enable(
    socket: BorrowedFd<'_>,
    op: &'static str,
    level: libc::c_int,
    option: libc::c_int,
) -> Result<(), Error> {
    set(socket, op, level, option, &1i32)
}

/// One `getsockopt` of an option that is an int or an array of them; what the kernel does not
/// fill stays 0.
pub(crate) fn get<const N: usize>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
) -> Option<[u32; N]> {
    let mut value = [0u32; N];
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, and both outlive the call.
    let rc = unsafe {
        let data = value.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, data, &mut len)
    };
    (rc == 0).then_some(value)
}

/// `bind` or `connect`.
pub(crate) fn name(
    op: &'static str,
    socket: BorrowedFd<'_>,
    addr: SocketAddr,
    interface: u32,
) -> Result<(), Error> {
    let raw = RawAddr::new(addr, interface);
    let (at, len) = ((&raw const raw).cast(), raw.len());
    // SAFETY: `raw` outlives the calls and `len` lies within it.
    let rc = unsafe {
        match op {
            "connect" => libc::connect(socket.as_raw_fd(), at, len),
            _ => libc::bind(socket.as_raw_fd(), at, len),
        }
    };
    if rc == 0 { Ok(()) } else { Err(Error::os(op, last_errno())) }
}

/// Connects a socket, or undoes that.
pub(crate) fn connect(socket: BorrowedFd<'_>, to: Option<&RawAddr>) -> Result<(), Error> {
    // EMPTY is of the family AF_UNSPEC, which disconnects.
    let (raw, len) = to.map_or((&RawAddr::EMPTY, RawAddr::LEN), |to| (to, to.len()));
    // SAFETY: the address outlives the call and `len` lies within it.
    let rc = unsafe { libc::connect(socket.as_raw_fd(), std::ptr::from_ref(raw).cast(), len) };
    if rc == 0 { Ok(()) } else { Err(Error::last_os("connect")) }
}

/// Any address with the port that a socket is bound to; `None` without a port.
pub(crate) fn any_at_port_of(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let mut raw = RawAddr::EMPTY;
    let mut len = RawAddr::LEN;
    // SAFETY: the kernel writes at most `len` bytes, and both outlive the call.
    let rc = unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut raw).cast(), &mut len) };
    let (ip, port) = raw.get().filter(|(_, port)| rc == 0 && *port != 0)?;
    Some(match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    })
}

/// Ties a socket to an interface. Needs no rights since Linux 5.7; older kernels want
/// CAP_NET_RAW for it, and `false` says that they refused.
pub(crate) fn bind_to_interface(socket: BorrowedFd<'_>, interface: &str) -> Result<bool, Error> {
    // By name, not by index: the preloaded stacks know only this call.
    let mut name = [0u8; libc::IFNAMSIZ];
    name.iter_mut().zip(interface.bytes()).for_each(|(to, from)| *to = from);
    match set(socket, "SO_BINDTODEVICE", libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name) {
        Ok(()) => Ok(true),
        Err(e) if e.errno == libc::EPERM => Ok(false),
        Err(e) => Err(e),
    }
}

/// Throws away the reports on a socket's error queue (ICMP errors, with `IP_RECVERR`).
pub(crate) fn drain_errors(socket: BorrowedFd<'_>) {
    let mut byte = 0u8;
    // A socket's buffer holds no more reports than this.
    for _ in 0..4096 {
        // SAFETY: one byte, which outlives the call; what does not fit is cut off.
        let n = unsafe {
            let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
            libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, flags)
        };
        if n < 0 {
            return;
        }
    }
}

/// The kernel's TAI-UTC offset in s; 0 when nobody has told it.
pub(crate) fn tai_offset_s() -> i32 {
    // SAFETY: timex is plain data for which zeros are valid.
    let mut t: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: modes 0 only reads into `t`, which outlives the call.
    if unsafe { libc::adjtimex(&mut t) } < 0 { 0 } else { t.tai }
}

/// Number N of the interface's PTP clock `/dev/ptpN`, if it has one (`ETHTOOL_GET_TS_INFO`).
pub(crate) fn ptp_clock_of(socket: BorrowedFd<'_>, interface: &str) -> Option<u32> {
    const ETHTOOL_GET_TS_INFO: u32 = 0x41;
    /// `struct ethtool_ts_info`.
    #[repr(C)]
    struct TsInfo {
        cmd: u32,
        so_timestamping: u32,
        phc_index: i32,
        tx_types: u32,
        tx_reserved: [u32; 3],
        rx_filters: u32,
        rx_reserved: [u32; 3],
    }
    // SAFETY: both are plain data for which zeros are valid.
    let (mut info, mut req): (TsInfo, libc::ifreq) = unsafe { std::mem::zeroed() };
    info.cmd = ETHTOOL_GET_TS_INFO;
    info.phc_index = -1;
    let (last, name) = req.ifr_name.split_last_mut()?;
    *last = 0;
    name.iter_mut().zip(interface.bytes()).for_each(|(to, from)| *to = from as libc::c_char);
    req.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the ioctl reads `req` and writes the struct it points to; both outlive the call.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut req) };
    if rc == 0 { u32::try_from(info.phc_index).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_the_kernel_and_back() {
        for text in ["10.1.2.3:4567", "[fe80::1]:80"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddr::new(addr, 3).get(), Some((addr.ip(), addr.port())));
        }
        assert_eq!(RawAddr::EMPTY.get(), None);
        assert_eq!(RawAddr::LEN, 28);
    }

    #[test]
    fn only_link_local_addresses_get_a_scope() {
        let scope = |text: &str| {
            // SAFETY: an IPv6 address was put in.
            unsafe { RawAddr::new(text.parse().unwrap(), 7).v6.sin6_scope_id }
        };
        assert_eq!(scope("[fe80::1]:1"), 7);
        assert_eq!(scope("[ff02::1]:1"), 7);
        assert_eq!(scope("[ff15::1]:1"), 0);
        assert_eq!(scope("[fd99::1]:1"), 0);
    }
}
