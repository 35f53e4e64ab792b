//! IPv4 with options and fragments, IPv6 with its common extension headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{MAX_IPV6_EXTENSIONS, be16, be32, internet_checksum};

/// An IP packet of either family.
#[derive(Debug, Clone, Copy)]
pub enum IpView<'a> {
    /// IPv4.
    V4(Ipv4<'a>),
    /// IPv6.
    V6(Ipv6<'a>),
}

impl<'a> IpView<'a> {
    /// Source address.
    #[must_use]
    pub fn src(&self) -> IpAddr {
        match self {
            Self::V4(ip) => ip.src().into(),
            Self::V6(ip) => ip.src().into(),
        }
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> IpAddr {
        match self {
            Self::V4(ip) => ip.dst().into(),
            Self::V6(ip) => ip.dst().into(),
        }
    }

    /// What the packet carries.
    #[must_use]
    pub fn upper(&self) -> Upper<'a> {
        match self {
            Self::V4(ip) => ip.upper(),
            Self::V6(ip) => ip.upper(),
        }
    }
}

/// What an IP packet carries, behind options and extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper<'a> {
    /// IP protocol number. Of an IPv6 packet whose extension headers are cut off or too many,
    /// the number of the header at which the walk ended.
    pub proto: u8,
    /// Offset of this part in the whole datagram in bytes: 0 unless it is a later fragment.
    pub fragment_offset: u16,
    /// Do more fragments follow?
    pub more_fragments: bool,
    /// The bytes: of a first fragment or a whole datagram they begin with the transport header.
    pub payload: &'a [u8],
}

/// An IPv4 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a> {
    bytes: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Length of a header without options.
    pub const MIN_HEADER: usize = 20;

    /// `None` unless version is 4 and the whole header is there. The total length is not judged:
    /// [`payload`](Self::payload) ends at it or at the end of `bytes`, whichever comes first.
    #[inline]
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let ip = Self { bytes };
        (matches!(first, 0x45..=0x4f) && bytes.len() >= ip.header_len()).then_some(ip)
    }

    /// Length of the header with its options: 20 to 60.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes[0] & 0x0f) * 4
    }

    /// Type of service: DSCP (6 bits) and ECN (2 bits).
    #[must_use]
    pub fn tos(&self) -> u8 {
        self.bytes[1]
    }

    /// The header's total length field.
    #[inline]
    #[must_use]
    pub fn total_len(&self) -> u16 {
        be16(self.bytes, 2).unwrap_or_default()
    }

    /// Identification, equal in all fragments of a datagram.
    #[must_use]
    pub fn id(&self) -> u16 {
        be16(self.bytes, 4).unwrap_or_default()
    }

    /// Offset of this fragment in the datagram, in bytes.
    #[inline]
    #[must_use]
    pub fn fragment_offset(&self) -> u16 {
        (be16(self.bytes, 6).unwrap_or_default() & 0x1fff) << 3
    }

    /// Do more fragments follow?
    #[inline]
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.bytes[6] & 0x20 != 0
    }

    /// Time to live.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.bytes[8]
    }

    /// IP protocol number of the payload.
    #[inline]
    #[must_use]
    pub fn proto(&self) -> u8 {
        self.bytes[9]
    }

    /// Is the header checksum right?
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        internet_checksum(&self.bytes[..self.header_len()]) == 0
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(be32(self.bytes, 12).unwrap_or_default())
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(be32(self.bytes, 16).unwrap_or_default())
    }

    /// The options, raw.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        &self.bytes[Self::MIN_HEADER..self.header_len()]
    }

    /// What follows the header, without the Ethernet padding.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        let end = usize::from(self.total_len()).clamp(self.header_len(), self.bytes.len());
        &self.bytes[self.header_len()..end]
    }

    /// What the packet carries.
    #[must_use]
    pub fn upper(&self) -> Upper<'a> {
        Upper {
            proto: self.proto(),
            fragment_offset: self.fragment_offset(),
            more_fragments: self.more_fragments(),
            payload: self.payload(),
        }
    }
}

/// An IPv6 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a> {
    bytes: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Length of the fixed header.
    pub const HEADER: usize = 40;

    /// `None` unless version is 6 and the 40 bytes of the fixed header are there.
    #[inline]
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= Self::HEADER && bytes[0] >> 4 == 6).then_some(Self { bytes })
    }

    /// Traffic class: DSCP (6 bits) and ECN (2 bits).
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        self.bytes[0] << 4 | self.bytes[1] >> 4
    }

    /// Flow label.
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        be32(self.bytes, 0).unwrap_or_default() & 0x000f_ffff
    }

    /// The header's payload length field, extension headers included.
    #[inline]
    #[must_use]
    pub fn payload_len(&self) -> u16 {
        be16(self.bytes, 4).unwrap_or_default()
    }

    /// Number of the header that follows the fixed one.
    #[inline]
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.bytes[6]
    }

    /// Hop limit.
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.bytes[7]
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn src(&self) -> Ipv6Addr {
        address(self.bytes, 8)
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn dst(&self) -> Ipv6Addr {
        address(self.bytes, 24)
    }

    /// What follows the fixed header, without the Ethernet padding.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        let rest = &self.bytes[Self::HEADER..];
        &rest[..rest.len().min(usize::from(self.payload_len()))]
    }

    /// What the packet carries behind its extension headers.
    #[must_use]
    pub fn upper(&self) -> Upper<'a> {
        skip_extensions(self.next_header(), self.payload())
    }

    /// [`upper`](Self::upper) over all bytes at hand, whatever the payload length says.
    pub(super) fn upper_untrimmed(&self) -> Upper<'a> {
        skip_extensions(self.next_header(), &self.bytes[Self::HEADER..])
    }
}

/// Walks hop-by-hop options, routing, destination options and fragment headers.
fn skip_extensions(first: u8, payload: &[u8]) -> Upper<'_> {
    let mut upper = Upper { proto: first, fragment_offset: 0, more_fragments: false, payload };
    for _ in 0..MAX_IPV6_EXTENSIONS {
        let rest = upper.payload;
        let len = match (upper.proto, rest) {
            (0 | 43 | 60, [_, units, ..]) => (usize::from(*units) + 1) * 8,
            (44, [_, _, high, low, _, _, _, _, ..]) => {
                let field = u16::from_be_bytes([*high, *low]);
                upper.fragment_offset = field & !7;
                upper.more_fragments = field & 1 != 0;
                8
            }
            _ => break,
        };
        upper.proto = rest[0];
        upper.payload = rest.get(len..).unwrap_or_default();
        if upper.fragment_offset != 0 {
            break;
        }
    }
    upper
}

#[inline]
fn address(bytes: &[u8], at: usize) -> Ipv6Addr {
    let octets: [u8; 16] =
        bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; 16]);
    octets.into()
}
