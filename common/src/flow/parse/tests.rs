use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> FlowSpec {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn error(text: &str) -> String {
    text.parse::<FlowSpec>().expect_err(text).to_string()
}

#[test]
fn every_form_of_the_table_reads_as_it_says() {
    let group = FlowSpec::group("239.1.1.1".parse().unwrap(), 5000);
    assert_eq!(parse("239.1.1.1:5000"), group);
    assert_eq!(parse("udp:239.1.1.1:5000"), group);
    assert_eq!(parse(" UDP:239.1.1.1:5000 "), group);
    assert_eq!(parse("vlan:905,239.1.1.1:5000"), group.on_vlan(905));
    assert_eq!(parse("vlan:905"), FlowSpec::ALL.on_vlan(905));
    assert_eq!(parse("all"), FlowSpec::ALL);
    let of_group = |group: &str, source: Option<&str>, port| FlowKind::Group {
        group: group.parse().unwrap(),
        source: source.map(|s| s.parse().unwrap()),
        port,
    };
    assert_eq!(parse("239.1.1.1").kind, of_group("239.1.1.1", None, None));
    assert_eq!(parse("10.0.0.7,239.1.1.1").kind, of_group("239.1.1.1", Some("10.0.0.7"), None));
    assert_eq!(
        parse("10.0.0.7,239.1.1.1:5").kind,
        of_group("239.1.1.1", Some("10.0.0.7"), Some(5))
    );
    assert_eq!(parse("ff02::1").kind, of_group("ff02::1", None, None));
    assert_eq!(parse("fe80::1,[ff3e::1]:5").kind, of_group("ff3e::1", Some("fe80::1"), Some(5)));
    let dst = "10.0.0.1:5000".parse().unwrap();
    assert_eq!(parse("udp:10.0.0.1:5000").kind, FlowKind::To { proto: Proto::Udp, dst });
    let src = "10.0.0.2:4001".parse().unwrap();
    let proto = Proto::Tcp;
    assert_eq!(
        parse("tcp:10.0.0.1:5000,10.0.0.2:4001").kind,
        FlowKind::Between { proto, dst, src }
    );
    let dst = "[fe80::1]:80".parse().unwrap();
    assert_eq!(parse("tcp:[fe80::1]:80").kind, FlowKind::To { proto, dst });
    assert_eq!(parse("mac:01:00:5E:01:01:ff").kind, FlowKind::Mac([1, 0, 0x5e, 1, 1, 0xff]));
    assert_eq!(parse("ether:0x88cc").kind, FlowKind::EtherType(0x88cc));
}

#[test]
fn nonsense_gets_one_line_with_the_right_form() {
    let cases = [
        ("", "for example 239.1.1.1:5000"),
        ("239.1.1", "for example 239.1.1.1:5000"),
        ("10.0.0.1:5000", "write udp:10.0.0.1:5000"),
        ("10.0.0.1", "write udp:10.0.0.1:5000"),
        ("udp:10.0.0.1", "10.0.0.1 has no port; write udp:10.0.0.1:5000"),
        ("tcp:239.1.1.1:80", "TCP goes to one host"),
        ("tcp:239.1.1.1", "no port"),
        ("239.1.1.1:0", "1 to 65535"),
        ("239.1.1.1:65536", "1 to 65535"),
        ("239.1.1.1:+5", "1 to 65535"),
        ("239.1.1.1:5000+0", "1 to 4096"),
        ("239.1.1.1:5000+4097", "1 to 4096"),
        ("239.255.255.255:5000+2", "past the last multicast address"),
        ("239.1.1.1:5000+2", "several groups"),
        ("udp:10.0.0.1:5000+2", "multicast group only"),
        ("239.1.1.2,239.1.1.1:5000", "cannot be a source"),
        ("0.0.0.0,239.1.1.1:5000", "cannot be a source"),
        ("fe80::1,239.1.1.1:5000", "not of one family"),
        ("udp:10.0.0.1:5,[fe80::1]:5", "not of one family"),
        ("udp:10.0.0.1:5,10.0.0.2", "both ends need a port"),
        ("10.0.0.2:4,239.1.1.1:5", "no port on the source"),
        ("10.0.0.2,10.0.0.3:5", "10.0.0.3 is no multicast group"),
        ("udp:0.0.0.0:5", "no destination"),
        ("vlan:4095", "0 to 4094"),
        ("vlan:x", "0 to 4094"),
        ("vlan:+7", "0 to 4094"),
        ("udp:10.0.0.1,10.0.0.2:5", "both ends need a port"),
        ("[ff02::1]x", "expected"),
        ("vlan:1,vlan:2", "one VLAN"),
        ("mac:01:00:5e:01:01", "six bytes"),
        ("mac:01:00:5e:01:01:0g", "six bytes"),
        ("mac:-1:00:5e:01:01:00", "six bytes"),
        ("ether:0800", "ether:0x88cc"),
        ("ether:0x8100", "write vlan:ID"),
        ("ether:0x0100", "is a length"),
        ("ether:0x12345", "hexadecimal"),
        ("239.1.1.1:5000\n239.1.1.2:5000", "1 to 65535"),
        ("[239.1.1.1]:5000", "expected"),
    ];
    for (text, part) in cases {
        let message = match text.parse::<FlowSpec>() {
            Err(e) => e.to_string(),
            Ok(flow) => panic!("{text:?} read as {flow:?}"),
        };
        assert!(message.contains(part), "{text:?}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    assert!(error(&"x".repeat(10_000)).len() < 400);
}

#[test]
fn a_list_names_consecutive_groups() {
    let flows = FlowSpec::parse_list("vlan:7,239.1.1.250:5000+10").unwrap();
    assert_eq!(flows.len(), 10);
    assert_eq!(flows[0], parse("vlan:7,239.1.1.250:5000"));
    assert_eq!(flows[9], parse("vlan:7,239.1.2.3:5000"));
    let flows = FlowSpec::parse_list("ff02::ffff+2").unwrap();
    assert_eq!(flows[1], parse("ff02::1:0"));
    assert_eq!(FlowSpec::parse_list("all").unwrap(), [FlowSpec::ALL]);
    assert_eq!(FlowSpec::parse_list("239.255.240.0:1+4096").unwrap().len(), 4096);
}

fn any_ip(multicast: bool) -> impl Strategy<Value = IpAddr> {
    any::<(bool, u128)>().prop_map(move |(v4, bits)| match (v4, multicast) {
        (true, true) => IpAddr::V4((bits as u32 & 0x0fff_ffff | 0xe000_0000).into()),
        (true, false) => IpAddr::V4((bits as u32 & 0x7fff_ffff | 1).into()),
        (false, true) => IpAddr::V6((bits | 0xff << 120).into()),
        (false, false) => IpAddr::V6((bits & !(0xff << 120) | 1).into()),
    })
}

fn any_flow() -> impl Strategy<Value = FlowSpec> {
    let vlan = proptest::option::of(0..=4094_u16);
    let proto = prop_oneof![Just(Proto::Udp), Just(Proto::Tcp)];
    let ends = (any_ip(false), any_ip(false), 1..=u16::MAX, 1..=u16::MAX, proto);
    let kind = prop_oneof![
        Just(FlowKind::All),
        (any_ip(true), proptest::option::of(any_ip(false)), any::<u16>()).prop_map(
            |(group, source, port)| FlowKind::Group {
                group,
                source: source.filter(|s| s.is_ipv4() == group.is_ipv4()),
                port: Some(port).filter(|p| *p != 0),
            }
        ),
        (ends, any::<bool>()).prop_map(|((d, s, dp, sp, proto), one)| {
            let dst = SocketAddr::new(d, dp);
            if one || d.is_ipv4() != s.is_ipv4() {
                FlowKind::To { proto, dst }
            } else {
                FlowKind::Between { proto, dst, src: SocketAddr::new(s, sp) }
            }
        }),
        any::<[u8; 6]>().prop_map(FlowKind::Mac),
        (0x9101..=u16::MAX).prop_map(FlowKind::EtherType),
    ];
    (kind, vlan).prop_map(|(kind, vlan)| FlowSpec { kind, vlan })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(flow in any_flow()) {
        prop_assert_eq!(flow.check(), Ok(()));
        prop_assert_eq!(flow.to_string().parse(), Ok(flow));
    }

    #[test]
    fn no_text_panics(text in ".{0,60}") {
        let _ = FlowSpec::parse_list(&text);
    }

    #[test]
    fn no_near_miss_panics_and_what_reads_is_possible(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("vlan:"), Just("udp:"), Just("tcp:"), Just("mac:"), Just("ether:0x"),
                Just("all"), Just(","), Just(":"), Just("+"), Just("["), Just("]"), Just("::"),
                Just("239.1.1.1"), Just("10.0.0.1"), Just("ff02::1"), Just("fe80::1"),
                Just("255.255.255.255"), Just("0"), Just("5000"), Just("99999999999"),
                Just("é"), Just("%eth0"), Just("-1"), Just(" "), Just("8100"),
            ],
            0..8,
        )
    ) {
        let text: String = parts.concat();
        for flow in FlowSpec::parse_list(&text).unwrap_or_default() {
            prop_assert_eq!(flow.check(), Ok(()));
            prop_assert_eq!(flow.to_string().parse(), Ok(flow));
        }
    }
}

#[test]
fn a_flow_tells_its_group_and_its_only_sender() {
    let group = "239.1.1.1".parse().unwrap();
    assert_eq!(parse("239.1.1.1:5").multicast(), Some((group, None)));
    let sender = Some("10.0.0.7".parse().unwrap());
    assert_eq!(parse("vlan:7,10.0.0.7,239.1.1.1").multicast(), Some((group, sender)));
    for text in ["all", "udp:10.0.0.1:5000", "mac:01:00:5e:01:01:ff"] {
        assert_eq!(parse(text).multicast(), None, "{text}");
    }
}

#[test]
fn the_borders_of_what_is_possible() {
    assert_eq!(parse("vlan:4094"), FlowSpec::ALL.on_vlan(4094));
    assert_eq!(parse("ether:0x0600").kind, FlowKind::EtherType(0x0600));
    assert!(error("ether:0x05ff").contains("is a length"));
    assert_eq!(parse("[ff02::1]"), parse("ff02::1"));
    let e = "239.1.1".parse::<FlowSpec>().unwrap_err();
    assert_eq!(e.text(), "239.1.1");
}

#[test]
fn a_flow_put_together_by_hand_with_port_0_is_impossible() {
    let (group, host) = ("239.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
    let (none, some) = (SocketAddr::new(host, 0), SocketAddr::new(host, 5));
    let proto = Proto::Udp;
    for kind in [
        FlowKind::Group { group, source: None, port: Some(0) },
        FlowKind::To { proto, dst: none },
        FlowKind::Between { proto, dst: some, src: none },
        FlowKind::Between { proto, dst: none, src: some },
    ] {
        let e = FlowSpec::of(kind).check().unwrap_err().to_string();
        assert!(e.contains("1 to 65535"), "{e}");
    }
    assert_eq!(FlowSpec::of(FlowKind::To { proto, dst: some }).check(), Ok(()));
}
