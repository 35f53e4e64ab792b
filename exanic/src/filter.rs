//! Flows as rules of the card.

use std::net::{IpAddr, Ipv4Addr};

use linerate_common::{FlowKind, FlowSpec, Proto, RuleId, SetupError};
use linerate_exanic_sys::ids::vlan_match;
use linerate_exanic_sys::rx::{Info, REGION_IP, REGION_MAC};
use linerate_exanic_sys::{exanic_ip_filter_t, exanic_mac_filter_t};

use crate::error;
use crate::library;
use crate::reader::{Reader, port_number};

/// What this card can select, for errors.
const CAN: &str = "an ExaNIC steers IPv4 UDP and TCP by addresses and ports (any VLAN), or by MAC \
    address, ethertype and VLAN, one of the two; everything else is in the default ring";

/// A flow in the card's terms.
pub(crate) enum Rule {
    Ip(exanic_ip_filter_t),
    Mac(exanic_mac_filter_t),
}

/// Translates, or says what the card cannot do.
pub(crate) fn rule(flow: &FlowSpec) -> Result<Rule, SetupError> {
    let refuse =
        |what: &str| Err(error::unsupported("exanic_filter_add", format!("{what}; {CAN}")));
    let any_mac = |dst_mac, ethertype: u16| {
        let (vlan, vlan_match_method) = match flow.vlan {
            Some(vlan) => (vlan, vlan_match::SPECIFIC),
            None => (0, vlan_match::ALL),
        };
        let ethertype = ethertype.to_be();
        Ok(Rule::Mac(exanic_mac_filter_t { dst_mac, ethertype, vlan, vlan_match_method }))
    };
    // Port or address 0 would mean any.
    let zero_port = |port: Option<u16>| port == Some(0);
    let ip = |proto: Proto, src: (Option<IpAddr>, Option<u16>), dst: (IpAddr, Option<u16>)| {
        if flow.vlan.is_some() {
            return refuse("addresses together with a VLAN");
        }
        if zero_port(src.1) || zero_port(dst.1) {
            return refuse("port 0");
        }
        let (Some(src_addr), Some(dst_addr)) = (src.0.map_or(Some(0), v4), v4(dst.0)) else {
            return refuse("IPv6, or the address 0.0.0.0");
        };
        Ok(Rule::Ip(exanic_ip_filter_t {
            src_addr,
            dst_addr,
            src_port: src.1.unwrap_or(0).to_be(),
            dst_port: dst.1.unwrap_or(0).to_be(),
            protocol: proto.number(),
        }))
    };
    match flow.kind {
        FlowKind::All if flow.vlan.is_some() => any_mac([0; 6], 0),
        FlowKind::All => refuse("a rule for every frame"),
        FlowKind::Mac([0, 0, 0, 0, 0, 0]) => refuse("the MAC address 0"),
        FlowKind::Mac(mac) => any_mac(mac, 0),
        FlowKind::EtherType(0) => refuse("ethertype 0"),
        FlowKind::EtherType(ethertype) => any_mac([0; 6], ethertype),
        FlowKind::Group { group, source, port } => ip(Proto::Udp, (source, None), (group, port)),
        FlowKind::To { proto, dst } => ip(proto, (None, None), (dst.ip(), Some(dst.port()))),
        FlowKind::Between { proto, dst, src } => {
            ip(proto, (Some(src.ip()), Some(src.port())), (dst.ip(), Some(dst.port())))
        }
        _ => refuse("this kind of flow"),
    }
}

/// An IPv4 address as it lies in memory, which is network byte order.
fn v4(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(_) => None,
        IpAddr::V4(v4) => Some(u32::from_ne_bytes(v4.octets())),
    }
}

/// The rule's id on the card as linerate's: never 0, which is "no rule" in `RxMeta::mark`.
fn rule_id(region: u8, id: u8) -> RuleId {
    RuleId(1 + (u32::from(region) << 8 | u32::from(id)))
}

/// The mark of a frame in a filter buffer.
#[inline]
pub(crate) fn mark(info: Info) -> u32 {
    rule_id(info.region(), info.matched()).0
}

/// Puts a rule in place for a reader's buffer.
pub(crate) fn add(reader: &Reader, flow: &FlowSpec) -> Result<RuleId, SetupError> {
    const CALL: &str = "exanic_filter_add";
    if reader.is_hashed() {
        return Err(error::unsupported(CALL, "steering and flow hashing exclude each other"));
    }
    if reader.buffer() == 0 {
        return Err(error::unsupported(CALL, "frames cannot be steered to the default ring")
            .remedy("open the port with flows, or with RxBuffer::Unused, to get a filter buffer"));
    }
    let rule = rule(flow)?;
    let (api, handle) = (reader.device().api(), reader.device().raw());
    let locked = library::lock();
    let (call, region, id) = match &rule {
        Rule::Ip(ip) => {
            // SAFETY: live handles and a rule that outlives the call.
            let id = unsafe { (api.filter_add_ip)(handle, reader.raw(), ip) };
            ("exanic_filter_add_ip", REGION_IP, id)
        }
        Rule::Mac(mac) => {
            // SAFETY: as above.
            let id = unsafe { (api.filter_add_mac)(handle, reader.raw(), mac) };
            ("exanic_filter_add_mac", REGION_MAC, id)
        }
    };
    match u8::try_from(id) {
        Ok(id) => Ok(rule_id(region, id)),
        Err(_) => Err(locked.failed(api, call)),
    }
}

/// Takes a rule away.
pub(crate) fn remove(reader: &Reader, rule: RuleId) -> Result<(), SetupError> {
    let (api, handle) = (reader.device().api(), reader.device().raw());
    let Some(number) = rule.0.checked_sub(1).filter(|n| *n < 0x200) else {
        return Err(error::argument("exanic_filter_remove", "no such rule"));
    };
    let (id, port) = ((number & 0xff) as i32, port_number(reader.port()));
    let locked = library::lock();
    // SAFETY: a live handle and numbers that the driver checks.
    let (call, rc) = unsafe {
        if number >> 8 == u32::from(REGION_IP) {
            ("exanic_filter_remove_ip", (api.filter_remove_ip)(handle, port, id))
        } else {
            ("exanic_filter_remove_mac", (api.filter_remove_mac)(handle, port, id))
        }
    };
    if rc == 0 { Ok(()) } else { Err(locked.failed(api, call)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(text: &str) -> FlowSpec {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_ports_are_in_network_order() {
        let Ok(Rule::Ip(r)) = rule(&flow("10.0.0.7,239.1.1.1:5000")) else { panic!("an IP rule") };
        assert_eq!(r.dst_addr.to_ne_bytes(), [239, 1, 1, 1]);
        assert_eq!(r.src_addr.to_ne_bytes(), [10, 0, 0, 7]);
        assert_eq!(r.dst_port.to_ne_bytes(), 5000_u16.to_be_bytes());
        assert_eq!((r.src_port, r.protocol), (0, 17));
        let Ok(Rule::Ip(r)) = rule(&flow("tcp:10.0.0.1:80,10.0.0.2:4001")) else { panic!("IP") };
        assert_eq!(r.src_port.to_ne_bytes(), 4001_u16.to_be_bytes());
        assert_eq!(r.protocol, 6);
    }

    #[test]
    fn vlans_are_in_host_order() {
        let Ok(Rule::Mac(r)) = rule(&flow("vlan:905")) else { panic!("a MAC rule") };
        assert_eq!((r.vlan, r.vlan_match_method), (905, vlan_match::SPECIFIC));
        let Ok(Rule::Mac(r)) = rule(&flow("ether:0x88cc")) else { panic!("a MAC rule") };
        assert_eq!(r.ethertype.to_ne_bytes(), [0x88, 0xcc]);
        assert_eq!(r.vlan_match_method, vlan_match::ALL);
    }

    #[test]
    fn what_the_card_cannot_do_is_refused_and_said() {
        for text in ["all", "[ff02::1]:5000", "vlan:905,239.1.1.1:5000", "udp:[fe80::1]:80"] {
            let Ok(flow) = text.parse() else { continue };
            let Err(e) = rule(&flow) else { panic!("{text} must be refused") };
            assert!(e.to_string().contains("steers IPv4"), "{e}");
        }
        assert_ne!(rule_id(REGION_MAC, 0), rule_id(REGION_IP, 0));
        assert_ne!(rule_id(REGION_MAC, 0).0, 0);
    }
}
