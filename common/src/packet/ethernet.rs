//! Ethernet headers with any number of VLAN tags.

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IpView, Ipv4, Ipv6, be16};
use super::{TPID_8021AD, TPID_8021Q, TPID_QINQ_OLD};

/// Does this ethertype announce a VLAN tag?
#[inline]
#[must_use]
pub const fn is_vlan_tpid(ethertype: u16) -> bool {
    matches!(ethertype, TPID_8021Q | TPID_8021AD | TPID_QINQ_OLD)
}

/// One VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// Tag protocol: 0x8100, 0x88a8 or 0x9100.
    pub tpid: u16,
    /// Priority (3 bits), drop eligibility (1 bit) and VLAN id (12 bits).
    pub tci: u16,
}

impl VlanTag {
    /// The VLAN id, 0 to 4095.
    #[inline]
    #[must_use]
    pub const fn vid(&self) -> u16 {
        self.tci & 0x0fff
    }

    /// The priority, 0 to 7.
    #[inline]
    #[must_use]
    pub const fn priority(&self) -> u8 {
        (self.tci >> 13) as u8
    }
}

/// A frame seen as Ethernet.
#[derive(Debug, Clone, Copy)]
pub struct Ethernet<'a> {
    frame: &'a [u8],
    /// Offset of the innermost ethertype.
    type_at: usize,
}

impl<'a> Ethernet<'a> {
    /// `None` when the frame is shorter than 14 bytes or ends within a VLAN tag.
    #[inline]
    #[must_use]
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let mut type_at = 12;
        while is_vlan_tpid(be16(frame, type_at)?) {
            type_at += 4;
        }
        Some(Self { frame, type_at })
    }

    /// Destination MAC address.
    #[inline]
    #[must_use]
    pub fn dst(&self) -> [u8; 6] {
        mac(self.frame, 0)
    }

    /// Source MAC address.
    #[inline]
    #[must_use]
    pub fn src(&self) -> [u8; 6] {
        mac(self.frame, 6)
    }

    /// The VLAN tags, outermost first.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = VlanTag> + 'a {
        self.frame[12..self.type_at].chunks_exact(4).map(|tag| VlanTag {
            tpid: u16::from_be_bytes([tag[0], tag[1]]),
            tci: u16::from_be_bytes([tag[2], tag[3]]),
        })
    }

    /// The outermost VLAN id.
    #[inline]
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        self.tags().next().map(|tag| tag.vid())
    }

    /// The ethertype behind all tags (below 0x600: an 802.3 length).
    #[inline]
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        be16(self.frame, self.type_at).unwrap_or_default()
    }

    /// Bytes before the payload: 14, and 4 for each tag.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.type_at + 2
    }

    /// What follows the ethertype, padding included.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.frame[self.header_len()..]
    }

    /// The IP packet inside, if there is a well-formed one.
    #[inline]
    #[must_use]
    pub fn ip(&self) -> Option<IpView<'a>> {
        match self.ethertype() {
            ETHERTYPE_IPV4 => Ipv4::parse(self.payload()).map(IpView::V4),
            ETHERTYPE_IPV6 => Ipv6::parse(self.payload()).map(IpView::V6),
            _ => None,
        }
    }
}

#[inline]
fn mac(frame: &[u8], at: usize) -> [u8; 6] {
    frame.get(at..).and_then(|f| f.first_chunk()).copied().unwrap_or_default()
}
