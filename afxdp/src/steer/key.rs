//! Turns a flow into the key that the program looks up.

use std::net::IpAddr;

use linerate_common::{ErrorKind, FlowKind, FlowSpec, SetupError};

use super::layout::{HAS_ETHERTYPE, HAS_IP, HAS_PORTS, HAS_VLAN, KEY_BYTES, Key};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A flow as the program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compiled {
    /// Number of the shape, below [`MAX_SHAPES`](super::layout::MAX_SHAPES).
    pub(super) shape: u8,
    /// The fields' values, without port and shape.
    pub(super) key: Key,
    /// Which fields count.
    pub(super) mask: [u8; KEY_BYTES],
    /// Which fields a frame must have.
    pub(super) needs: u64,
}

/// # Errors
///
/// The flow's addresses are not of one family, or its kind is newer than this backend.
pub(super) fn compile(flow: &FlowSpec) -> Result<Compiled, SetupError> {
    let mut key = Key::default();
    let mut mask = Key::default();
    let mut needs = 0;
    let udp = linerate_common::Proto::Udp;
    let selection = match flow.kind {
        FlowKind::All => 0,
        FlowKind::Mac(mac) => {
            (key.mac, mask.mac) = (mac, [0xff; 6]);
            1
        }
        FlowKind::EtherType(ethertype) => {
            (key.ethertype, mask.ethertype) = (ethertype, 0xffff);
            needs |= HAS_ETHERTYPE;
            2
        }
        FlowKind::Group { group, source, port } => {
            let ip = Ip { proto: udp.number(), dst: group, src: source, dport: port, sport: None };
            ip.fill(&mut key, &mut mask, &mut needs)?;
            3 + u8::from(source.is_some()) + 2 * u8::from(port.is_some())
        }
        FlowKind::To { proto, dst } => {
            let (dst, dport) = (dst.ip(), Some(dst.port()));
            let ip = Ip { proto: proto.number(), dst, src: None, dport, sport: None };
            ip.fill(&mut key, &mut mask, &mut needs)?;
            5
        }
        FlowKind::Between { proto, dst, src } => {
            let (sport, src) = (Some(src.port()), Some(src.ip()));
            let (dport, dst) = (Some(dst.port()), dst.ip());
            Ip { proto: proto.number(), dst, src, dport, sport }
                .fill(&mut key, &mut mask, &mut needs)?;
            7
        }
        _ => {
            return Err(SetupError::new(ErrorKind::Unsupported, "add", "this kind of flow")
                .remedy(
                    "afxdp can select: all, groups (any source or one), 3- and 5-tuples, MAC \
                 addresses, ethertypes, each on any VLAN or on one",
                ));
        }
    };
    if let Some(vlan) = flow.vlan {
        (key.vlan, mask.vlan) = (vlan, 0xffff);
        needs |= HAS_VLAN;
    }
    let shape = selection * 2 + u8::from(flow.vlan.is_some());
    Ok(Compiled { shape, key, mask: mask.bytes(), needs })
}

/// The IP and transport fields of a flow.
struct Ip {
    proto: u8,
    dst: IpAddr,
    src: Option<IpAddr>,
    dport: Option<u16>,
    sport: Option<u16>,
}

impl Ip {
    fn fill(&self, key: &mut Key, mask: &mut Key, needs: &mut u64) -> Result<(), SetupError> {
        if self.src.is_some_and(|src| src.is_ipv4() != self.dst.is_ipv4()) {
            return Err(SetupError::new(
                ErrorKind::BadArgument,
                "add",
                "source and destination are of different IP versions",
            ));
        }
        *needs |= HAS_ETHERTYPE | HAS_IP;
        key.ethertype = if self.dst.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        mask.ethertype = 0xffff;
        (key.proto, mask.proto) = (self.proto, 0xff);
        (key.dst, mask.dst) = (octets(self.dst), [0xff; 16]);
        if let Some(src) = self.src {
            (key.src, mask.src) = (octets(src), [0xff; 16]);
        }
        if let Some(port) = self.dport {
            (key.dport, mask.dport) = (port, 0xffff);
            *needs |= HAS_PORTS;
        }
        if let Some(port) = self.sport {
            (key.sport, mask.sport) = (port, 0xffff);
            *needs |= HAS_PORTS;
        }
        Ok(())
    }
}

/// As in a frame, an IPv4 address in the first four bytes.
fn octets(ip: IpAddr) -> [u8; 16] {
    let mut out = [0; 16];
    match ip {
        IpAddr::V4(ip) => out[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out = ip.octets(),
    }
    out
}
