//! Frames taken apart and put together: views that borrow, builders that write into a buffer.
//!
//! Only what linerate itself needs: Ethernet with VLAN tags, IPv4, IPv6, UDP and TCP. Every view
//! checks the bounds once, in its `parse`, and copies nothing:
//!
//! ```
//! use linerate_common::packet::{Ethernet, IpView, Udp, UdpTemplate};
//!
//! let template = UdpTemplate::new("10.0.0.1:4000".parse()?, "239.1.1.1:5000".parse()?).unwrap();
//! let mut buf = [0; 128];
//! let len = template.write(&mut buf, b"hello").unwrap();
//!
//! let ethernet = Ethernet::parse(&buf[..len]).unwrap();
//! assert_eq!(ethernet.dst(), [0x01, 0, 0x5e, 1, 1, 1]);
//! let Some(IpView::V4(ip)) = ethernet.ip() else { panic!() };
//! assert!(ip.checksum_ok());
//! let udp = Udp::parse(ip.payload()).unwrap();
//! assert_eq!((udp.dst_port(), udp.payload()), (5000, &b"hello"[..]));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! [`Headers`] is the short way to the fields that select a flow.

mod build;
mod checksum;
mod ethernet;
mod headers;
mod ip;
mod transport;

pub use build::{UdpTemplate, multicast_mac};
pub use checksum::{internet_checksum, transport_checksum};
pub use ethernet::{Ethernet, VlanTag, is_vlan_tpid};
pub use headers::Headers;
pub use ip::{IpView, Ipv4, Ipv6, Upper};
pub use transport::{Tcp, Udp};

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Tag protocol of a customer VLAN (802.1Q).
pub const TPID_8021Q: u16 = 0x8100;
/// Tag protocol of a provider VLAN (802.1ad).
pub const TPID_8021AD: u16 = 0x88a8;
/// Tag protocol that older provider bridges use.
pub const TPID_QINQ_OLD: u16 = 0x9100;
/// IP protocol number of TCP.
pub const IPPROTO_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const IPPROTO_UDP: u8 = 17;

/// VLAN tags that [`Headers`] looks through. A frame with more is taken as one whose payload is
/// unknown: a filter program in the kernel cannot loop, and no network nests deeper.
pub const MAX_VLAN_TAGS: usize = 4;
/// IPv6 extension headers that are looked through: as many as RFC 8200 puts in its order.
pub const MAX_IPV6_EXTENSIONS: usize = 5;

/// Big-endian 16 bits at `at`, if they are there.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// Big-endian 32 bits at `at`, if they are there.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod tests;
