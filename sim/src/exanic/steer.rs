//! Which ring a frame goes to: rules or hashing.

use std::net::IpAddr;

use linerate_common::packet::Headers;
use linerate_exanic_sys::ids::{hash, vlan_match};
use linerate_exanic_sys::rx::{REGION_IP, REGION_MAC};
use linerate_exanic_sys::{exanic_ip_filter_t, exanic_mac_filter_t};

use super::{IP_RULES, MAC_RULES};

/// A rule and the filter buffer (from 0) it steers to.
type Rule<T> = Option<(T, usize)>;

#[derive(Debug)]
pub(super) struct Rules {
    ip: Vec<Rule<exanic_ip_filter_t>>,
    mac: Vec<Rule<exanic_mac_filter_t>>,
    pub(super) hash: Option<Hash>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Hash {
    pub(super) buffers: usize,
    pub(super) function: i32,
}

/// Where a frame goes and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// Filter buffer from 0; `None`: the default ring.
    pub(super) buffer: Option<usize>,
    pub(super) region: u8,
    pub(super) rule: u8,
}

impl Rules {
    pub(super) fn new() -> Self {
        Self { ip: vec![None; IP_RULES], mac: vec![None; MAC_RULES], hash: None }
    }

    pub(super) fn add_ip(&mut self, rule: exanic_ip_filter_t, buffer: usize) -> Option<usize> {
        add(&mut self.ip, rule, buffer)
    }

    pub(super) fn add_mac(&mut self, rule: exanic_mac_filter_t, buffer: usize) -> Option<usize> {
        add(&mut self.mac, rule, buffer)
    }

    pub(super) fn remove_ip(&mut self, id: usize) -> bool {
        self.ip.get_mut(id).map(Option::take).is_some()
    }

    pub(super) fn remove_mac(&mut self, id: usize) -> bool {
        self.mac.get_mut(id).map(Option::take).is_some()
    }

    /// The driver's own when a buffer goes: its rules go, and so does hashing.
    pub(super) fn forget_buffer(&mut self, buffer: usize) {
        self.ip.iter_mut().for_each(|r| *r = r.filter(|(_, to)| *to != buffer));
        self.mac.iter_mut().for_each(|r| *r = r.filter(|(_, to)| *to != buffer));
        self.hash = None;
    }

    pub(super) fn count(&self) -> usize {
        self.ip.iter().flatten().count() + self.mac.iter().flatten().count()
    }

    pub(super) fn route(&self, frame: &[u8]) -> Route {
        let Some(headers) = Headers::parse(frame) else { return Route::default() };
        if let Some(hash) = self.hash {
            return Route { buffer: hash.pick(&headers), ..Route::default() };
        }
        let mac = self.mac.iter().position(|r| r.is_some_and(|(r, _)| mac_hit(&r, &headers)));
        if let Some(id) = mac {
            return Route {
                buffer: self.mac[id].map(|(_, to)| to),
                region: REGION_MAC,
                rule: id as u8,
            };
        }
        let ip = self.ip.iter().position(|r| r.is_some_and(|(r, _)| ip_hit(&r, &headers)));
        ip.map_or_else(Route::default, |id| Route {
            buffer: self.ip[id].map(|(_, to)| to),
            region: REGION_IP,
            rule: id as u8,
        })
    }
}

fn add<T: Copy>(rules: &mut [Rule<T>], rule: T, buffer: usize) -> Option<usize> {
    let id = rules.iter().position(Option::is_none)?;
    rules[id] = Some((rule, buffer));
    Some(id)
}

/// An IPv4 address as it lies in memory.
fn raw(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(v4) => Some(u32::from_ne_bytes(v4.octets())),
        IpAddr::V6(_) => None,
    }
}

fn ip_hit(rule: &exanic_ip_filter_t, h: &Headers) -> bool {
    let Some((src, dst)) = h.addresses.and_then(|(s, d)| raw(s).zip(raw(d))) else { return false };
    let any_or = |want: u32, is: u32| want == 0 || want == is;
    let port = |want: u16, is: Option<u16>| want == 0 || is.map(u16::to_be) == Some(want);
    any_or(rule.src_addr, src)
        && any_or(rule.dst_addr, dst)
        && (rule.protocol == 0 || h.proto == Some(rule.protocol))
        && port(rule.src_port, h.ports.map(|p| p.0))
        && port(rule.dst_port, h.ports.map(|p| p.1))
}

fn mac_hit(rule: &exanic_mac_filter_t, h: &Headers) -> bool {
    (rule.dst_mac == [0; 6] || rule.dst_mac == h.dst_mac)
        && (rule.ethertype == 0 || h.ethertype.map(u16::to_be) == Some(rule.ethertype))
        && match rule.vlan_match_method {
            vlan_match::SPECIFIC => h.vlan == Some(rule.vlan & 0xfff),
            vlan_match::NOT_VLAN => h.vlan.is_none(),
            vlan_match::ALL_VLAN => h.vlan.is_some(),
            _ => true,
        }
}

impl Hash {
    /// Only TCP and UDP are spread. A guess at the function: what matters is that a flow stays
    /// in one buffer.
    fn pick(self, h: &Headers) -> Option<usize> {
        let (src_port, dst_port) = h.ports?;
        let (src, dst) = h.addresses.and_then(|(s, d)| raw(s).zip(raw(d)))?;
        let mut x = 0;
        if self.function != hash::IP {
            x ^= u32::from(src_port ^ dst_port);
        }
        if self.function != hash::PORT {
            x ^= src.to_be() ^ dst.to_be();
        }
        x ^= x >> 16;
        x ^= x >> 8;
        Some(x as usize % self.buffers)
    }
}
