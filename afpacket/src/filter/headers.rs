//! The part of the program that reads a frame's headers into the scratch memory: what
//! [`Headers::parse`](linerate_common::packet::Headers::parse) does, in BPF.

use linerate_common::packet::{
    IPPROTO_TCP, IPPROTO_UDP, MAX_IPV6_EXTENSIONS, MAX_VLAN_TAGS, TPID_8021AD, TPID_8021Q,
    TPID_QINQ_OLD,
};

use super::asm::{Assembler, If, Label, Op};

/// Scratch memory cells.
pub(super) mod cell {
    /// Outermost VLAN id or [`super::NONE`].
    pub(in crate::filter) const VLAN: u32 = 0;
    /// Ethertype behind the tags or [`super::NONE`].
    pub(in crate::filter) const TYPE: u32 = 1;
    /// Offset of the IP header.
    pub(in crate::filter) const L3: u32 = 2;
    /// IP protocol number.
    pub(in crate::filter) const PROTO: u32 = 3;
    /// [`super::protocol_and_port`] of the destination; without ports only the protocol's part.
    pub(in crate::filter) const TO: u32 = 4;
    /// Source port.
    pub(in crate::filter) const FROM: u32 = 5;
}

/// No VLAN id and no ethertype has this value.
pub(super) const NONE: u32 = u32::MAX;

/// Protocol and destination port in one number, so that one comparison tests both. The bit
/// between them says that there are ports at all: port 0 is not "no port".
pub(super) const fn protocol_and_port(proto: u8, port: u16) -> u32 {
    (proto as u32) << 17 | 1 << 16 | port as u32
}

/// Offset of kernel metadata, for [`Op::Load32`] and [`Op::Load16`].
pub(super) const fn metadata(field: libc::c_int) -> u32 {
    (libc::SKF_AD_OFF + field) as u32
}

/// Fills `VLAN` and `TYPE`, and leaves the ethertype's offset in X.
pub(super) fn read_tags_and_type(asm: &mut Assembler) {
    let (found, done) = (asm.label(), asm.label());
    asm.op(Op::Set, NONE);
    asm.op(Op::Store, cell::VLAN);
    asm.op(Op::Store, cell::TYPE);
    asm.op(Op::SetX, 12);

    let (inline, one_seen) = (asm.label(), asm.label());
    asm.op(Op::Load32, metadata(libc::SKF_AD_VLAN_TAG_PRESENT));
    asm.unless(If::Eq(0), inline);
    asm.op(Op::Load32, metadata(libc::SKF_AD_VLAN_TAG));
    asm.op(Op::And, 0x0fff);
    asm.op(Op::Store, cell::VLAN);
    asm.goto(one_seen);

    asm.mark(inline);
    for seen in 0..=MAX_VLAN_TAGS {
        if seen == 1 {
            asm.mark(one_seen);
        }
        let tag = asm.label();
        asm.op(Op::Load16X, 0);
        for tpid in [TPID_8021Q, TPID_8021AD, TPID_QINQ_OLD] {
            asm.unless(If::Eq(tpid.into()), tag);
        }
        asm.goto(found);
        asm.mark(tag);
        if seen == MAX_VLAN_TAGS {
            asm.goto(done);
            break;
        }
        if seen == 0 {
            // The tag may be all there is of the frame: enough for its VLAN id.
            asm.op(Op::Length, 0);
            asm.require(If::AtLeast(16), done);
            asm.op(Op::Load16, 14);
            asm.op(Op::And, 0x0fff);
            asm.op(Op::Store, cell::VLAN);
        }
        need(asm, 6, done);
        asm.op(Op::FromX, 0);
        asm.op(Op::Add, 4);
        asm.op(Op::ToX, 0);
    }
    asm.mark(found);
    asm.op(Op::Store, cell::TYPE);
    asm.mark(done);
}

/// Fills `L3`, `PROTO`, `TO` and `FROM`. X is at the ethertype. Goes to `table`, or to
/// `other` when it is no such packet.
pub(super) fn read_ipv4(asm: &mut Assembler, table: Label, other: Label) {
    let no_ports = asm.label();
    step_over_ethertype(asm);
    need(asm, 20, other);
    asm.op(Op::Load8X, 0);
    asm.require(If::AtLeast(0x45), other);
    asm.unless(If::Greater(0x4f), other);
    asm.op(Op::Load8X, 9);
    asm.op(Op::Store, cell::PROTO);
    asm.op(Op::Load16X, 6);
    asm.unless(If::AnyOf(0x1fff), no_ports);
    asm.op(Op::Load8X, 0);
    asm.op(Op::And, 0x0f);
    asm.op(Op::ShiftLeft, 2);
    asm.op(Op::AddX, 0);
    asm.op(Op::ToX, 0);
    read_ports(asm, no_ports, table);
}

/// As [`read_ipv4`], looking through extension headers.
pub(super) fn read_ipv6(asm: &mut Assembler, table: Label, other: Label) {
    let (no_ports, upper) = (asm.label(), asm.label());
    step_over_ethertype(asm);
    need(asm, 40, other);
    asm.op(Op::Load8X, 0);
    asm.op(Op::And, 0xf0);
    asm.require(If::Eq(0x60), other);
    asm.op(Op::Load8X, 6);
    asm.op(Op::Store, cell::PROTO);
    asm.op(Op::FromX, 0);
    asm.op(Op::Add, 40);
    asm.op(Op::ToX, 0);
    for _ in 0..MAX_IPV6_EXTENSIONS {
        let (options, fragment, next) = (asm.label(), asm.label(), asm.label());
        asm.op(Op::Recall, cell::PROTO);
        for header in [0, 43, 60] {
            asm.unless(If::Eq(header), options);
        }
        asm.branch(If::Eq(44), fragment, upper);

        asm.mark(options);
        need(asm, 2, no_ports);
        asm.op(Op::Load8X, 0);
        asm.op(Op::Store, cell::PROTO);
        asm.op(Op::Load8X, 1);
        asm.op(Op::Add, 1);
        asm.op(Op::ShiftLeft, 3);
        asm.op(Op::AddX, 0);
        asm.op(Op::ToX, 0);
        asm.goto(next);

        asm.mark(fragment);
        need(asm, 8, no_ports);
        asm.op(Op::Load8X, 0);
        asm.op(Op::Store, cell::PROTO);
        asm.op(Op::Load16X, 2);
        asm.unless(If::AnyOf(0xfff8), no_ports);
        asm.op(Op::FromX, 0);
        asm.op(Op::Add, 8);
        asm.op(Op::ToX, 0);
        asm.mark(next);
    }
    asm.mark(upper);
    read_ports(asm, no_ports, table);
}

/// Goes to `no` unless `bytes` bytes follow X. A frame shorter than `bytes` is told apart first:
/// the subtraction would wrap around.
fn need(asm: &mut Assembler, bytes: u32, no: Label) {
    asm.op(Op::Length, 0);
    asm.require(If::AtLeast(bytes), no);
    asm.op(Op::Sub, bytes);
    asm.require(If::AtLeastX, no);
}

/// Moves X from the ethertype to the IP header and notes it.
fn step_over_ethertype(asm: &mut Assembler) {
    asm.op(Op::FromX, 0);
    asm.op(Op::Add, 2);
    asm.op(Op::ToX, 0);
    asm.op(Op::StoreX, cell::L3);
}

/// Fills `TO` and `FROM` from the transport header at X, if `PROTO` has ports and they are there.
fn read_ports(asm: &mut Assembler, no_ports: Label, table: Label) {
    let ports = asm.label();
    asm.op(Op::Recall, cell::PROTO);
    asm.unless(If::Eq(IPPROTO_UDP.into()), ports);
    asm.require(If::Eq(IPPROTO_TCP.into()), no_ports);
    asm.mark(ports);
    need(asm, 4, no_ports);
    asm.op(Op::Load16X, 0);
    asm.op(Op::Store, cell::FROM);
    asm.op(Op::Load16X, 2);
    asm.op(Op::ToX, 0);
    asm.op(Op::Recall, cell::PROTO);
    asm.op(Op::ShiftLeft, 17);
    asm.op(Op::Or, 1 << 16);
    asm.op(Op::OrX, 0);
    asm.op(Op::Store, cell::TO);
    asm.goto(table);

    asm.mark(no_ports);
    asm.op(Op::Set, 0);
    asm.op(Op::Store, cell::FROM);
    asm.op(Op::Recall, cell::PROTO);
    asm.op(Op::ShiftLeft, 17);
    asm.op(Op::Store, cell::TO);
}
