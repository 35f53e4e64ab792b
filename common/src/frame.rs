//! A received frame: bytes that are borrowed from the queue, and what is known about them.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Largest window a queue opens: one bit per frame fits a `u64` mask of taken frames.
pub const MAX_BURST: usize = 64;

/// [`RxMeta::ts_ns`] of a frame that carries no timestamp.
pub const NO_TS: u64 = u64::MAX;

/// What is special about one frame. Combine with `|`, ask with [`contains`](Self::contains).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RxFlags(u32);

impl RxFlags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// The timestamp was taken by the card.
    pub const TS_HW: Self = Self(1);
    /// The timestamp was taken by the kernel or by this process.
    pub const TS_SW: Self = Self(1 << 1);
    /// The clock behind the timestamp says that it is not synchronised.
    pub const TS_UNSYNCED: Self = Self(1 << 2);
    /// The card or kernel found the IP and UDP/TCP checksums good.
    pub const CSUM_OK: Self = Self(1 << 3);
    /// The card or kernel found a checksum bad.
    pub const CSUM_BAD: Self = Self(1 << 4);
    /// Bytes are missing at the end: [`RxMeta::wire_len`] says how long the frame was.
    pub const TRUNCATED: Self = Self(1 << 5);
    /// The frame check sequence was wrong, or the sender aborted (only when asked for).
    pub const BAD: Self = Self(1 << 6);
    /// A VLAN tag that the kernel or card had taken out was put back.
    pub const VLAN_RESTORED: Self = Self(1 << 7);
    /// The Ethernet, IP and UDP headers were made up by the `udp` backend.
    pub const SYNTHETIC: Self = Self(1 << 8);
    /// This host sent the frame (only when asked for).
    pub const OUTGOING: Self = Self(1 << 9);
    /// Frames were lost just before this one.
    pub const LOSS_BEFORE: Self = Self(1 << 10);
    /// The checksum is not filled in yet: the frame came from this host's own stack.
    pub const CSUM_PARTIAL: Self = Self(1 << 11);
    /// The kernel made one long frame of several (GRO, TSO): these bytes were not on the wire in
    /// this form.
    pub const MERGED: Self = Self(1 << 12);
    /// Reserved: the frame goes on in the next buffer.
    pub const MORE: Self = Self(1 << 31);

    const NAMES: [(Self, &'static str); 14] = [
        (Self::TS_HW, "ts_hw"),
        (Self::TS_SW, "ts_sw"),
        (Self::TS_UNSYNCED, "ts_unsynced"),
        (Self::CSUM_OK, "csum_ok"),
        (Self::CSUM_BAD, "csum_bad"),
        (Self::TRUNCATED, "truncated"),
        (Self::BAD, "bad"),
        (Self::VLAN_RESTORED, "vlan_restored"),
        (Self::SYNTHETIC, "synthetic"),
        (Self::OUTGOING, "outgoing"),
        (Self::LOSS_BEFORE, "loss_before"),
        (Self::CSUM_PARTIAL, "csum_partial"),
        (Self::MERGED, "merged"),
        (Self::MORE, "more"),
    ];

    /// Are all bits of `other` set?
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits themselves.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// `self` with the bits of `other`, usable in constants.
    #[inline]
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for RxFlags {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for RxFlags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        *self = self.with(other);
    }
}

impl fmt::Debug for RxFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag));
        f.debug_list().entries(names.map(|(_, name)| name)).finish()
    }
}

/// What the card or kernel said about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxMeta {
    /// Arrival, ns since the UNIX epoch in UTC, or [`NO_TS`]. The flags say who took it, the
    /// queue's [`ClockInfo`](crate::ClockInfo) by which clock.
    pub ts_ns: u64,
    /// Length on the wire without the frame check sequence; more than the bytes at hand only
    /// with [`RxFlags::TRUNCATED`].
    pub wire_len: u32,
    /// What is special about the frame.
    pub flags: RxFlags,
    /// Id of the filter or rule that selected it, 0 when there is none.
    pub mark: u32,
}

impl RxMeta {
    /// An unstamped, unremarkable frame of `len` bytes.
    #[inline]
    #[must_use]
    pub const fn plain(len: usize) -> Self {
        Self { ts_ns: NO_TS, wire_len: len as u32, flags: RxFlags::NONE, mark: 0 }
    }

    /// The timestamp, if there is one.
    #[inline]
    #[must_use]
    pub const fn timestamp(&self) -> Option<u64> {
        if self.ts_ns == NO_TS { None } else { Some(self.ts_ns) }
    }
}

/// One frame of an open window: from the destination MAC to the last byte before the frame
/// check sequence.
#[derive(Clone, Copy)]
pub struct RxFrame<'a> {
    /// The frame's bytes, in the ring or pool where they arrived.
    pub bytes: &'a [u8],
    /// What is known about them.
    pub meta: RxMeta,
}

impl fmt::Debug for RxFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxFrame")
            .field("len", &self.bytes.len())
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_combine_and_read_back() {
        let f = RxFlags::TS_HW | RxFlags::TRUNCATED;
        assert!(f.contains(RxFlags::TS_HW) && !f.contains(RxFlags::TS_HW | RxFlags::BAD));
        assert_eq!(format!("{f:?}"), r#"["ts_hw", "truncated"]"#);
    }

    #[test]
    fn a_frame_travels_in_five_words() {
        assert_eq!(size_of::<RxFrame<'_>>(), 40);
    }
}
