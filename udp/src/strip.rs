//! Taking a frame's headers off again: what a UDP socket can send is a payload and an address.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use linerate_common::packet::{Ethernet, IPPROTO_UDP, IpView, Ipv4, Ipv6, Udp};

/// Where a frame's datagram goes, and where in the frame its payload is. `None` when the frame is
/// no whole UDP datagram: not IPv4 or IPv6, not UDP, a fragment, with IPv6 extension headers, to
/// no address or port, or with lengths that do not fit the frame or each other.
///
/// VLAN tags are taken off too, since the interface decides the VLAN. Bytes behind the IP packet
/// (padding, a frame check sequence or a trailer that a capture kept) are left away. Checksums
/// are not judged: the kernel computes new ones.
pub(crate) fn datagram(frame: &[u8]) -> Option<(SocketAddr, Range<usize>)> {
    let ethernet = Ethernet::parse(frame)?;
    let ip_at = ethernet.header_len();
    let (dst, udp_at, room) = match ethernet.ip()? {
        IpView::V4(ip) => (IpAddr::from(ip.dst()), ip_at + ip.header_len(), v4_room(&ip)?),
        IpView::V6(ip) => (IpAddr::from(ip.dst()), ip_at + Ipv6::HEADER, v6_room(&ip)?),
    };
    let udp = Udp::parse(frame.get(udp_at..udp_at + room)?)?;
    let len = usize::from(udp.length());
    if len < Udp::HEADER || len > room || udp.dst_port() == 0 || dst.is_unspecified() {
        return None;
    }
    Some((SocketAddr::new(dst, udp.dst_port()), udp_at + Udp::HEADER..udp_at + len))
}

/// Bytes that the header promises behind itself.
fn v4_room(ip: &Ipv4<'_>) -> Option<usize> {
    let whole = ip.proto() == IPPROTO_UDP && !ip.more_fragments() && ip.fragment_offset() == 0;
    usize::from(ip.total_len()).checked_sub(ip.header_len()).filter(|_| whole)
}

/// As [`v4_room`]. A jumbogram, whose length is 0 here, is refused for want of a UDP header.
fn v6_room(ip: &Ipv6<'_>) -> Option<usize> {
    (ip.next_header() == IPPROTO_UDP).then_some(usize::from(ip.payload_len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate_common::packet::UdpTemplate;

    fn frame(src: &str, dst: &str, vlan: Option<u16>, payload: &[u8]) -> Vec<u8> {
        let mut template = UdpTemplate::new(src.parse().unwrap(), dst.parse().unwrap()).unwrap();
        template.vlan_tci = vlan;
        let mut buf = vec![0; 2048];
        let len = template.write(&mut buf, payload).unwrap();
        buf.truncate(len);
        buf
    }

    fn v4() -> Vec<u8> {
        frame("10.0.0.1:9", "239.1.1.1:5000", None, b"tick")
    }

    #[test]
    fn the_payload_is_found_behind_tags_and_before_trailers() {
        let (dst, at) = datagram(&v4()).unwrap();
        assert_eq!((dst.to_string().as_str(), &v4()[at]), ("239.1.1.1:5000", &b"tick"[..]));

        let mut tagged = frame("10.0.0.1:9", "239.1.1.1:5000", Some(905), b"tick");
        tagged.extend([0xaa; 22]);
        let (_, at) = datagram(&tagged).unwrap();
        assert_eq!(&tagged[at], b"tick");

        let v6 = frame("[fd00::1]:9", "[ff15::1]:5000", None, b"");
        let (dst, at) = datagram(&v6).unwrap();
        assert_eq!((dst.to_string().as_str(), at.len()), ("[ff15::1]:5000", 0));
    }

    #[test]
    fn ip_options_are_skipped() {
        let mut f = v4();
        f[14] = 0x46;
        f.splice(34..34, [1, 1, 1, 1]);
        f[17] += 4;
        let (_, at) = datagram(&f).unwrap();
        assert_eq!(&f[at], b"tick");
    }

    #[test]
    fn what_is_no_whole_datagram_is_refused() {
        let change = |at: usize, to: u8| {
            let mut f = v4();
            f[at] = to;
            datagram(&f)
        };
        assert!(change(15, 0).is_some(), "the type of service does not matter");
        assert_eq!(change(13, 6), None, "ARP");
        assert_eq!(change(23, 6), None, "TCP");
        assert_eq!(change(20, 0x20), None, "a first fragment");
        assert_eq!(change(21, 1), None, "a later fragment");
        assert_eq!(change(17, 33), None, "an IP length beyond the frame");
        assert_eq!(change(17, 27), None, "an IP length without room for UDP");
        assert_eq!(change(17, 19), None, "an IP length shorter than its header");
        assert_eq!(change(39, 13), None, "a UDP length beyond the IP packet");
        assert_eq!(change(39, 7), None, "a UDP length shorter than its header");
        let nowhere = frame("10.0.0.1:9", "0.0.0.0:5000", None, b"tick");
        assert_eq!(datagram(&nowhere), None, "the kernel would send it to this host");
        for len in 0..v4().len() {
            assert_eq!(datagram(&v4()[..len]), None, "cut to {len} bytes");
        }
        let mut v6 = frame("[fd00::1]:9", "[ff15::1]:5000", None, b"tick");
        v6[20] = 44;
        assert_eq!(datagram(&v6), None, "an IPv6 fragment");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_point_outside(bytes: Vec<u8>, len in 0..80usize, at in 0..60usize) {
            let _ = datagram(&bytes);
            // Mostly right frames reach further.
            let mut frame = v4();
            let start = at.min(frame.len());
            let end = (at + bytes.len()).min(frame.len());
            frame[start..end].copy_from_slice(&bytes[..end - start]);
            frame.truncate(len);
            if let Some((_, range)) = datagram(&frame) {
                assert!(range.start <= range.end && range.end <= frame.len());
            }
        }

        #[test]
        fn what_the_receiver_puts_on_comes_off(payload: Vec<u8>, src: IpAddr, dst: IpAddr, port in 1..=u16::MAX) {
            use crate::headers::{Facts, HEADROOM, write};
            proptest::prop_assume!(src.is_ipv4() == dst.is_ipv4() && !dst.is_unspecified());
            let facts =
                Facts { src: (src, 7), dst: (dst, port), ttl: 1, tos: 0, mac: [2; 6] };
            let mut slot = [&[0xee; HEADROOM], &payload[..]].concat();
            let headers = write(&mut slot, &facts, payload.len(), payload.len());
            let frame = &slot[HEADROOM - headers..];
            let (to, range) = datagram(frame).unwrap();
            assert_eq!((to, &frame[range]), (SocketAddr::new(dst, port), &payload[..]));
        }
    }
}
