//! UDP frames written into a buffer.

use std::net::{IpAddr, SocketAddr};

use super::checksum::transport_checksum_parts;
use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPPROTO_UDP, TPID_8021Q, internet_checksum};

/// The MAC address that frames to a multicast group carry, `None` for an address that is no
/// group.
///
/// ```
/// # use linerate_common::packet::multicast_mac;
/// let mac = multicast_mac("239.129.1.2".parse().unwrap());
/// assert_eq!(mac, Some([0x01, 0x00, 0x5e, 0x01, 0x01, 0x02]));
/// ```
#[must_use]
pub fn multicast_mac(group: IpAddr) -> Option<[u8; 6]> {
    if !group.is_multicast() {
        return None;
    }
    Some(match group {
        IpAddr::V4(a) => {
            let [_, b, c, d] = a.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(a) => {
            let [.., b, c, d, e] = a.octets();
            [0x33, 0x33, b, c, d, e]
        }
    })
}

/// Everything about a stream of UDP frames but their payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpTemplate {
    src: SocketAddr,
    dst: SocketAddr,
    /// Destination MAC address: by default the group's, or broadcast for a unicast address.
    pub dst_mac: [u8; 6],
    /// Source MAC address: by default 02:00:00:00:00:00, a locally administered one.
    pub src_mac: [u8; 6],
    /// VLAN tag control information (priority and id) of an 802.1Q tag, if there is to be one.
    pub vlan_tci: Option<u16>,
    /// Time to live or hop limit, by default 1 for a group and 64 otherwise.
    pub ttl: u8,
    /// IPv4 identification, by default 0.
    pub id: u16,
    /// Is the UDP checksum computed? By default it is. Without, it is 0 over IPv4, which means
    /// "none"; over IPv6 it must be there and is computed all the same.
    pub checksum: bool,
}

impl UdpTemplate {
    /// A stream from `src` to `dst`; `None` when one is IPv4 and the other IPv6.
    #[must_use]
    pub fn new(src: SocketAddr, dst: SocketAddr) -> Option<Self> {
        if src.is_ipv4() != dst.is_ipv4() {
            return None;
        }
        let group_mac = multicast_mac(dst.ip());
        Some(Self {
            src,
            dst,
            dst_mac: group_mac.unwrap_or([0xff; 6]),
            src_mac: [2, 0, 0, 0, 0, 0],
            vlan_tci: None,
            ttl: if group_mac.is_some() { 1 } else { 64 },
            id: 0,
            checksum: true,
        })
    }

    /// Where the frames come from.
    #[must_use]
    pub fn src(&self) -> SocketAddr {
        self.src
    }

    /// Where the frames go.
    #[must_use]
    pub fn dst(&self) -> SocketAddr {
        self.dst
    }

    /// Bytes before the payload.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        let ethernet = if self.vlan_tci.is_some() { 18 } else { 14 };
        ethernet + if self.dst.is_ipv4() { 28 } else { 48 }
    }

    /// Writes headers and payload to the front of `buf` and gives the frame's length. `None`
    /// when `buf` is too small or the datagram would be longer than 65,535 bytes.
    #[must_use]
    pub fn write(&self, buf: &mut [u8], payload: &[u8]) -> Option<usize> {
        let len = self.header_len() + payload.len();
        let (headers, room) = buf.get_mut(..len)?.split_at_mut(self.header_len());
        self.write_headers(headers, payload)?;
        room.copy_from_slice(payload);
        Some(len)
    }

    /// Writes the headers of a frame with this payload to the front of `headers`, for a payload
    /// that is in place already, and gives their length. `None` as for [`write`](Self::write).
    #[must_use]
    pub fn write_headers(&self, headers: &mut [u8], payload: &[u8]) -> Option<usize> {
        let len = self.header_len();
        let headers = headers.get_mut(..len)?;
        let datagram = u16::try_from(payload.len() + 8).ok()?;

        headers[..6].copy_from_slice(&self.dst_mac);
        headers[6..12].copy_from_slice(&self.src_mac);
        let mut at = 12;
        if let Some(tci) = self.vlan_tci {
            put16(headers, 12, TPID_8021Q);
            put16(headers, 14, tci);
            at = 16;
        }
        let (ethernet, rest) = headers.split_at_mut(at + 2);
        let (ip, udp) = rest.split_at_mut(len - (at + 2) - 8);
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                put16(ethernet, at, ETHERTYPE_IPV4);
                ip.fill(0);
                ip[0] = 0x45;
                put16(ip, 2, datagram.checked_add(20)?);
                put16(ip, 4, self.id);
                ip[8] = self.ttl;
                ip[9] = IPPROTO_UDP;
                ip[12..16].copy_from_slice(&src.octets());
                ip[16..20].copy_from_slice(&dst.octets());
                put16(ip, 10, internet_checksum(ip));
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                put16(ethernet, at, ETHERTYPE_IPV6);
                ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, IPPROTO_UDP, self.ttl]);
                put16(ip, 4, datagram);
                ip[8..24].copy_from_slice(&src.octets());
                ip[24..40].copy_from_slice(&dst.octets());
            }
            // `new` lets no mixed pair through.
            _ => return None,
        }
        put16(udp, 0, self.src.port());
        put16(udp, 2, self.dst.port());
        put16(udp, 4, datagram);
        put16(udp, 6, 0);
        if self.checksum || !self.dst.is_ipv4() {
            let (src, dst) = (self.src.ip(), self.dst.ip());
            let sum = transport_checksum_parts(src, dst, IPPROTO_UDP, udp, payload);
            put16(udp, 6, if sum == 0 { 0xffff } else { sum });
        }
        Some(len)
    }
}

#[inline]
fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
