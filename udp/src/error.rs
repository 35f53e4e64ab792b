//! What can go wrong at setup, and what helps.

use std::net::{IpAddr, SocketAddr};

use linerate_common::{Error, ErrorKind, SetupError};

/// A group was refused.
pub(crate) fn join(e: Error, interface: &str, group: IpAddr) -> SetupError {
    let error = SetupError::from(e).on(format!("udp:{interface}, group {group}"));
    match e.errno {
        // A fresh socket was full: the limit itself is too low, or kernel memory is.
        libc::ENOBUFS if group.is_ipv4() => error.remedy(
            "raise the limits: sysctl -w net.ipv4.igmp_max_memberships=20 net.ipv4.igmp_max_msf=10",
        ),
        libc::ENOBUFS | libc::ENOMEM if group.is_ipv6() => error.remedy(
            "raise the limits: sysctl -w net.ipv6.mld_max_msf=64 net.core.optmem_max=131072",
        ),
        libc::ENODEV => {
            error.remedy(format!("see whether it is there and up: ip link show {interface}"))
        }
        _ => error,
    }
}

/// IGMP reports would have no sender.
pub(crate) fn no_address(interface: &str) -> SetupError {
    let why = "the interface has no IPv4 address to send IGMP reports from";
    SetupError::new(ErrorKind::BadArgument, "join", why)
        .on(format!("udp:{interface}"))
        .remedy(format!("ip address add A.B.C.D/N dev {interface}"))
}

/// An address could not be bound or connected to.
pub(crate) fn address(e: Error, interface: &str, addr: SocketAddr) -> SetupError {
    let error = SetupError::from(e).on(format!("udp:{interface}, {addr}"));
    match e.errno {
        libc::EADDRINUSE => {
            error.remedy(format!("another program has this port: ss -ulpn sport = {}", addr.port()))
        }
        libc::EADDRNOTAVAIL => error.remedy("use an address of this host: ip address"),
        libc::EACCES => error
            .remedy("ports below 1024 need a right: sudo setcap cap_net_bind_service+ep PROGRAM"),
        libc::ENETUNREACH => error.remedy("add a route to it: ip route add ..."),
        _ => error,
    }
}

/// A socket could not be made or set up.
pub(crate) fn socket(e: Error, interface: &str) -> SetupError {
    let error = SetupError::from(e).on(format!("udp:{interface}"));
    match e.errno {
        libc::EAFNOSUPPORT => error.remedy("this kernel runs without that version of IP"),
        _ => error,
    }
}
