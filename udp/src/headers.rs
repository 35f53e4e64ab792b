//! Made-up Ethernet, IP and UDP headers in front of a datagram.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linerate_common::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPPROTO_UDP, internet_checksum, multicast_mac,
    transport_checksum,
};

/// Room for the longest headers before each payload: 14 + 40 + 8 bytes, rounded up so that
/// payloads begin on a cache line.
pub(crate) const HEADROOM: usize = 64;

/// What is known about a datagram's headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) src: (IpAddr, u16),
    pub(crate) dst: (IpAddr, u16),
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// MAC address of the interface, where unicast datagrams went.
    pub(crate) mac: [u8; 6],
}

/// Writes headers into `buf` so that they end where the payload of `stored` bytes begins, at
/// [`HEADROOM`], and gives their length. `sent` is the payload's length on the wire.
///
/// The lengths in the headers are those of the wire, the IPv4 checksum is right, and so is the
/// UDP checksum over IPv6 unless bytes of the payload are missing. Over IPv4 the UDP checksum is
/// 0, "none": the kernel has checked the real one and thrown it away, and computing another
/// would read every payload once more.
#[inline]
pub(crate) fn write(buf: &mut [u8], facts: &Facts, stored: usize, sent: usize) -> usize {
    let udp_len = u16::try_from(sent + 8).unwrap_or(u16::MAX);
    let (rest, udp) = buf[..HEADROOM].split_at_mut(HEADROOM - 8);
    udp[..2].copy_from_slice(&facts.src.1.to_be_bytes());
    udp[2..4].copy_from_slice(&facts.dst.1.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp[6..].fill(0);
    match (facts.src.0, facts.dst.0) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (rest, ip) = rest.split_at_mut(HEADROOM - 28);
            write_v4(ip, facts, src, dst, udp_len.saturating_add(20));
            let [a, b, c, d] = src.octets();
            write_ethernet(&mut rest[HEADROOM - 42..], facts, [2, 0, a, b, c, d], ETHERTYPE_IPV4);
            42
        }
        (src, dst) => {
            let (rest, ip) = rest.split_at_mut(HEADROOM - 48);
            let (src, dst) = (as_v6(src), as_v6(dst));
            write_v6(ip, facts, src, dst, udp_len);
            let [.., a, b, c, d] = src.octets();
            write_ethernet(&mut rest[HEADROOM - 62..], facts, [2, 0, a, b, c, d], ETHERTYPE_IPV6);
            if stored == sent {
                let datagram = &mut buf[HEADROOM - 8..HEADROOM + stored];
                let sum = transport_checksum(src.into(), dst.into(), IPPROTO_UDP, datagram);
                // 0 would mean "none", which IPv6 does not allow.
                let sum = if sum == 0 { 0xffff } else { sum };
                datagram[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            62
        }
    }
}

fn write_ethernet(out: &mut [u8], facts: &Facts, src: [u8; 6], ethertype: u16) {
    out[..6].copy_from_slice(&multicast_mac(facts.dst.0).unwrap_or(facts.mac));
    out[6..12].copy_from_slice(&src);
    out[12..14].copy_from_slice(&ethertype.to_be_bytes());
}

fn write_v4(out: &mut [u8], facts: &Facts, src: Ipv4Addr, dst: Ipv4Addr, total_len: u16) {
    out[0] = 0x45;
    out[1] = facts.tos;
    out[2..4].copy_from_slice(&total_len.to_be_bytes());
    out[4..8].fill(0);
    out[8] = facts.ttl;
    out[9] = IPPROTO_UDP;
    out[10..12].fill(0);
    out[12..16].copy_from_slice(&src.octets());
    out[16..20].copy_from_slice(&dst.octets());
    let sum = internet_checksum(&out[..20]);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn write_v6(out: &mut [u8], facts: &Facts, src: Ipv6Addr, dst: Ipv6Addr, payload_len: u16) {
    out[0] = 0x60 | facts.tos >> 4;
    out[1] = facts.tos << 4;
    out[2..4].fill(0);
    out[4..6].copy_from_slice(&payload_len.to_be_bytes());
    out[6] = IPPROTO_UDP;
    out[7] = facts.ttl;
    out[8..24].copy_from_slice(&src.octets());
    out[24..40].copy_from_slice(&dst.octets());
}

fn as_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate_common::packet::{Ethernet, IpView, Udp};

    fn facts(src: &str, dst: &str) -> Facts {
        let at = |ip: &str, port| (ip.parse().unwrap(), port);
        Facts { src: at(src, 4000), dst: at(dst, 5000), ttl: 9, tos: 0xb8, mac: [2, 9, 9, 9, 9, 9] }
    }

    fn frame(facts: &Facts, payload: &[u8], sent: usize) -> Vec<u8> {
        let mut buf = [&[0xee; HEADROOM], payload].concat();
        let n = write(&mut buf, facts, payload.len(), sent);
        buf.split_off(HEADROOM - n)
    }

    #[test]
    fn an_ipv4_multicast_datagram_gets_consistent_headers() {
        let frame = frame(&facts("10.1.2.3", "239.129.1.2"), b"tick", 4);
        assert_eq!(frame.len(), 46);
        let eth = Ethernet::parse(&frame).unwrap();
        assert_eq!(eth.dst(), [1, 0, 0x5e, 1, 1, 2]);
        assert_eq!(eth.src(), [2, 0, 10, 1, 2, 3]);
        let Some(IpView::V4(ip)) = eth.ip() else { panic!("not IPv4") };
        assert!(ip.checksum_ok());
        assert_eq!((ip.ttl(), ip.tos(), ip.total_len()), (9, 0xb8, 32));
        assert_eq!((ip.src().octets(), ip.dst().octets()), ([10, 1, 2, 3], [239, 129, 1, 2]));
        let udp = Udp::parse(ip.payload()).unwrap();
        assert_eq!((udp.src_port(), udp.dst_port()), (4000, 5000));
        assert_eq!((udp.checksum(), udp.payload()), (0, &b"tick"[..]));
    }

    #[test]
    fn an_ipv6_datagram_gets_a_right_udp_checksum() {
        let facts = facts("fd00::102:304", "fd00::9");
        let frame = frame(&facts, b"odd", 3);
        assert_eq!(frame.len(), 65);
        let eth = Ethernet::parse(&frame).unwrap();
        assert_eq!((eth.dst(), eth.src()), (facts.mac, [2, 0, 1, 2, 3, 4]));
        let Some(IpView::V6(ip)) = eth.ip() else { panic!("not IPv6") };
        assert_eq!((ip.hop_limit(), ip.traffic_class(), ip.payload_len()), (9, 0xb8, 11));
        let segment = ip.payload();
        assert_eq!(transport_checksum(ip.src().into(), ip.dst().into(), 17, segment), 0);
        assert_ne!(Udp::parse(segment).unwrap().checksum(), 0);
    }

    #[test]
    fn a_cut_datagram_keeps_the_lengths_of_the_wire() {
        let frame = frame(&facts("10.1.2.3", "10.1.2.4"), b"ab", 3000);
        assert_eq!(frame.len(), 44);
        let Some(IpView::V4(ip)) = Ethernet::parse(&frame).unwrap().ip() else { panic!() };
        assert_eq!(ip.total_len(), 3028);
        assert_eq!(Udp::parse(ip.payload()).unwrap().length(), 3008);
    }
}
