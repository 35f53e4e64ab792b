//! Why frames were thrown away, by name.

use linerate_common::{RxFlags, RxStats};
use linerate_efvi_sys as sys;

/// Frames that the card found bad, by reason. Without
/// [`Options::deliver_bad`](crate::Options::deliver_bad) none of them was delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discards {
    /// Wrong frame check sequence.
    pub crc: u64,
    /// Cut off, or of a wrong length.
    pub truncated: u64,
    /// Wrong IP, TCP or UDP checksum.
    pub checksum: u64,
    /// Wrong checksum within a tunnel.
    pub inner_checksum: u64,
    /// Multicast that no filter asked for.
    pub multicast_mismatch: u64,
    /// The card refused to write the buffer.
    pub rights: u64,
    /// The event did not fit the ring.
    pub event_error: u64,
    /// Any other reason.
    pub other: u64,
}

/// One reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Crc,
    Truncated,
    Checksum,
    InnerChecksum,
    MulticastMismatch,
    Rights,
    EventError,
    Other,
}

impl Reason {
    /// Of a discard event's subtype.
    pub(crate) fn of_subtype(subtype: u32) -> Self {
        match subtype {
            sys::EF_EVENT_RX_DISCARD_CSUM_BAD => Self::Checksum,
            sys::EF_EVENT_RX_DISCARD_MCAST_MISMATCH => Self::MulticastMismatch,
            sys::EF_EVENT_RX_DISCARD_CRC_BAD => Self::Crc,
            sys::EF_EVENT_RX_DISCARD_TRUNC => Self::Truncated,
            sys::EF_EVENT_RX_DISCARD_RIGHTS => Self::Rights,
            sys::EF_EVENT_RX_DISCARD_EV_ERROR => Self::EventError,
            sys::EF_EVENT_RX_DISCARD_INNER_CSUM_BAD => Self::InnerChecksum,
            _ => Self::Other,
        }
    }

    /// Of a packet reference's discard flags: the gravest one.
    pub(crate) fn of_flags(flags: u32) -> Self {
        let any = |mask| flags & mask != 0;
        if any(sys::EF_VI_DISCARD_RX_ETH_FCS_ERR) {
            Self::Crc
        } else if any(sys::EF_VI_DISCARD_RX_ETH_LEN_ERR) {
            Self::Truncated
        } else if any(sys::EF_VI_DISCARD_RX_L3_CSUM_ERR | sys::EF_VI_DISCARD_RX_L4_CSUM_ERR) {
            Self::Checksum
        } else if any(
            sys::EF_VI_DISCARD_RX_INNER_L3_CSUM_ERR | sys::EF_VI_DISCARD_RX_INNER_L4_CSUM_ERR
        ) {
            Self::InnerChecksum
        } else {
            Self::Other
        }
    }

    /// How a frame with this fault is flagged, if its bytes are worth showing.
    pub(crate) fn flags(self) -> Option<RxFlags> {
        match self {
            Self::Crc | Self::Truncated => Some(RxFlags::BAD),
            Self::Checksum | Self::InnerChecksum => Some(RxFlags::CSUM_BAD),
            Self::MulticastMismatch | Self::Other => Some(RxFlags::NONE),
            Self::Rights | Self::EventError => None,
        }
    }
}

impl Discards {
    pub(crate) fn count(&mut self, reason: Reason) {
        *match reason {
            Reason::Crc => &mut self.crc,
            Reason::Truncated => &mut self.truncated,
            Reason::Checksum => &mut self.checksum,
            Reason::InnerChecksum => &mut self.inner_checksum,
            Reason::MulticastMismatch => &mut self.multicast_mismatch,
            Reason::Rights => &mut self.rights,
            Reason::EventError => &mut self.event_error,
            Reason::Other => &mut self.other,
        } += 1;
    }

    /// Counts a frame that is not delivered under the ledger's names.
    pub(crate) fn lose(stats: &mut RxStats, reason: Reason) {
        *match reason {
            Reason::Crc => &mut stats.crc,
            Reason::Truncated => &mut stats.truncated,
            _ => &mut stats.malformed,
        } += 1;
    }

    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.crc
            + self.truncated
            + self.checksum
            + self.inner_checksum
            + self.multicast_mismatch
            + self.rights
            + self.event_error
            + self.other
    }
}
