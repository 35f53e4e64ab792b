//! What a card does about checksums: fills them in on the way out, checks them on the way in.

use linerate_common::packet::{
    Ethernet, IPPROTO_TCP, IPPROTO_UDP, IpView, Udp, internet_checksum, transport_checksum,
};

/// Are the checksums of the IPv4 header and of UDP or TCP there and good?
pub(super) fn good(frame: &[u8]) -> bool {
    let Some(IpView::V4(ip)) = Ethernet::parse(frame).and_then(|ethernet| ethernet.ip()) else {
        return false;
    };
    let whole = ip.fragment_offset() == 0 && !ip.more_fragments();
    let sum = |segment| transport_checksum(ip.src().into(), ip.dst().into(), ip.proto(), segment);
    let transport = match ip.proto() {
        IPPROTO_UDP => Udp::parse(ip.payload()).is_some() && sums_to_zero(sum(ip.payload())),
        IPPROTO_TCP => ip.payload().len() >= 20 && sums_to_zero(sum(ip.payload())),
        _ => false,
    };
    whole && ip.checksum_ok() && transport
}

/// A segment that contains its checksum sums to zero, in either of the two ways to write that.
fn sums_to_zero(sum: u16) -> bool {
    matches!(sum, 0 | 0xffff)
}

/// Writes the checksums of an IPv4 frame's header and of its UDP or TCP segment.
pub(super) fn fill(frame: &mut [u8]) {
    let Some(ethernet) = Ethernet::parse(frame) else { return };
    let at = ethernet.header_len();
    let Some(IpView::V4(ip)) = ethernet.ip() else { return };
    let (header, src, dst, proto) = (ip.header_len(), ip.src(), ip.dst(), ip.proto());
    let end = (at + usize::from(ip.total_len())).min(frame.len());
    let sum_at = match proto {
        IPPROTO_UDP => 6,
        IPPROTO_TCP => 16,
        _ => 0,
    };
    let segment = at + header..end;
    if sum_at > 0 && segment.len() >= sum_at + 2 {
        let place = segment.start + sum_at;
        frame[place..place + 2].fill(0);
        let sum = transport_checksum(src.into(), dst.into(), proto, &frame[segment]);
        frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame[at + 10..at + 12].fill(0);
    let sum = internet_checksum(&frame[at..at + header]);
    frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
}
