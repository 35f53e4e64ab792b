//! Flows: a [`FlowSpec`] as the block of memory that `ibv_create_flow` wants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr::NonNull;
use std::sync::Arc;

use linerate_common::{ErrorKind, FlowKind, FlowSpec, Proto, SetupError};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::error::last;
use crate::qp::Qp;

/// What kind of rule a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FlowMode {
    /// The frames go to this program only (the default: the kernel keeps the rest).
    #[default]
    Steal,
    /// The kernel gets them too (`IBV_FLOW_ATTR_FLAGS_DONT_TRAP`), where the card can.
    Share,
    /// A copy of everything on the port, sent and received (`IBV_FLOW_ATTR_SNIFFER`), for
    /// [`FlowSpec::ALL`] only.
    Sniff,
}

/// A flow steered to a queue pair. It keeps the pair alive: the kernel refuses to destroy one
/// that has flows.
#[derive(Debug)]
pub(crate) struct Flow {
    raw: NonNull<sys::ibv_flow>,
    _qp: Arc<Qp>,
}

// SAFETY: the raw pointer is only handed to libibverbs, which locks.
unsafe impl Send for Flow {}

impl Flow {
    /// Steers `spec` to `qp`; frames of it carry `tag` where the card has flow tags.
    pub(crate) fn create(
        qp: &Arc<Qp>,
        spec: &FlowSpec,
        mode: FlowMode,
        tag: Option<u32>,
    ) -> Result<Self, SetupError> {
        let mut rule = Rule::of(spec, mode, qp.port())?;
        if let Some(tag) = tag {
            let action = rule.push::<sys::ibv_flow_spec_action_tag>();
            action.type_ = sys::IBV_FLOW_SPEC_ACTION_TAG;
            action.size = size_of::<sys::ibv_flow_spec_action_tag>() as u16;
            action.tag_id = tag;
        }
        // SAFETY: a live pair; the block is as long as its head says.
        let raw = unsafe { inline::create_flow(qp.as_raw(), rule.finish()) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw, _qp: qp.clone() }),
            None => Err(last("ibv_create_flow").on(format!("flow {spec}"))),
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // SAFETY: a live flow, not used after.
        unsafe { inline::destroy_flow(self.raw.as_ptr()) };
    }
}

/// The block: 8-byte words, so that every spec is aligned, with all padding zero.
#[derive(Debug)]
struct Rule {
    words: Vec<u64>,
    len: usize,
    attr: sys::ibv_flow_attr,
}

const HEAD: usize = size_of::<sys::ibv_flow_attr>();

impl Rule {
    fn of(spec: &FlowSpec, mode: FlowMode, port: u8) -> Result<Self, SetupError> {
        let everything = matches!(spec.kind, FlowKind::All) && spec.vlan.is_none();
        let type_ = match (everything, mode) {
            (true, FlowMode::Sniff) => sys::IBV_FLOW_ATTR_SNIFFER,
            (true, FlowMode::Steal) => sys::IBV_FLOW_ATTR_ALL_DEFAULT,
            (false, FlowMode::Steal | FlowMode::Share) => sys::IBV_FLOW_ATTR_NORMAL,
            (true, FlowMode::Share) => {
                return Err(unsupported(spec, "all frames can be sniffed but not shared"));
            }
            (false, FlowMode::Sniff) => {
                return Err(unsupported(spec, "sniffing takes all frames of the port"));
            }
        };
        let attr = sys::ibv_flow_attr {
            type_,
            port,
            flags: if mode == FlowMode::Share { sys::IBV_FLOW_ATTR_FLAGS_DONT_TRAP } else { 0 },
            ..Default::default()
        };
        let mut rule = Self { words: Vec::new(), len: HEAD, attr };
        if everything {
            return Ok(rule);
        }
        match spec.kind {
            FlowKind::All => rule.eth(None, None, spec.vlan),
            FlowKind::Mac(mac) => rule.eth(Some(mac), None, spec.vlan),
            FlowKind::EtherType(number) => rule.eth(None, Some(number), spec.vlan),
            FlowKind::Group { group, source, port } => {
                // Cards disagree on whether the MAC or the IP selects a group: both are given.
                rule.eth(Some(group_mac(group)), None, spec.vlan);
                rule.ip(group, source, spec)?;
                if let Some(port) = port {
                    rule.transport(Proto::Udp, port, None);
                }
            }
            FlowKind::To { proto, dst } => rule.socket(proto, dst, None, spec)?,
            FlowKind::Between { proto, dst, src } => rule.socket(proto, dst, Some(src), spec)?,
            _ => {
                let known = "all, groups, 3- and 5-tuples, vlan, mac and ether flows";
                return Err(unsupported(spec, known));
            }
        }
        Ok(rule)
    }

    fn socket(
        &mut self,
        proto: Proto,
        dst: SocketAddr,
        src: Option<SocketAddr>,
        spec: &FlowSpec,
    ) -> Result<(), SetupError> {
        self.eth(None, None, spec.vlan);
        self.ip(dst.ip(), src.map(|s| s.ip()), spec)?;
        self.transport(proto, dst.port(), src.map(|s| s.port()));
        Ok(())
    }

    fn ip(&mut self, dst: IpAddr, src: Option<IpAddr>, spec: &FlowSpec) -> Result<(), SetupError> {
        match (dst, src) {
            (IpAddr::V4(dst), None) => self.ipv4(dst, None),
            (IpAddr::V4(dst), Some(IpAddr::V4(src))) => self.ipv4(dst, Some(src)),
            (IpAddr::V6(dst), None) => self.ipv6(dst, None),
            (IpAddr::V6(dst), Some(IpAddr::V6(src))) => self.ipv6(dst, Some(src)),
            _ => return Err(unsupported(spec, "source and destination of one IP version")),
        }
        Ok(())
    }

    fn eth(&mut self, dst: Option<[u8; 6]>, ether_type: Option<u16>, vlan: Option<u16>) {
        let spec = self.push::<sys::ibv_flow_spec_eth>();
        spec.type_ = sys::IBV_FLOW_SPEC_ETH;
        spec.size = size_of::<sys::ibv_flow_spec_eth>() as u16;
        if let Some(mac) = dst {
            spec.val.dst_mac = mac;
            spec.mask.dst_mac = [0xff; 6];
        }
        if let Some(number) = ether_type {
            spec.val.ether_type = number.to_be();
            spec.mask.ether_type = 0xffff;
        }
        if let Some(vid) = vlan {
            spec.val.vlan_tag = vid.to_be();
            spec.mask.vlan_tag = 0x0fff_u16.to_be();
        }
    }

    fn ipv4(&mut self, dst: Ipv4Addr, src: Option<Ipv4Addr>) {
        let spec = self.push::<sys::ibv_flow_spec_ipv4>();
        spec.type_ = sys::IBV_FLOW_SPEC_IPV4;
        spec.size = size_of::<sys::ibv_flow_spec_ipv4>() as u16;
        spec.val.dst_ip = u32::from_ne_bytes(dst.octets());
        spec.mask.dst_ip = u32::MAX;
        if let Some(src) = src {
            spec.val.src_ip = u32::from_ne_bytes(src.octets());
            spec.mask.src_ip = u32::MAX;
        }
    }

    fn ipv6(&mut self, dst: Ipv6Addr, src: Option<Ipv6Addr>) {
        let spec = self.push::<sys::ibv_flow_spec_ipv6>();
        spec.type_ = sys::IBV_FLOW_SPEC_IPV6;
        spec.size = size_of::<sys::ibv_flow_spec_ipv6>() as u16;
        spec.val.dst_ip = dst.octets();
        spec.mask.dst_ip = [0xff; 16];
        if let Some(src) = src {
            spec.val.src_ip = src.octets();
            spec.mask.src_ip = [0xff; 16];
        }
    }

    fn transport(&mut self, proto: Proto, dst: u16, src: Option<u16>) {
        let spec = self.push::<sys::ibv_flow_spec_tcp_udp>();
        spec.type_ = match proto {
            Proto::Udp => sys::IBV_FLOW_SPEC_UDP,
            Proto::Tcp => sys::IBV_FLOW_SPEC_TCP,
        };
        spec.size = size_of::<sys::ibv_flow_spec_tcp_udp>() as u16;
        spec.val.dst_port = dst.to_be();
        spec.mask.dst_port = 0xffff;
        if let Some(src) = src {
            spec.val.src_port = src.to_be();
            spec.mask.src_port = 0xffff;
        }
    }

    /// Appends a zeroed spec to fill in place: the kernel compares padding too, and only bytes
    /// that were never written through a struct are sure to be zero.
    fn push<T: Spec>(&mut self) -> &mut T {
        const {
            assert!(
                align_of::<T>() <= 4 && size_of::<T>().is_multiple_of(4) && HEAD.is_multiple_of(4)
            )
        };
        let start = self.len;
        self.len += size_of::<T>();
        self.words.resize(self.len.div_ceil(8), 0);
        self.attr.num_of_specs += 1;
        // SAFETY: the words hold `len` zeroed bytes from `start` on, aligned to 4; a `Spec` is
        // plain integers, for which zero is a value; the borrow of `self` keeps them in place.
        unsafe { &mut *self.words.as_mut_ptr().cast::<u8>().add(start).cast::<T>() }
    }

    /// Writes the head in front and gives the block.
    fn finish(&mut self) -> *mut sys::ibv_flow_attr {
        self.attr.size = self.len as u16;
        self.words.resize(self.len.div_ceil(8), 0);
        let head = self.words.as_mut_ptr().cast::<sys::ibv_flow_attr>();
        // SAFETY: the words begin with room for the head, aligned for it.
        unsafe { head.write(self.attr) };
        head
    }
}

/// The C spec structs: integers and arrays of them only.
trait Spec {}
impl Spec for sys::ibv_flow_spec_eth {}
impl Spec for sys::ibv_flow_spec_ipv4 {}
impl Spec for sys::ibv_flow_spec_ipv6 {}
impl Spec for sys::ibv_flow_spec_tcp_udp {}
impl Spec for sys::ibv_flow_spec_action_tag {}

fn group_mac(group: IpAddr) -> [u8; 6] {
    match group {
        IpAddr::V4(ip) => {
            let [_, b, c, d] = ip.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(ip) => {
            let o = ip.octets();
            [0x33, 0x33, o[12], o[13], o[14], o[15]]
        }
    }
}

fn unsupported(spec: &FlowSpec, supported: &'static str) -> SetupError {
    SetupError::new(
        ErrorKind::Unsupported,
        "ibv_create_flow",
        format!("cannot steer {spec}: {supported}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(spec: &str, mode: FlowMode) -> Vec<u8> {
        let mut rule = Rule::of(&spec.parse().unwrap(), mode, 1).unwrap();
        rule.finish();
        let all: Vec<u8> = rule.words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        all[..rule.len].to_vec()
    }

    #[test]
    fn a_group_gives_mac_and_ip_and_port() {
        let block = bytes("10.0.0.7,239.129.1.2:5000", FlowMode::Steal);
        assert_eq!(block.len(), 20 + 40 + 24 + 16);
        assert_eq!(block[8..10], (block.len() as u16).to_ne_bytes(), "size of all");
        assert_eq!((block[12], block[13]), (3, 1), "three specs on port 1");
        assert_eq!(block[20..24], 0x20_u32.to_ne_bytes());
        assert_eq!(block[26..32], [0x01, 0x00, 0x5e, 0x01, 0x01, 0x02], "23 bits of the group");
        assert_eq!(block[60..64], 0x30_u32.to_ne_bytes());
        assert_eq!(block[68..76], [10, 0, 0, 7, 239, 129, 1, 2]);
        assert_eq!(block[76..84], [0xff; 8]);
        assert_eq!(block[84..88], 0x41_u32.to_ne_bytes());
        assert_eq!(block[90..94], [0x13, 0x88, 0, 0], "destination port 5000, any source port");
        assert_eq!(block[94..98], [0xff, 0xff, 0, 0]);
    }

    #[test]
    fn a_vlan_is_matched_on_its_twelve_bits() {
        let block = bytes("vlan:905", FlowMode::Steal);
        assert_eq!(block.len(), 20 + 40);
        assert_eq!(block[40..42], [0x03, 0x89]);
        assert_eq!(block[56..58], [0x0f, 0xff]);
    }

    #[test]
    fn modes_choose_the_kind_of_rule() {
        assert_eq!(bytes("all", FlowMode::Steal)[4..8], 1_u32.to_ne_bytes());
        assert_eq!(bytes("all", FlowMode::Sniff)[4..8], 3_u32.to_ne_bytes());
        assert_eq!(bytes("mac:01:02:03:04:05:06", FlowMode::Share)[16..20], 2_u32.to_ne_bytes());
        let sniffed_group = Rule::of(&"239.1.1.1:1".parse().unwrap(), FlowMode::Sniff, 1);
        assert_eq!(sniffed_group.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
