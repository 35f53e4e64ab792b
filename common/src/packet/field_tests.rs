//! Every field of every header, read from headers in which no two fields are alike.

use super::*;

fn ipv4() -> Vec<u8> {
    let mut bytes = vec![
        0x46, 0xb8, 0, 28, 0x12, 0x34, 0x21, 0x23, 0x40, 17, 0, 0, 10, 1, 2, 3, 239, 4, 5,
        6, //
        0x94, 4, 0, 0, // router alert
        0xa1, 0xa2, 0xa3, 0xa4, // payload
        0xee, 0xee, 0xee, // padding
    ];
    let sum = internet_checksum(&bytes[..24]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn ipv4_fields() {
    let mut bytes = ipv4();
    let ip = Ipv4::parse(&bytes).unwrap();
    assert_eq!((ip.header_len(), ip.tos(), ip.total_len(), ip.id()), (24, 0xb8, 28, 0x1234));
    assert_eq!((ip.fragment_offset(), ip.more_fragments()), (0x123 * 8, true));
    assert_eq!((ip.ttl(), ip.proto(), ip.checksum_ok()), (0x40, 17, true));
    assert_eq!((ip.src().octets(), ip.dst().octets()), ([10, 1, 2, 3], [239, 4, 5, 6]));
    assert_eq!(ip.options(), [0x94, 4, 0, 0]);
    let upper = Upper {
        proto: 17,
        fragment_offset: 0x123 * 8,
        more_fragments: true,
        payload: &[0xa1, 0xa2, 0xa3, 0xa4],
    };
    assert_eq!((ip.upper(), IpView::V4(ip).upper()), (upper, upper));
    bytes[6] = 0x41; // "do not fragment" in place of "more fragments"
    let ip = Ipv4::parse(&bytes).unwrap();
    assert!(!ip.more_fragments() && !ip.checksum_ok());
    assert_eq!(ip.fragment_offset(), 0x123 * 8);
}

#[test]
fn an_ipv4_header_that_is_not_all_there_is_none() {
    let bytes = ipv4();
    assert!(Ipv4::parse(&bytes[..24]).is_some());
    assert!(Ipv4::parse(&bytes[..23]).is_none(), "cut off within the options");
    assert!(Ipv4::parse(&[]).is_none());
    for first in [0x44, 0x35, 0x65] {
        let mut bytes = bytes.clone();
        bytes[0] = first;
        assert!(Ipv4::parse(&bytes).is_none(), "{first:#x}");
    }
}

fn ipv6() -> Vec<u8> {
    let mut bytes = vec![0x6a, 0xb1, 0x23, 0x45, 0, 10, 44, 9];
    bytes.extend(0x10..0x20);
    bytes.extend(0x20..0x30);
    // A first fragment of something of protocol 99, and two bytes of it; padding.
    bytes.extend([99, 0, 0, 1, 1, 2, 3, 4, 0xb1, 0xb2, 0xee, 0xee]);
    bytes
}

#[test]
fn ipv6_fields() {
    let bytes = ipv6();
    let ip = Ipv6::parse(&bytes).unwrap();
    assert_eq!((ip.traffic_class(), ip.flow_label()), (0xab, 0x12345));
    assert_eq!((ip.payload_len(), ip.next_header(), ip.hop_limit()), (10, 44, 9));
    assert_eq!(ip.src().octets()[..], bytes[8..24]);
    assert_eq!(ip.dst().octets()[..], bytes[24..40]);
    assert_eq!(ip.payload(), &bytes[40..50]);
    let upper =
        Upper { proto: 99, fragment_offset: 0, more_fragments: true, payload: &[0xb1, 0xb2] };
    assert_eq!((ip.upper(), IpView::V6(ip).upper()), (upper, upper));
    assert_eq!(ip.upper_untrimmed().payload, &[0xb1, 0xb2, 0xee, 0xee]);
    assert!(Ipv6::parse(&bytes[..40]).is_some() && Ipv6::parse(&bytes[..39]).is_none());
    assert!(Ipv6::parse(&ipv4().repeat(2)).is_none());
}

#[test]
fn ipv6_extension_headers() {
    // A later fragment: what follows is no header, whatever its number says.
    let mut bytes = ipv6();
    bytes[40] = 60;
    bytes[42..44].copy_from_slice(&[0x12, 0x38]);
    let upper = Ipv6::parse(&bytes).unwrap().upper();
    assert_eq!((upper.proto, upper.fragment_offset), (60, 0x1238));
    assert_eq!((upper.more_fragments, upper.payload), (false, &[0xb1, 0xb2][..]));
    // Each of the three that carry their length, 16 bytes long, and one that does not.
    for (number, found) in [(0, true), (43, true), (60, true), (51, false)] {
        let mut bytes = ipv6()[..40].to_vec();
        bytes[5] = 18;
        bytes[6] = number;
        bytes.extend([17, 1]);
        bytes.extend([0; 14]);
        bytes.extend([0xc1, 0xc2]);
        let upper = Ipv6::parse(&bytes).unwrap().upper();
        let (proto, payload) = if found { (17, &bytes[56..]) } else { (number, &bytes[40..]) };
        assert_eq!((upper.proto, upper.payload), (proto, payload), "{number}");
    }
}

#[test]
fn udp_fields() {
    let bytes = [0x12, 0x34, 0x56, 0x78, 0, 10, 0x9a, 0xbc, 0xd1, 0xd2, 0xee];
    let udp = Udp::parse(&bytes).unwrap();
    assert_eq!((udp.src_port(), udp.dst_port()), (0x1234, 0x5678));
    assert_eq!((udp.length(), udp.checksum()), (10, 0x9abc));
    assert_eq!(udp.payload(), [0xd1, 0xd2]);
    assert!(Udp::parse(&bytes[..8]).is_some() && Udp::parse(&bytes[..7]).is_none());
}

#[test]
fn tcp_fields() {
    let mut bytes: Vec<u8> = (0x10..0x30).collect();
    bytes[12] = 0x5f;
    let tcp = Tcp::parse(&bytes).unwrap();
    assert_eq!((tcp.src_port(), tcp.dst_port()), (0x1011, 0x1213));
    assert_eq!((tcp.seq(), tcp.ack()), (0x1415_1617, 0x1819_1a1b));
    assert_eq!((tcp.header_len(), tcp.flags(), tcp.window()), (20, 0x1d, 0x1e1f));
    assert_eq!(tcp.payload(), &bytes[20..]);
    assert!(Tcp::parse(&bytes[..20]).is_some() && Tcp::parse(&bytes[..19]).is_none());
}

#[test]
fn ethernet_fields() {
    let mut frame: Vec<u8> = (0x10..0x30).collect();
    frame[12..18].copy_from_slice(&[0x91, 0x00, 0xb3, 0x45, 0x12, 0x34]);
    let ethernet = Ethernet::parse(&frame).unwrap();
    assert_eq!(ethernet.dst(), [0x10, 0x11, 0x12, 0x13, 0x14, 0x15]);
    assert_eq!(ethernet.src(), [0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b]);
    let tag = ethernet.tags().next().unwrap();
    assert_eq!((tag.tpid, tag.tci, tag.vid(), tag.priority()), (0x9100, 0xb345, 0x345, 5));
    assert_eq!((ethernet.vlan(), ethernet.ethertype()), (Some(0x345), 0x1234));
    assert_eq!((ethernet.header_len(), ethernet.payload()), (18, &frame[18..]));
    assert!(ethernet.ip().is_none());
    assert!(Ethernet::parse(&frame[..18]).is_some() && Ethernet::parse(&frame[..17]).is_none());
    for tpid in [TPID_8021Q, TPID_8021AD, TPID_QINQ_OLD] {
        assert!(is_vlan_tpid(tpid) && !is_vlan_tpid(tpid + 1));
    }
}

/// Worked out with 16-bit words, as the standard does it: that a sum over its own checksum is 0
/// would also hold if there were none.
#[test]
fn udp_checksums_that_are_known() {
    for (src, dst, payload, expected) in [
        ("10.0.0.1:4000", "239.1.1.1:5000", &b"hi!"[..], 0x5943),
        ("[fe80::1]:4000", "[ff02::1:2]:5000", b"hello", 0x9b52),
    ] {
        let t = UdpTemplate::new(src.parse().unwrap(), dst.parse().unwrap()).unwrap();
        let mut buf = [0; 80];
        let len = t.write(&mut buf, payload).unwrap();
        let udp = &mut buf[len - payload.len() - 8..len];
        assert_eq!(Udp::parse(udp).unwrap().checksum(), expected, "{src}");
        udp[6..8].fill(0);
        assert_eq!(transport_checksum(t.src().ip(), t.dst().ip(), IPPROTO_UDP, udp), expected);
        udp[7] = 1; // a wrong one
        assert_ne!(transport_checksum(t.src().ip(), t.dst().ip(), IPPROTO_UDP, udp), 0);
    }
}

#[test]
fn headers_are_read_as_far_as_the_bytes_go() {
    let mut frame = vec![0x01, 0, 0x5e, 4, 5, 6, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0, 0, 9, 17, 0, 0, 10, 1, 2, 3, 239, 4, 5, 6]);
    frame.extend([0x12, 0x34, 0x56, 0x78]);
    let all = Headers::parse(&frame).unwrap();
    let addresses = Some(([10, 1, 2, 3].into(), [239, 4, 5, 6].into()));
    assert_eq!((all.dst_mac, all.vlan), ([0x01, 0, 0x5e, 4, 5, 6], None));
    assert_eq!((all.ethertype, all.addresses), (Some(ETHERTYPE_IPV4), addresses));
    assert_eq!((all.proto, all.ports), (Some(IPPROTO_UDP), Some((0x1234, 0x5678))));
    // The IPv4 header to its last byte, and one less.
    let ip = Headers::parse(&frame[..34]).unwrap();
    assert_eq!((ip.addresses, ip.proto, ip.ports), (addresses, Some(IPPROTO_UDP), None));
    let cut = Headers::parse(&frame[..33]).unwrap();
    assert_eq!((cut.ethertype, cut.addresses, cut.proto), (Some(ETHERTYPE_IPV4), None, None));
    // Only UDP and TCP have ports, and only where a datagram begins.
    for (proto, fragment, ports) in
        [(IPPROTO_TCP, 0, true), (2, 0, false), (IPPROTO_UDP, 1, false), (2, 1, false)]
    {
        frame[23] = proto;
        frame[21] = fragment;
        let headers = Headers::parse(&frame).unwrap();
        assert_eq!((headers.proto, headers.ports.is_some()), (Some(proto), ports));
    }
    assert!(Headers::parse(&frame[..14]).is_some() && Headers::parse(&frame[..13]).is_none());
}
