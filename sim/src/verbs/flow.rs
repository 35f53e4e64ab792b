//! Flow rules as a card's steering sees them.

use linerate_ibverbs_sys as sys;

/// One rule: where it points to and what it wants.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) qp: u32,
    pub(super) type_: u32,
    pub(super) priority: u16,
    pub(super) tag: u32,
    wants: Vec<Want>,
}

/// A value and a mask at a place that depends on the frame's headers.
#[derive(Debug, Clone)]
enum Want {
    Eth { val: [u8; 16], mask: [u8; 16] },
    Ipv4 { val: [u8; 8], mask: [u8; 8] },
    Ipv6 { val: [u8; 32], mask: [u8; 32] },
    Ports { proto: u8, val: [u8; 4], mask: [u8; 4] },
}

impl Rule {
    /// Reads the block that `ibv_create_flow` was given. `None`: malformed, or a spec this device
    /// does not know.
    pub(super) fn parse(block: &[u8], qp: u32) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(block.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_ne_bytes(block.get(at..at + 4)?.try_into().ok()?));
        let head = size_of::<sys::ibv_flow_attr>();
        let mut rule =
            Self { qp, type_: u32_at(4)?, priority: u16_at(10)?, tag: 0, wants: Vec::new() };
        let mut at = head;
        for _ in 0..*block.get(12)? {
            let (kind, size) = (u32_at(at)?, usize::from(u16_at(at + 4)?));
            let spec = block.get(at..at + size)?;
            let want = match (kind, size) {
                (sys::IBV_FLOW_SPEC_ETH, 40) => {
                    Want::Eth { val: take(spec, 6)?, mask: take(spec, 22)? }
                }
                (sys::IBV_FLOW_SPEC_IPV4, 24) => {
                    Want::Ipv4 { val: take(spec, 8)?, mask: take(spec, 16)? }
                }
                (sys::IBV_FLOW_SPEC_IPV6, 88) => {
                    Want::Ipv6 { val: take(spec, 8)?, mask: take(spec, 48)? }
                }
                (sys::IBV_FLOW_SPEC_UDP, 16) => {
                    Want::Ports { proto: 17, val: take(spec, 6)?, mask: take(spec, 10)? }
                }
                (sys::IBV_FLOW_SPEC_TCP, 16) => {
                    Want::Ports { proto: 6, val: take(spec, 6)?, mask: take(spec, 10)? }
                }
                (sys::IBV_FLOW_SPEC_ACTION_TAG, 12) => {
                    rule.tag = u32_at(at + 8)?;
                    at += size;
                    continue;
                }
                _ => return None,
            };
            rule.wants.push(want);
            at += size;
        }
        (at == block.len()).then_some(rule)
    }

    /// Is the frame one of this rule's?
    pub(super) fn matches(&self, frame: &[u8]) -> bool {
        match self.type_ {
            sys::IBV_FLOW_ATTR_ALL_DEFAULT | sys::IBV_FLOW_ATTR_SNIFFER => true,
            sys::IBV_FLOW_ATTR_MC_DEFAULT => frame.first().is_some_and(|b| b & 1 == 1),
            _ => self.wants.iter().all(|want| want.matches(frame)),
        }
    }
}

impl Want {
    fn matches(&self, frame: &[u8]) -> bool {
        let headers = Headers::of(frame);
        match self {
            Self::Eth { val, mask } => {
                let mut has = [0; 16];
                has[..12].copy_from_slice(&headers.macs);
                has[12..14].copy_from_slice(&headers.ethertype.to_be_bytes());
                has[14..16].copy_from_slice(&headers.vlan.to_be_bytes());
                let untagged = mask[14..16] != [0, 0] && !headers.tagged;
                !untagged && masked(&has, val, mask)
            }
            Self::Ipv4 { val, mask } => headers.ipv4.is_some_and(|has| masked(&has, val, mask)),
            Self::Ipv6 { val, mask } => headers.ipv6.is_some_and(|has| masked(&has, val, mask)),
            Self::Ports { proto, val, mask } => {
                // Without ports in the mask the protocol alone decides, in later fragments too.
                let ports =
                    *mask == [0; 4] || headers.ports.is_some_and(|has| masked(&has, val, mask));
                headers.proto == Some(*proto) && ports
            }
        }
    }
}

/// What a card's parser finds, fields in the order of the specs.
#[derive(Debug, Default)]
struct Headers {
    macs: [u8; 12],
    ethertype: u16,
    tagged: bool,
    vlan: u16,
    ipv4: Option<[u8; 8]>,
    ipv6: Option<[u8; 32]>,
    proto: Option<u8>,
    ports: Option<[u8; 4]>,
}

impl Headers {
    fn of(frame: &[u8]) -> Self {
        let mut headers = Self::default();
        let (Some(macs), Some(mut kind)) = (frame.get(..12), be16(frame, 12)) else {
            return headers;
        };
        headers.macs.copy_from_slice(macs);
        let mut at = 14;
        while matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
            let (Some(tag), Some(inner)) = (be16(frame, at), be16(frame, at + 2)) else {
                return headers;
            };
            if !headers.tagged {
                (headers.tagged, headers.vlan) = (true, tag & 0x0fff);
            }
            kind = inner;
            at += 4;
        }
        headers.ethertype = kind;
        match kind {
            0x0800 => headers.read_ipv4(frame, at),
            0x86dd => headers.read_ipv6(frame, at),
            _ => {}
        }
        headers
    }

    fn read_ipv4(&mut self, frame: &[u8], at: usize) {
        let Some(ip) = frame.get(at..at + 20) else { return };
        self.ipv4 = take(ip, 12);
        self.proto = Some(ip[9]);
        let first_fragment = be16(ip, 6).is_some_and(|f| f & 0x1fff == 0);
        if first_fragment {
            self.read_ports(frame, at + usize::from(ip[0] & 0x0f) * 4, ip[9]);
        }
    }

    fn read_ipv6(&mut self, frame: &[u8], at: usize) {
        let Some(ip) = frame.get(at..at + 40) else { return };
        self.ipv6 = take(ip, 8);
        self.proto = Some(ip[6]);
        self.read_ports(frame, at + 40, ip[6]);
    }

    fn read_ports(&mut self, frame: &[u8], at: usize, proto: u8) {
        if let (6 | 17, Some(ports)) = (proto, frame.get(at..at + 4)) {
            // The filter has the destination first.
            self.ports = Some([ports[2], ports[3], ports[0], ports[1]]);
        }
    }
}

fn masked(has: &[u8], val: &[u8], mask: &[u8]) -> bool {
    has.iter().zip(val).zip(mask).all(|((h, v), m)| h & m == v & m)
}

fn take<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at + N)?.try_into().ok()
}

fn be16(from: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(take(from, at)?))
}
