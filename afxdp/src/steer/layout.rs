//! The structures that `bpf/steer.bpf.c` and this crate share, as bytes.

/// Length of `struct flow_key`.
pub(super) const KEY_BYTES: usize = 56;
/// Shapes that one port can use: the eight selections of fields in `key.rs`, with and without a
/// VLAN.
pub(super) const MAX_SHAPES: usize = 16;
/// Length of `struct plan`.
pub(super) const PLAN_BYTES: usize = 8 + MAX_SHAPES * SHAPE_BYTES;
const SHAPE_BYTES: usize = KEY_BYTES + 3 * 8;

pub(super) const HAS_VLAN: u64 = 1 << 0;
pub(super) const HAS_ETHERTYPE: u64 = 1 << 1;
pub(super) const HAS_IP: u64 = 1 << 2;
pub(super) const HAS_PORTS: u64 = 1 << 3;

/// `struct flow_key`: what a rule selects by, or the mask of what it selects by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Key {
    pub(super) port: u8,
    pub(super) shape: u8,
    pub(super) proto: u8,
    pub(super) vlan: u16,
    pub(super) ethertype: u16,
    pub(super) mac: [u8; 6],
    pub(super) dport: u16,
    pub(super) sport: u16,
    pub(super) dst: [u8; 16],
    pub(super) src: [u8; 16],
}

impl Key {
    pub(super) fn bytes(&self) -> [u8; KEY_BYTES] {
        let mut out = [0; KEY_BYTES];
        out[..3].copy_from_slice(&[self.port, self.shape, self.proto]);
        out[4..6].copy_from_slice(&self.vlan.to_ne_bytes());
        out[6..8].copy_from_slice(&self.ethertype.to_ne_bytes());
        out[8..14].copy_from_slice(&self.mac);
        out[14..16].copy_from_slice(&self.dport.to_ne_bytes());
        out[16..18].copy_from_slice(&self.sport.to_ne_bytes());
        out[24..40].copy_from_slice(&self.dst);
        out[40..56].copy_from_slice(&self.src);
        out
    }
}

/// `struct shape`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) mask: [u8; KEY_BYTES],
    /// A key with only the port's number and the shape's.
    pub(super) id: Key,
    pub(super) first_rank: u64,
    pub(super) needs: u64,
}

/// `struct plan`. More than [`MAX_SHAPES`] are cut off: there are no more.
pub(super) fn plan_bytes(shapes: &[Shape]) -> [u8; PLAN_BYTES] {
    let mut out = [0; PLAN_BYTES];
    let count = shapes.len().min(MAX_SHAPES);
    out[..8].copy_from_slice(&(count as u64).to_ne_bytes());
    for (shape, place) in shapes.iter().zip(out[8..].chunks_exact_mut(SHAPE_BYTES)) {
        let (mask, rest) = place.split_at_mut(KEY_BYTES);
        mask.copy_from_slice(&shape.mask);
        rest[..8].copy_from_slice(&shape.id.bytes()[..8]);
        rest[8..16].copy_from_slice(&shape.first_rank.to_ne_bytes());
        rest[16..].copy_from_slice(&shape.needs.to_ne_bytes());
    }
    out
}

/// The word of a receive queue (`QUEUE_*`): its port, and the port's first rule if that takes every
/// frame.
pub(super) fn queue_word(port: u8, all: Option<All>) -> [u8; 8] {
    const ALL: u64 = 1 << 8;
    const DROPS: u64 = 1 << 9;
    let all = all.map_or(0, |all| {
        let drops = if all.drops { DROPS } else { 0 };
        ALL | drops | u64::from(all.slot & 0xffff) << 16 | u64::from(all.mark) << 32
    });
    (u64::from(port) | all).to_ne_bytes()
}

/// A rule that takes every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct All {
    pub(super) slot: u32,
    pub(super) drops: bool,
    pub(super) mark: u32,
}

/// `struct rule`.
pub(super) fn rule_bytes(rank: u64, slot: u32, drop: bool, mark: u32) -> [u8; 24] {
    let mut out = [0; 24];
    out[..8].copy_from_slice(&rank.to_ne_bytes());
    out[8..12].copy_from_slice(&slot.to_ne_bytes());
    out[12..14].copy_from_slice(&u16::from(drop).to_ne_bytes());
    out[16..20].copy_from_slice(&mark.to_ne_bytes());
    out
}

/// `struct frame_meta`: what the program puts in front of a delivered frame when asked to.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameMeta {
    pub(crate) cookie: u64,
    pub(crate) ts_ns: u64,
    pub(crate) mark: u32,
    pub(crate) has_ts: u32,
}
