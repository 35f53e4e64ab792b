//! The header fields that select a flow, read in one pass.

use std::net::IpAddr;

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, VlanTag, is_vlan_tpid};
use super::{Ethernet, IPPROTO_TCP, IPPROTO_UDP, IpView, Ipv4, Ipv6, MAX_VLAN_TAGS, be16, be32};

/// What can be known about a frame from its headers, each field as far as the bytes go.
///
/// Addresses and ports are read where the headers say they are. Lengths and checksums are not
/// judged, just as a card's filter does not: a frame with a wrong total length still has its
/// addresses. Ports need a whole datagram or a first fragment, and the four bytes that hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Headers {
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Outermost VLAN id.
    pub vlan: Option<u16>,
    /// Ethertype behind the VLAN tags; `None` when the frame ends within them or they are more
    /// than [`MAX_VLAN_TAGS`].
    pub ethertype: Option<u16>,
    /// Source and destination address.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// IP protocol number, behind IPv6 extension headers.
    pub proto: Option<u8>,
    /// Source and destination port of UDP or TCP.
    pub ports: Option<(u16, u16)>,
}

impl Headers {
    /// `None` when the frame is shorter than an Ethernet header.
    #[inline]
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let mut headers = Self {
            dst_mac: *frame.first_chunk()?,
            vlan: None,
            ethertype: None,
            addresses: None,
            proto: None,
            ports: None,
        };
        let outer = be16(frame, 12)?;
        if is_vlan_tpid(outer) {
            // A cut-off frame may still have its outermost tag.
            headers.vlan = be16(frame, 14).map(|tci| VlanTag { tpid: outer, tci }.vid());
        }
        let ethernet = Ethernet::parse(frame).filter(|e| e.tags().len() <= MAX_VLAN_TAGS);
        if let Some(ethernet) = ethernet {
            headers.ethertype = Some(ethernet.ethertype());
            headers.read_ip(ethernet.ethertype(), ethernet.payload());
        }
        Some(headers)
    }

    #[inline]
    fn read_ip(&mut self, ethertype: u16, packet: &[u8]) {
        let (proto, fragment_offset, upper) = match ethertype {
            ETHERTYPE_IPV4 => {
                if packet.len() < Ipv4::MIN_HEADER || !matches!(packet[0], 0x45..=0x4f) {
                    return;
                }
                let address = |at| IpAddr::V4(be32(packet, at).unwrap_or_default().into());
                self.addresses = Some((address(12), address(16)));
                // The frame may end within the options: then there are no ports.
                let upper = packet.get(usize::from(packet[0] & 0x0f) * 4..).unwrap_or_default();
                (packet[9], be16(packet, 6).unwrap_or_default() & 0x1fff, upper)
            }
            ETHERTYPE_IPV6 => {
                let Some(ip) = Ipv6::parse(packet) else { return };
                self.addresses = Some((IpView::V6(ip).src(), IpView::V6(ip).dst()));
                let upper = ip.upper_untrimmed();
                (upper.proto, upper.fragment_offset, upper.payload)
            }
            _ => return,
        };
        self.proto = Some(proto);
        if fragment_offset == 0 && matches!(proto, IPPROTO_TCP | IPPROTO_UDP) {
            self.ports = be16(upper, 0).zip(be16(upper, 2));
        }
    }
}
