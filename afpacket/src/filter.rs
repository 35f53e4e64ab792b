//! Flows as a classic BPF program: the kernel's half of [`FlowSpec::matches`].
//!
//! The program reads the headers once into its scratch memory and then decides:
//!
//! ```text
//! sent by this host? → refuse
//! VLAN id, ethertype, IP protocol, ports → M[..]
//! destination address → binary search over ranges of addresses → what else the flow wants
//! anything else: VLAN, MAC and ethertype flows, one after the other
//! ```
//!
//! Consecutive addresses that want the same thing are one range, so `239.1.1.0:5000+256` costs no
//! more than one group; 128 scattered groups with ports of their own take about 1,100 of the 4,096
//! instructions that the kernel allows, and few of them run for one frame.
//!
//! Two traps the program steps around. The kernel takes the outermost VLAN tag out of the frame
//! before the filter sees it, so the tag is looked for in the metadata first, then inline. And a
//! load beyond the frame's end ends the whole program with "refuse", although a later flow might
//! have taken the frame, so every load is preceded by a check of the length.

mod asm;
mod headers;

use std::collections::BTreeMap;
use std::net::IpAddr;

use libc::sock_filter;
use linerate_common::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPPROTO_UDP};
use linerate_common::{FlowKind, FlowSpec};

pub(crate) use asm::MAX_PROGRAM;
use asm::{Assembler, If, Label, Op};
use headers::{cell, metadata, protocol_and_port, read_ipv4, read_ipv6, read_tags_and_type};

/// What a flow wants of a frame beyond its destination address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wants {
    vlan: Option<u16>,
    proto: u8,
    dst_port: Option<u16>,
    src: Option<IpAddr>,
    src_port: Option<u16>,
}

/// Destination address as 32-bit words (one or four) → what else is wanted, sorted.
type Table = BTreeMap<Vec<u32>, Vec<Wants>>;

/// The program that takes `snaplen` bytes of each frame that belongs to one of the flows, and
/// with `outgoing` also of those that this host sends. No flows: it takes nothing.
///
/// # Errors
///
/// The program's length, when it is over [`MAX_PROGRAM`].
pub(crate) fn compile(
    flows: &[FlowSpec],
    snaplen: u32,
    outgoing: bool,
) -> Result<Vec<sock_filter>, usize> {
    let mut asm = Assembler::default();
    let (accept, refuse) = (asm.label(), asm.label());
    if !outgoing && !flows.is_empty() {
        asm.op(Op::Load32, metadata(libc::SKF_AD_PKTTYPE));
        asm.unless(If::Eq(libc::PACKET_OUTGOING.into()), refuse);
    }
    if flows.contains(&FlowSpec::ALL) {
        asm.goto(accept);
    } else if !flows.is_empty() {
        Compiler { asm: &mut asm, accept, other: refuse, leaves: Vec::new() }.compile(flows);
    }
    asm.mark(refuse);
    asm.op(Op::Return, 0);
    asm.mark(accept);
    asm.op(Op::Return, snaplen);
    asm.assemble()
}

/// A program that takes nothing: what a socket carries until everything else is in place.
pub(crate) fn nothing() -> [sock_filter; 1] {
    [sock_filter { code: Op::Return as u16, jt: 0, jf: 0, k: 0 }]
}

struct Compiler<'a> {
    asm: &'a mut Assembler,
    accept: Label,
    /// Where a frame goes that its destination address did not decide.
    other: Label,
    leaves: Vec<(Vec<Wants>, Label)>,
}

impl Compiler<'_> {
    fn compile(mut self, flows: &[FlowSpec]) {
        let refuse = std::mem::replace(&mut self.other, self.asm.label());
        let (mut v4, mut v6) = (Table::new(), Table::new());
        let mut others = Vec::new();
        for flow in flows {
            match by_address(flow) {
                Some((dst @ IpAddr::V4(_), wants)) => insert(&mut v4, dst, wants),
                Some((dst, wants)) => insert(&mut v6, dst, wants),
                None => others.push(flow),
            }
        }

        self.asm.op(Op::Length, 0);
        self.asm.require(If::AtLeast(14), refuse);
        read_tags_and_type(self.asm);
        if !v4.is_empty() {
            self.asm.op(Op::Recall, cell::TYPE);
            let skip = self.asm.label();
            self.asm.require(If::Eq(ETHERTYPE_IPV4.into()), skip);
            let table = self.asm.label();
            read_ipv4(self.asm, table, self.other);
            self.asm.mark(table);
            self.search(16, v4.into_iter().collect());
            self.asm.mark(skip);
        }
        if !v6.is_empty() {
            self.asm.op(Op::Recall, cell::TYPE);
            self.asm.require(If::Eq(ETHERTYPE_IPV6.into()), self.other);
            let table = self.asm.label();
            read_ipv6(self.asm, table, self.other);
            self.asm.mark(table);
            self.search(24, v6.into_iter().collect());
        }
        self.asm.mark(self.other);
        for flow in others {
            self.test_other(flow);
        }
        self.asm.goto(refuse);
    }

    /// Compares the address at `L3 + offset` with the keys of a table, word by word.
    fn search(&mut self, offset: u32, mut table: Vec<(Vec<u32>, Vec<Wants>)>) {
        self.asm.op(Op::RecallX, cell::L3);
        self.search_word(offset, 0, &mut table);
        for (wants, label) in std::mem::take(&mut self.leaves) {
            self.asm.mark(label);
            self.test_wants(&wants);
        }
    }

    fn search_word(&mut self, offset: u32, word: usize, table: &mut [(Vec<u32>, Vec<Wants>)]) {
        let last = table[0].0.len() == word + 1;
        let mut ranges = Ranges::new(self.other);
        let mut deeper = Vec::new();
        for group in table.chunk_by_mut(|a, b| a.0[word] == b.0[word]) {
            let key = group[0].0[word];
            let label = if last { self.leaf(&group[0].1) } else { self.asm.label() };
            ranges.push(key, label);
            if !last {
                deeper.push((label, group));
            }
        }
        self.asm.op(Op::Load32X, offset + 4 * word as u32);
        self.search_ranges(&ranges.list);
        for (label, group) in deeper {
            self.asm.mark(label);
            self.search_word(offset, word + 1, group);
        }
    }

    /// A binary search for A among ranges, each given by its first value and its target.
    fn search_ranges(&mut self, ranges: &[(u32, Label)]) {
        match *ranges {
            [] => self.asm.goto(self.other),
            [(_, only)] => self.asm.goto(only),
            // One value between two ranges of the same fate.
            [(_, around), (key, inside), (end, after)] if around == after && end - key == 1 => {
                self.asm.branch(If::Eq(key), inside, around);
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let mut side = |part: &[(u32, Label)]| match *part {
                    [(_, only)] => (only, false),
                    _ => (self.asm.label(), true),
                };
                let ((below, low_code), (above, high_code)) = (side(low), side(high));
                self.asm.branch(If::AtLeast(high[0].0), above, below);
                for (label, code, part) in [(below, low_code, low), (above, high_code, high)] {
                    if code {
                        self.asm.mark(label);
                        self.search_ranges(part);
                    }
                }
            }
        }
    }

    /// Where the frames to an address are tested further; addresses that want the same share it.
    fn leaf(&mut self, wants: &[Wants]) -> Label {
        if let Some((_, label)) = self.leaves.iter().find(|(known, _)| known == wants) {
            return *label;
        }
        let label = self.asm.label();
        self.leaves.push((wants.to_vec(), label));
        label
    }

    /// Accepts a frame that any of `wants` takes.
    fn test_wants(&mut self, wants: &[Wants]) {
        for (i, w) in wants.iter().enumerate() {
            let next = if i + 1 == wants.len() { self.other } else { self.asm.label() };
            self.test_vlan(w.vlan, next);
            let asm = &mut *self.asm;
            match w.dst_port {
                Some(port) => {
                    asm.op(Op::Recall, cell::TO);
                    asm.require(If::Eq(protocol_and_port(w.proto, port)), next);
                }
                None => {
                    asm.op(Op::Recall, cell::PROTO);
                    asm.require(If::Eq(w.proto.into()), next);
                }
            }
            if let Some(src) = w.src {
                asm.op(Op::RecallX, cell::L3);
                let at = if src.is_ipv4() { 12 } else { 8 };
                for (n, word) in words(src).into_iter().enumerate() {
                    asm.op(Op::Load32X, at + 4 * n as u32);
                    asm.require(If::Eq(word), next);
                }
            }
            if let Some(port) = w.src_port {
                asm.op(Op::Recall, cell::FROM);
                asm.require(If::Eq(port.into()), next);
            }
            asm.goto(self.accept);
            if i + 1 < wants.len() {
                asm.mark(next);
            }
        }
    }

    /// Accepts a frame of a flow that no destination IP address decides, or goes on.
    fn test_other(&mut self, flow: &FlowSpec) {
        let next = self.asm.label();
        self.test_vlan(flow.vlan, next);
        let asm = &mut *self.asm;
        match flow.kind {
            FlowKind::Mac([a, b, c, d, e, f]) => {
                asm.op(Op::Load32, 0);
                asm.require(If::Eq(u32::from_be_bytes([a, b, c, d])), next);
                asm.op(Op::Load16, 4);
                asm.require(If::Eq(u16::from_be_bytes([e, f]).into()), next);
            }
            FlowKind::EtherType(ethertype) => {
                asm.op(Op::Recall, cell::TYPE);
                asm.require(If::Eq(ethertype.into()), next);
            }
            // `All` on a VLAN: nothing more to ask. The others are in the tables.
            _ => {}
        }
        asm.goto(self.accept);
        asm.mark(next);
    }

    fn test_vlan(&mut self, vlan: Option<u16>, no: Label) {
        if let Some(vid) = vlan {
            self.asm.op(Op::Recall, cell::VLAN);
            self.asm.require(If::Eq(vid.into()), no);
        }
    }
}

/// The destination address of a flow and what else it wants, if an address decides it.
fn by_address(flow: &FlowSpec) -> Option<(IpAddr, Wants)> {
    let vlan = flow.vlan;
    let (dst, proto, dst_port, src, src_port) = match flow.kind {
        FlowKind::Group { group, source, port } => (group, IPPROTO_UDP, port, source, None),
        FlowKind::To { proto, dst } => (dst.ip(), proto.number(), Some(dst.port()), None, None),
        FlowKind::Between { proto, dst, src } => {
            (dst.ip(), proto.number(), Some(dst.port()), Some(src.ip()), Some(src.port()))
        }
        _ => return None,
    };
    Some((dst, Wants { vlan, proto, dst_port, src, src_port }))
}

fn insert(table: &mut Table, dst: IpAddr, wants: Wants) {
    let list = table.entry(words(dst)).or_default();
    if let Err(at) = list.binary_search(&wants) {
        list.insert(at, wants);
    }
}

fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(a) => vec![a.to_bits()],
        IpAddr::V6(a) => (0..4).rev().map(|n| (a.to_bits() >> (32 * n)) as u32).collect(),
    }
}

/// All 32-bit values cut into ranges, neighbours of the same fate merged.
struct Ranges {
    other: Label,
    list: Vec<(u32, Label)>,
}

impl Ranges {
    fn new(other: Label) -> Self {
        Self { other, list: vec![(0, other)] }
    }

    /// Sends the value `key`, greater than all before it, to `target`.
    fn push(&mut self, key: u32, target: Label) {
        // The last range is the `other` one behind the key before; it begins at or below `key`.
        match self.list.last() {
            Some((start, _)) if *start == key => {
                self.list.pop();
            }
            _ => {}
        }
        if self.list.last().is_none_or(|(_, before)| *before != target) {
            self.list.push((key, target));
        }
        if let Some(behind) = key.checked_add(1) {
            self.list.push((behind, self.other));
        }
    }
}

#[cfg(test)]
mod tests;
