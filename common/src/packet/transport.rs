//! UDP and TCP headers.

use super::{be16, be32};

/// A UDP datagram.
#[derive(Debug, Clone, Copy)]
pub struct Udp<'a> {
    bytes: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Length of the header.
    pub const HEADER: usize = 8;

    /// `None` when there are fewer than 8 bytes.
    #[inline]
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= Self::HEADER).then_some(Self { bytes })
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub fn src_port(&self) -> u16 {
        be16(self.bytes, 0).unwrap_or_default()
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        be16(self.bytes, 2).unwrap_or_default()
    }

    /// The length field: header and payload.
    #[inline]
    #[must_use]
    pub fn length(&self) -> u16 {
        be16(self.bytes, 4).unwrap_or_default()
    }

    /// The checksum field; 0 means that the sender computed none.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes, 6).unwrap_or_default()
    }

    /// What follows the header, up to the length field or the end of the bytes at hand.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        let end = usize::from(self.length()).clamp(Self::HEADER, self.bytes.len());
        &self.bytes[Self::HEADER..end]
    }
}

/// A TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct Tcp<'a> {
    bytes: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Length of a header without options.
    pub const MIN_HEADER: usize = 20;

    /// `None` unless the whole header is there.
    #[inline]
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let len = usize::from(*bytes.get(12)? >> 4) * 4;
        (len >= Self::MIN_HEADER && bytes.len() >= len).then_some(Self { bytes })
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub fn src_port(&self) -> u16 {
        be16(self.bytes, 0).unwrap_or_default()
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        be16(self.bytes, 2).unwrap_or_default()
    }

    /// Sequence number.
    #[must_use]
    pub fn seq(&self) -> u32 {
        be32(self.bytes, 4).unwrap_or_default()
    }

    /// Acknowledgement number.
    #[must_use]
    pub fn ack(&self) -> u32 {
        be32(self.bytes, 8).unwrap_or_default()
    }

    /// Length of the header with its options: 20 to 60.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes[12] >> 4) * 4
    }

    /// The flag bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.bytes[13]
    }

    /// Receive window, unscaled.
    #[must_use]
    pub fn window(&self) -> u16 {
        be16(self.bytes, 14).unwrap_or_default()
    }

    /// What follows the header. An IP view has taken Ethernet padding off already.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }
}
