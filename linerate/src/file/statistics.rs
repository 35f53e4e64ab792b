//! An interface statistics block: how many frames came, and where the others went.

use linerate_common::RxStats;

/// The counters of one interface in a pcapng file. `None`: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// When the capture began, ns since the UNIX epoch.
    pub start_ns: Option<u64>,
    /// When it ended.
    pub end_ns: Option<u64>,
    /// `isb_ifrecv`: frames that came to the interface, lost ones included.
    pub received: Option<u64>,
    /// `isb_ifdrop`: of those, lost or thrown away by the card for want of buffers or validity.
    pub if_dropped: Option<u64>,
    /// `isb_filteraccept`: frames that passed the filter.
    pub accepted: Option<u64>,
    /// `isb_osdrop`: lost in the operating system or in the queue to this program.
    pub os_dropped: Option<u64>,
    /// `isb_usrdeliv`: frames delivered to the user, which is to say in the file.
    pub delivered: Option<u64>,
}

impl Statistics {
    /// The ledger of a receive queue in pcapng's coarser words. `delivered` is what reached the
    /// file: the caller knows what it lost between the queue and the disk.
    #[must_use]
    pub fn of(rx: &RxStats, delivered: u64) -> Self {
        let card = rx.no_buffer + rx.ring_lapped + rx.card_drop;
        let invalid = rx.crc + rx.truncated + rx.malformed;
        Self {
            received: Some(rx.frames + rx.lost()),
            if_dropped: Some(card + invalid),
            os_dropped: Some(rx.kernel_drop + rx.ring_full),
            delivered: Some(delivered),
            ..Self::default()
        }
    }
}
