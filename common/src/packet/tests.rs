use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;

fn template(src: &str, dst: &str) -> UdpTemplate {
    UdpTemplate::new(src.parse().unwrap(), dst.parse().unwrap()).unwrap()
}

#[test]
fn a_known_header_has_its_known_checksum() {
    // The worked example of many textbooks: 192.168.0.1 to 192.168.0.199, checksum b861.
    let header = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];
    assert_eq!(internet_checksum(&header), 0);
    let mut blank = header;
    blank[10..12].fill(0);
    assert_eq!(internet_checksum(&blank), 0xb861);
    assert!(Ipv4::parse(&header).unwrap().checksum_ok());
    // RFC 1071's own example: the sum is ddf2. An odd length counts a zero byte behind it.
    assert_eq!(internet_checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    assert_eq!(internet_checksum(&[1, 2, 3]), internet_checksum(&[1, 2, 3, 0]));
}

#[test]
fn an_ipv4_frame_is_laid_out_as_the_standards_say() {
    let mut t = template("10.0.0.1:4000", "239.1.1.1:5000");
    t.vlan_tci = Some(0x2000 | 905);
    t.id = 0x1234;
    let mut buf = [0xee; 60];
    let len = t.write(&mut buf, b"hi!").unwrap();
    assert_eq!((len, t.header_len()), (49, 46));
    let expected = [
        0x01, 0x00, 0x5e, 0x01, 0x01, 0x01, 2, 0, 0, 0, 0, 0, 0x81, 0x00, 0x23, 0x89, 0x08, 0x00,
        0x45, 0, 0, 31, 0x12, 0x34, 0, 0, 1, 17, 0xad, 0x97, 10, 0, 0, 1, 239, 1, 1, 1, 0x0f, 0xa0,
        0x13, 0x88, 0, 11,
    ];
    assert_eq!(buf[..44], expected);
    let udp = &buf[38..49];
    let sum = transport_checksum(t.src().ip(), t.dst().ip(), IPPROTO_UDP, udp);
    assert_eq!((sum, &udp[8..]), (0, &b"hi!"[..]));
    assert_eq!(buf[49..], [0xee; 11], "nothing behind the frame is touched");
    t.checksum = false;
    t.write(&mut buf, b"hi!").unwrap();
    assert_eq!(buf[44..46], [0, 0]);
}

#[test]
fn an_ipv6_frame_carries_its_checksum_always() {
    let mut t = template("[fe80::1]:4000", "[ff02::1:2]:5000");
    t.checksum = false;
    let mut buf = [0; 80];
    let len = t.write(&mut buf, b"hello").unwrap();
    let ethernet = Ethernet::parse(&buf[..len]).unwrap();
    assert_eq!(ethernet.dst(), [0x33, 0x33, 0, 1, 0, 2]);
    let Some(IpView::V6(ip)) = ethernet.ip() else { panic!("no IPv6") };
    assert_eq!((ip.hop_limit(), ip.next_header(), ip.payload_len()), (1, 17, 13));
    assert_eq!((ip.traffic_class(), ip.flow_label()), (0, 0));
    assert_eq!(transport_checksum(t.src().ip(), t.dst().ip(), 17, ip.payload()), 0);
    assert_ne!(Udp::parse(ip.payload()).unwrap().checksum(), 0);
}

#[test]
fn what_does_not_fit_is_not_written() {
    let t = template("10.0.0.1:1", "10.0.0.2:2");
    let mut buf = vec![0; 66_000];
    assert_eq!(t.write(&mut buf[..46], b"12345"), None);
    assert_eq!(t.write(&mut buf, &[0; 65_508]), None);
    assert_eq!(t.write(&mut buf, &[0; 65_507]), Some(42 + 65_507));
    assert_eq!(t.dst_mac, [0xff; 6]);
    let v6 = "[::1]:1".parse().unwrap();
    assert_eq!(UdpTemplate::new("10.0.0.1:1".parse().unwrap(), v6), None);
    assert_eq!(multicast_mac("10.0.0.1".parse().unwrap()), None);
}

#[test]
fn padding_is_not_payload_and_lengths_are_clamped() {
    let mut buf = [0; 60];
    template("10.0.0.1:1", "10.0.0.2:2").write(&mut buf, b"x").unwrap();
    let Some(IpView::V4(ip)) = Ethernet::parse(&buf).unwrap().ip() else { panic!("no IPv4") };
    assert_eq!(ip.payload().len(), 9);
    assert_eq!(Udp::parse(ip.payload()).unwrap().payload(), b"x");
    buf[16..18].copy_from_slice(&[0xff, 0xff]);
    buf[38..40].copy_from_slice(&[0xff, 0xff]);
    let Some(IpView::V4(ip)) = Ethernet::parse(&buf).unwrap().ip() else { panic!("no IPv4") };
    assert_eq!(Udp::parse(ip.payload()).unwrap().payload().len(), 18);
    buf[16..18].copy_from_slice(&[0, 0]);
    let Some(IpView::V4(ip)) = Ethernet::parse(&buf).unwrap().ip() else { panic!("no IPv4") };
    assert_eq!(ip.payload(), b"");
}

#[test]
fn tcp_options_are_part_of_the_header() {
    let mut segment = [0_u8; 30];
    segment[..4].copy_from_slice(&[0, 80, 0x1f, 0x90]);
    segment[7] = 9;
    segment[12] = 0x60;
    segment[13] = 0x12;
    let tcp = Tcp::parse(&segment).unwrap();
    assert_eq!((tcp.src_port(), tcp.dst_port(), tcp.seq(), tcp.flags()), (80, 8080, 9, 0x12));
    assert_eq!((tcp.header_len(), tcp.payload().len()), (24, 6));
    segment[12] = 0x40;
    assert!(Tcp::parse(&segment).is_none());
    segment[12] = 0xf0;
    assert!(Tcp::parse(&segment).is_none());
}

#[test]
fn tags_come_outermost_first_however_many() {
    let mut frame = vec![0; 12];
    for vid in 1..=9_u8 {
        frame.extend([0x88, 0xa8, 0x60, vid]);
    }
    frame.extend([0x12, 0x34, 0xaa]);
    let ethernet = Ethernet::parse(&frame).unwrap();
    let vids: Vec<_> = ethernet.tags().map(|t| t.vid()).collect();
    assert_eq!(vids, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(ethernet.tags().next().unwrap().priority(), 3);
    assert_eq!((ethernet.ethertype(), ethernet.payload()), (0x1234, &[0xaa][..]));
    assert!(Ethernet::parse(&frame[..49]).is_none());
}

fn any_address() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    any::<(bool, u128, u128, u16, u16)>().prop_map(|(v4, a, b, p, q)| {
        let ip = |bits: u128| match v4 {
            true => IpAddr::V4((bits as u32).into()),
            false => IpAddr::V6(bits.into()),
        };
        (SocketAddr::new(ip(a), p), SocketAddr::new(ip(b), q))
    })
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(
        (src, dst) in any_address(),
        vlan_tci in proptest::option::of(any::<u16>()),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut t = UdpTemplate::new(src, dst).unwrap();
        t.vlan_tci = vlan_tci;
        let mut buf = [0; 200];
        let len = t.write(&mut buf, &payload).unwrap();
        let ethernet = Ethernet::parse(&buf[..len]).unwrap();
        prop_assert_eq!(ethernet.vlan(), vlan_tci.map(|tci| tci & 0xfff));
        let ip = ethernet.ip().unwrap();
        prop_assert_eq!((ip.src(), ip.dst()), (src.ip(), dst.ip()));
        let upper = ip.upper();
        prop_assert_eq!(transport_checksum(ip.src(), ip.dst(), upper.proto, upper.payload), 0);
        let udp = Udp::parse(upper.payload).unwrap();
        prop_assert_eq!((udp.src_port(), udp.dst_port()), (src.port(), dst.port()));
        prop_assert_eq!(udp.payload(), &payload[..]);
        let headers = Headers::parse(&buf[..len]).unwrap();
        prop_assert_eq!(headers.ports, Some((src.port(), dst.port())));
        prop_assert_eq!(headers.addresses, Some((src.ip(), dst.ip())));
    }

    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..4) {
        // Random bytes rarely begin like a packet: help them.
        let start: &[u8] = match kind {
            0 => &[0x08, 0x00, 0x4f],
            1 => &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 60, 0],
            2 => &[0x81, 0x00, 0, 7, 0x08, 0x00, 0x45],
            _ => &[],
        };
        for (i, byte) in start.iter().enumerate() {
            if let Some(b) = bytes.get_mut(12 + i) {
                *b = *byte;
            }
        }
        let _ = Headers::parse(&bytes);
        if let Some(ip) = Ethernet::parse(&bytes).and_then(|e| e.ip()) {
            let _ = (ip.src(), ip.dst());
            if let IpView::V4(ip) = ip {
                let _ = (ip.checksum_ok(), ip.options(), ip.ttl(), ip.id(), ip.tos());
            }
            let _ = Udp::parse(ip.upper().payload).map(|u| u.payload());
            let _ = Tcp::parse(ip.upper().payload).map(|t| (t.payload(), t.window(), t.ack()));
        }
    }
}
