//! Flow steering: a flow is one block of memory, the attributes followed by the specs.

use std::ffi::c_uint;

use crate::device::ibv_context;

#[repr(C)]
pub struct ibv_flow {
    pub comp_mask: u32,
    pub context: *mut ibv_context,
    pub handle: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ibv_flow_attr {
    pub comp_mask: u32,
    pub type_: c_uint,
    /// Of the attributes and all specs together.
    pub size: u16,
    /// The lower number wins.
    pub priority: u16,
    pub num_of_specs: u8,
    /// From 1.
    pub port: u8,
    pub flags: u32,
}

pub const IBV_FLOW_ATTR_NORMAL: c_uint = 0;
pub const IBV_FLOW_ATTR_ALL_DEFAULT: c_uint = 1;
pub const IBV_FLOW_ATTR_MC_DEFAULT: c_uint = 2;
pub const IBV_FLOW_ATTR_SNIFFER: c_uint = 3;
pub const IBV_FLOW_ATTR_FLAGS_DONT_TRAP: u32 = 1 << 1;

pub const IBV_FLOW_SPEC_ETH: c_uint = 0x20;
pub const IBV_FLOW_SPEC_IPV4: c_uint = 0x30;
pub const IBV_FLOW_SPEC_IPV6: c_uint = 0x31;
pub const IBV_FLOW_SPEC_IPV4_EXT: c_uint = 0x32;
pub const IBV_FLOW_SPEC_TCP: c_uint = 0x40;
pub const IBV_FLOW_SPEC_UDP: c_uint = 0x41;
pub const IBV_FLOW_SPEC_ACTION_TAG: c_uint = 0x1000;
pub const IBV_FLOW_SPEC_ACTION_DROP: c_uint = 0x1001;

/// All fields in network byte order, as in every filter here.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_eth_filter {
    pub dst_mac: [u8; 6],
    pub src_mac: [u8; 6],
    pub ether_type: u16,
    pub vlan_tag: u16,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_spec_eth {
    pub type_: c_uint,
    pub size: u16,
    pub val: ibv_flow_eth_filter,
    pub mask: ibv_flow_eth_filter,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_ipv4_filter {
    pub src_ip: u32,
    pub dst_ip: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_spec_ipv4 {
    pub type_: c_uint,
    pub size: u16,
    pub val: ibv_flow_ipv4_filter,
    pub mask: ibv_flow_ipv4_filter,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_ipv6_filter {
    pub src_ip: [u8; 16],
    pub dst_ip: [u8; 16],
    pub flow_label: u32,
    pub next_hdr: u8,
    pub traffic_class: u8,
    pub hop_limit: u8,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_spec_ipv6 {
    pub type_: c_uint,
    pub size: u16,
    pub val: ibv_flow_ipv6_filter,
    pub mask: ibv_flow_ipv6_filter,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_tcp_udp_filter {
    pub dst_port: u16,
    pub src_port: u16,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_spec_tcp_udp {
    pub type_: c_uint,
    pub size: u16,
    pub val: ibv_flow_tcp_udp_filter,
    pub mask: ibv_flow_tcp_udp_filter,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_spec_action_tag {
    pub type_: c_uint,
    pub size: u16,
    pub tag_id: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ibv_flow_spec_action_drop {
    pub type_: c_uint,
    pub size: u16,
}
