//! Flows: a [`FlowSpec`] as the block of memory that `ibv_create_flow` wants.

use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr::NonNull;

use linerate_common::packet::multicast_mac;
use linerate_common::{ErrorKind, FlowKind, FlowSpec, Proto, SetupError};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::error::{check, last};
use crate::steering::Target;

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

/// What is steered, and how.
///
/// ```
/// use linerate_verbs::{FlowMode, FlowRule};
///
/// // A copy of one group, ahead of the rules of other programs; the kernel gets it too.
/// let rule = FlowRule::of("239.1.1.1:5000".parse()?).mode(FlowMode::Share).priority(0);
/// # let _ = rule;
/// # Ok::<(), linerate_common::ParseFlowError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRule {
    what: What,
    mode: FlowMode,
    priority: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Spec(FlowSpec),
    AllMulticast,
}

impl FlowRule {
    /// A flow, stolen from the kernel at the highest priority.
    #[must_use]
    pub const fn of(spec: FlowSpec) -> Self {
        Self { what: What::Spec(spec), mode: FlowMode::Steal, priority: 0 }
    }

    /// Every multicast frame that no other rule takes (`IBV_FLOW_ATTR_MC_DEFAULT`).
    #[must_use]
    pub const fn all_multicast() -> Self {
        Self { what: What::AllMulticast, mode: FlowMode::Steal, priority: 0 }
    }

    /// Whether the kernel still gets the frames.
    #[must_use]
    pub const fn mode(self, mode: FlowMode) -> Self {
        Self { mode, ..self }
    }

    /// Of several rules that match a frame, the one with the lowest number takes it. All are
    /// ahead of the kernel's own.
    #[must_use]
    pub const fn priority(self, priority: u16) -> Self {
        Self { priority, ..self }
    }
}

impl std::fmt::Display for FlowRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.what {
            What::Spec(spec) => spec.fmt(f),
            What::AllMulticast => f.write_str("all multicast"),
        }
    }
}

/// A flow steered to a queue pair. It keeps the pair alive: the kernel refuses to destroy one
/// that has flows.
#[derive(Debug)]
pub(crate) struct Flow {
    raw: NonNull<sys::ibv_flow>,
    _target: Target,
}

// SAFETY: the raw pointer is only handed to libibverbs, which locks.
unsafe impl Send for Flow {}

impl Flow {
    /// Steers `rule` to `target`; frames of it carry `tag` where the card has flow tags.
    pub(crate) fn create(
        target: &Target,
        rule: &FlowRule,
        tag: Option<u32>,
    ) -> Result<Self, SetupError> {
        let mut block = Rule::of(rule, target.port())?;
        // Rules for everything take no specs, hence no tag.
        if let (Some(tag), sys::IBV_FLOW_ATTR_NORMAL) = (tag, block.attr.type_) {
            let action = block.push::<sys::ibv_flow_spec_action_tag>();
            action.type_ = sys::IBV_FLOW_SPEC_ACTION_TAG;
            action.size = size_of::<sys::ibv_flow_spec_action_tag>() as u16;
            action.tag_id = tag;
        }
        // SAFETY: a live pair; the block is as long as its head says.
        let raw = unsafe { inline::create_flow(target.as_raw(), block.finish()) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw, _target: target.clone() }),
            None => {
                let on = format!("verbs:{}/{} flow {rule}", target.device(), target.port());
                Err(last("ibv_create_flow").on(on))
            }
        }
    }

    /// Ends the flow, and says when the card refuses.
    pub(crate) fn destroy(self) -> Result<(), SetupError> {
        let flow = ManuallyDrop::new(self);
        // SAFETY: a live flow, not used after.
        let rc = unsafe { inline::destroy_flow(flow.raw.as_ptr()) };
        // The pair lives on in the other flows and the queue; when the card refused, this count
        // of it is kept for ever, since the flow still points there.
        check("ibv_destroy_flow", rc)?;
        // SAFETY: taken out once, of a value that is not dropped.
        drop(unsafe { std::ptr::read(&flow._target) });
        Ok(())
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
    fn of(rule: &FlowRule, port: u8) -> Result<Self, SetupError> {
        let FlowRule { what, mode, priority } = *rule;
        let spec = match what {
            What::Spec(spec) => spec,
            What::AllMulticast if mode == FlowMode::Steal => {
                let type_ = sys::IBV_FLOW_ATTR_MC_DEFAULT;
                return Ok(Self::empty(sys::ibv_flow_attr {
                    type_,
                    port,
                    priority,
                    ..Default::default()
                }));
            }
            What::AllMulticast => {
                return Err(unsupported(rule, "all multicast can only be stolen"));
            }
        };
        let spec = &spec;
        let everything = matches!(spec.kind, FlowKind::All) && spec.vlan.is_none();
        let type_ = match (everything, mode) {
            (true, FlowMode::Sniff) => sys::IBV_FLOW_ATTR_SNIFFER,
            (true, FlowMode::Steal) => sys::IBV_FLOW_ATTR_ALL_DEFAULT,
            (false, FlowMode::Steal | FlowMode::Share) => sys::IBV_FLOW_ATTR_NORMAL,
            (true, FlowMode::Share) => {
                return Err(unsupported(rule, "all frames can be sniffed but not shared"));
            }
            (false, FlowMode::Sniff) => {
                return Err(unsupported(rule, "sniffing takes all frames of the port"));
            }
        };
        let attr = sys::ibv_flow_attr {
            type_,
            port,
            priority,
            flags: if mode == FlowMode::Share { sys::IBV_FLOW_ATTR_FLAGS_DONT_TRAP } else { 0 },
            ..Default::default()
        };
        let mut block = Self::empty(attr);
        if everything {
            return Ok(block);
        }
        match spec.kind {
            FlowKind::All => block.eth(None, None, spec.vlan),
            FlowKind::Mac(mac) => block.eth(Some(mac), None, spec.vlan),
            FlowKind::EtherType(number) => block.eth(None, Some(number), spec.vlan),
            FlowKind::Group { group, source, port } => {
                // Cards disagree on whether the MAC or the IP selects a group: both are given.
                block.eth(multicast_mac(group), None, spec.vlan);
                block.ip(group, source, spec)?;
                // A group is UDP only: without a port the spec matches the protocol alone.
                block.transport(Proto::Udp, port, None);
            }
            FlowKind::To { proto, dst } => block.socket(proto, dst, None, spec)?,
            FlowKind::Between { proto, dst, src } => block.socket(proto, dst, Some(src), spec)?,
            _ => {
                let known = "all, groups, 3- and 5-tuples, vlan, mac and ether flows";
                return Err(unsupported(rule, known));
            }
        }
        Ok(block)
    }

    fn empty(attr: sys::ibv_flow_attr) -> Self {
        Self { words: Vec::new(), len: HEAD, attr }
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
        self.transport(proto, Some(dst.port()), src.map(|s| s.port()));
        Ok(())
    }

    fn ip(&mut self, dst: IpAddr, src: Option<IpAddr>, spec: &FlowSpec) -> Result<(), SetupError> {
        match (dst, src) {
            (IpAddr::V4(dst), None) => self.ipv4(dst, None),
            (IpAddr::V4(dst), Some(IpAddr::V4(src))) => self.ipv4(dst, Some(src)),
            (IpAddr::V6(dst), None) => self.ipv6(dst, None),
            (IpAddr::V6(dst), Some(IpAddr::V6(src))) => self.ipv6(dst, Some(src)),
            _ => {
                let rule = FlowRule::of(*spec);
                return Err(unsupported(&rule, "source and destination of one IP version"));
            }
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

    fn transport(&mut self, proto: Proto, dst: Option<u16>, src: Option<u16>) {
        let spec = self.push::<sys::ibv_flow_spec_tcp_udp>();
        spec.type_ = match proto {
            Proto::Udp => sys::IBV_FLOW_SPEC_UDP,
            Proto::Tcp => sys::IBV_FLOW_SPEC_TCP,
        };
        spec.size = size_of::<sys::ibv_flow_spec_tcp_udp>() as u16;
        if let Some(dst) = dst {
            spec.val.dst_port = dst.to_be();
            spec.mask.dst_port = 0xffff;
        }
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

fn unsupported(rule: &FlowRule, supported: &'static str) -> SetupError {
    SetupError::new(
        ErrorKind::Unsupported,
        "ibv_create_flow",
        format!("cannot steer {rule}: {supported}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(spec: &str, mode: FlowMode) -> Vec<u8> {
        let mut rule = Rule::of(&FlowRule::of(spec.parse().unwrap()).mode(mode), 1).unwrap();
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
        let all_multicast = Rule::of(&FlowRule::all_multicast().priority(7), 1).unwrap();
        assert_eq!((all_multicast.attr.type_, all_multicast.attr.priority), (2, 7));
        let group = FlowRule::of("239.1.1.1:1".parse().unwrap());
        let sniffed_group = Rule::of(&group.mode(FlowMode::Sniff), 1);
        assert_eq!(sniffed_group.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
