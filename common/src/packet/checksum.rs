//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// The checksum of `bytes`, to be stored big-endian. Over bytes that contain a right checksum
/// it is 0.
#[inline]
#[must_use]
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    fold(sum(0, bytes))
}

/// The checksum of a UDP datagram or TCP segment between two addresses of one family, with the
/// pseudo-header. Over a segment that contains a right checksum it is 0. A UDP sender stores
/// 0xffff in place of 0.
#[must_use]
pub fn transport_checksum(src: IpAddr, dst: IpAddr, proto: u8, segment: &[u8]) -> u16 {
    transport_checksum_parts(src, dst, proto, segment, &[])
}

/// [`transport_checksum`] over a header of even length and the payload behind it.
pub(super) fn transport_checksum_parts(
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    header: &[u8],
    payload: &[u8],
) -> u16 {
    let mut acc = u64::from(proto) + header.len() as u64 + payload.len() as u64;
    for address in [src, dst] {
        acc = match address {
            IpAddr::V4(a) => sum(acc, &a.octets()),
            IpAddr::V6(a) => sum(acc, &a.octets()),
        };
    }
    fold(sum(sum(acc, header), payload))
}

/// Adds big-endian 32-bit words: 64 bits hold the sum of 16 GiB of them without a carry lost.
#[inline]
fn sum(mut acc: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        acc += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    acc + u64::from(u32::from_be_bytes(last))
}

#[inline]
fn fold(mut acc: u64) -> u16 {
    while acc > 0xffff {
        acc = (acc >> 16) + (acc & 0xffff);
    }
    !(acc as u16)
}
