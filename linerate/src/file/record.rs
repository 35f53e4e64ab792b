//! One recorded frame and the interface it came from.

use linerate_common::NO_TS;

/// Longest frame that is read, in bytes: the limit of libpcap and tshark.
pub const MAX_RECORD: usize = 262_144;

/// Link type of Ethernet, the only one a port can replay.
pub const ETHERNET: u16 = 1;

/// One recorded frame, lent by the reader.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The bytes as they stand in the file, a trailing frame check sequence included where the
    /// recorder kept it (see [`Interface::fcs_len`]).
    pub bytes: &'a [u8],
    /// What the file says about them.
    pub info: RecordInfo,
}

/// What a file says about a frame beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordInfo {
    /// When it was recorded, ns since the UNIX epoch, or [`NO_TS`] when the file does not say
    /// (simple packet blocks) or the time does not fit.
    pub ts_ns: u64,
    /// Length on the wire, as recorded. May be more than the bytes at hand (a snap length), and
    /// in odd files less.
    pub wire_len: u32,
    /// Index into [`Reader::interfaces`](super::Reader::interfaces).
    pub interface: u32,
    /// The pcapng `epb_flags` word, 0 when there is none. Bits 0–1: 1 inbound, 2 outbound.
    pub epb_flags: u32,
    /// Frames that the recorder lost between this one and the one before on the same interface,
    /// where the file says so (`epb_dropcount`).
    pub drops_before: u64,
    /// Where the record begins, in bytes from the beginning of the (decompressed) file.
    pub offset: u64,
}

impl RecordInfo {
    pub(super) fn at(offset: u64) -> Self {
        Self { ts_ns: NO_TS, wire_len: 0, interface: 0, epb_flags: 0, drops_before: 0, offset }
    }

    /// The timestamp, if there is one.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        (self.ts_ns != NO_TS).then_some(self.ts_ns)
    }
}

/// An interface that a file has frames of. A classic pcap file has exactly one, without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Link type (`LINKTYPE_…`); 1 is Ethernet.
    pub link_type: u16,
    /// Longest frame the recorder kept, 0 for no limit.
    pub snap_len: u32,
    /// How timestamps are counted.
    pub ticks: Ticks,
    /// Bytes of frame check sequence at the end of each frame, where the file says.
    pub fcs_len: Option<u8>,
    /// `if_name`.
    pub name: Option<String>,
    /// `if_description`.
    pub description: Option<String>,
    /// `if_filter`, when it is text.
    pub filter: Option<String>,
    /// The last interface statistics block read so far.
    pub statistics: Option<super::Statistics>,
}

impl Interface {
    pub(super) fn new(link_type: u16, snap_len: u32, ticks: Ticks) -> Self {
        Self {
            link_type,
            snap_len,
            ticks,
            fcs_len: None,
            name: None,
            description: None,
            filter: None,
            statistics: None,
        }
    }
}

/// The unit of an interface's timestamps: pcapng's `if_tsresol` and `if_tsoffset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    resol: u8,
    offset_s: i64,
}

impl Ticks {
    /// Microseconds since the epoch, the default of both formats.
    pub const MICROS: Self = Self { resol: 6, offset_s: 0 };
    /// Nanoseconds since the epoch.
    pub const NANOS: Self = Self { resol: 9, offset_s: 0 };

    /// From the raw options: `resol` counts decimal places, or binary ones with its top bit set.
    #[must_use]
    pub const fn of_options(resol: u8, offset_s: i64) -> Self {
        Self { resol, offset_s }
    }

    /// Smallest step in ns, at least 1.
    #[must_use]
    pub fn resolution_ns(self) -> u32 {
        let second = Self { offset_s: 0, ..self }.to_ns(1).unwrap_or(0);
        u32::try_from(second).unwrap_or(u32::MAX).max(1)
    }

    /// A tick count as ns since the epoch; `None` when that is negative or after the year 2554.
    #[must_use]
    pub fn to_ns(self, ticks: u64) -> Option<u64> {
        let ticks = u128::from(ticks);
        let places = u32::from(self.resol & 0x7f);
        let ns = if self.resol & 0x80 != 0 {
            // At most 94 bits before the shift, and the shift is at most 127.
            (ticks * 1_000_000_000) >> places
        } else if places <= 9 {
            ticks * 10_u128.pow(9 - places)
        } else {
            // Finer than 10^-28 s, 64 bits of ticks are less than a nanosecond.
            10_u128.checked_pow(places - 9).map_or(0, |unit| ticks / unit)
        };
        let ns = i128::try_from(ns).ok()? + i128::from(self.offset_s) * 1_000_000_000;
        u64::try_from(ns).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resolution_becomes_nanoseconds() {
        let of = |resol| Ticks::of_options(resol, 0);
        assert_eq!(of(6).to_ns(1_700_000_000_123_456), Some(1_700_000_000_123_456_000));
        assert_eq!(of(9).to_ns(1_700_000_000_123_456_789), Some(1_700_000_000_123_456_789));
        assert_eq!(of(0).to_ns(7), Some(7_000_000_000));
        assert_eq!(of(3).to_ns(7), Some(7_000_000));
        assert_eq!(of(12).to_ns(7_999), Some(7), "picoseconds are cut, not rounded");
        assert_eq!(of(127).to_ns(u64::MAX), Some(0));
        // Binary: 2^-32 s is the NTP fraction, 2^-30 is near to a nanosecond.
        assert_eq!(of(0x80 | 32).to_ns(1 << 32), Some(1_000_000_000));
        assert_eq!(of(0x80 | 32).to_ns(1 << 31), Some(500_000_000));
        assert_eq!(of(0x80).to_ns(3), Some(3_000_000_000));
        assert_eq!(of(0xff).to_ns(u64::MAX), Some(0));
    }

    #[test]
    fn offsets_are_added_and_overflow_is_none() {
        assert_eq!(Ticks::of_options(6, 1_700_000_000).to_ns(5), Some(1_700_000_000_000_005_000));
        assert_eq!(Ticks::of_options(9, -1).to_ns(1_000_000_001), Some(1));
        assert_eq!(Ticks::of_options(9, -2).to_ns(1_000_000_001), None);
        assert_eq!(Ticks::of_options(0, 0).to_ns(u64::MAX), None);
        assert_eq!(Ticks::of_options(9, i64::MIN).to_ns(0), None);
    }

    #[test]
    fn the_resolution_is_stated_in_ns() {
        assert_eq!(Ticks::MICROS.resolution_ns(), 1000);
        assert_eq!(Ticks::NANOS.resolution_ns(), 1);
        assert_eq!(Ticks::of_options(12, -9).resolution_ns(), 1);
        assert_eq!(Ticks::of_options(3, 9).resolution_ns(), 1_000_000);
    }
}
