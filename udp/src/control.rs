//! Reading the control messages that came with a datagram.

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linerate_common::clock::timespec_to_ns;

/// What the control messages said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control {
    /// Raw stamp of the card's clock.
    pub(crate) hardware_ns: Option<u64>,
    /// Stamp of the kernel.
    pub(crate) software_ns: Option<u64>,
    /// Destination address in the IP header.
    pub(crate) dst: Option<IpAddr>,
    /// Low 32 bits of the count of datagrams that the socket had dropped when this one came.
    pub(crate) drops: Option<u32>,
    pub(crate) ttl: Option<u8>,
    pub(crate) tos: Option<u8>,
}

const HEADER: usize = size_of::<libc::cmsghdr>();

impl Control {
    /// Reads a buffer of control messages. What is cut off or unknown is passed over.
    #[inline]
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let mut out = Self::default();
        while bytes.len() >= HEADER {
            // SAFETY: a cmsghdr's worth of bytes is there, and it is plain data.
            let header = unsafe { bytes.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
            // Its type differs between C libraries.
            #[allow(clippy::unnecessary_cast)]
            let len = header.cmsg_len as usize;
            if len < HEADER || len > bytes.len() {
                break;
            }
            out.take(header.cmsg_level, header.cmsg_type, &bytes[HEADER..len]);
            bytes = bytes.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
        }
        out
    }

    #[inline]
    fn take(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                self.software_ns = timespec(data, 0);
                self.hardware_ns = timespec(data, 2);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                self.drops = array(data, 0).map(u32::from_ne_bytes);
            }
            // struct in_pktinfo: interface, local address, address in the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                self.dst = array::<4>(data, 8).map(|a| Ipv4Addr::from(a).into());
            }
            // struct sockaddr_in.
            (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR) => {
                self.dst = array::<4>(data, 4).map(|a| Ipv4Addr::from(a).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                self.dst = array::<16>(data, 0).map(|a| Ipv6Addr::from(a).into());
            }
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                self.ttl = array(data, 0).map(|v| i32::from_ne_bytes(v) as u8);
            }
            // One byte for IPv4, an int for IPv6.
            (libc::IPPROTO_IP, libc::IP_TOS) => self.tos = data.first().copied(),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                self.tos = array(data, 0).map(|v| i32::from_ne_bytes(v) as u8);
            }
            _ => {}
        }
    }
}

/// The `n`th timespec of an array; zeros mean "none".
#[inline]
fn timespec(data: &[u8], n: usize) -> Option<u64> {
    const SIZE: usize = size_of::<libc::timespec>();
    let bytes: [u8; SIZE] = array(data, n * SIZE)?;
    // SAFETY: as many bytes as a timespec has, and it is plain data.
    let t = unsafe { bytes.as_ptr().cast::<libc::timespec>().read_unaligned() };
    timespec_to_ns(t.tv_sec, t.tv_nsec).filter(|ns| *ns != 0)
}

#[inline]
fn array<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut m = Vec::new();
        m.extend((HEADER + data.len()).to_ne_bytes());
        m.extend(level.to_ne_bytes());
        m.extend(kind.to_ne_bytes());
        m.extend(data);
        m.resize(m.len().next_multiple_of(8), 0);
        m
    }

    fn stamps(software: (i64, i64), hardware: (i64, i64)) -> Vec<u8> {
        [software.0, software.1, 0, 0, hardware.0, hardware.1]
            .iter()
            .flat_map(|v| v.to_ne_bytes())
            .collect()
    }

    #[test]
    fn everything_that_is_asked_for_is_read() {
        let bytes = [
            message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &stamps((5, 6), (7, 8))),
            message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &9u32.to_ne_bytes()),
            message(libc::IPPROTO_IP, libc::IP_TTL, &64i32.to_ne_bytes()),
            message(libc::IPPROTO_IP, libc::IP_TOS, &[0xb8]),
            message(99, 99, &[1, 2, 3]),
            message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[0, 0, 0, 4, 10, 0, 0, 1, 239, 1, 1, 1]),
        ]
        .concat();
        let want = Control {
            software_ns: Some(5_000_000_006),
            hardware_ns: Some(7_000_000_008),
            drops: Some(9),
            ttl: Some(64),
            tos: Some(0xb8),
            dst: Some("239.1.1.1".parse().unwrap()),
        };
        assert_eq!(Control::parse(&bytes), want);
        for len in 0..bytes.len() - 4 {
            // Must not panic, and must not make anything up.
            let cut = Control::parse(&bytes[..len]);
            assert!(cut.dst.is_none() && cut.ttl.is_none_or(|t| t == 64));
        }
    }

    #[test]
    fn zeros_are_no_timestamp_and_no_message() {
        let bytes = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &stamps((0, 0), (1, -1)));
        assert_eq!(Control::parse(&bytes), Control::default());
        assert_eq!(Control::parse(&[0; 64]), Control::default());
    }
}
