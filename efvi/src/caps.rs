//! What a card can do.

use linerate_efvi_sys as sys;

use crate::session::Session;

/// Capabilities of the datapath behind an interface, as the driver tells them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// Hardware receive timestamps.
    pub rx_timestamps: bool,
    /// Hardware send timestamps.
    pub tx_timestamps: bool,
    /// Merged receive events.
    pub rx_merge: bool,
    /// Several queues of this host get copies of the same multicast.
    pub multicast_replication: bool,
    /// Cut-through programmed I/O.
    pub ctpio: bool,
    /// CTPIO is the only way to send (X3, X4 low-latency).
    pub ctpio_only: bool,
    /// Programmed I/O through a region of the card's memory.
    pub pio: bool,
    /// Transmit alternatives.
    pub alternatives: bool,
    /// Receive queues may be shared with other programs (X3).
    pub shared_rx: bool,
    /// Least page size of registered memory, in bytes, 0 when the driver does not say.
    pub min_page_bytes: u64,
    /// Receive ring sizes, one bit for each power of two, 0 when the driver does not say.
    pub rx_rings: u64,
    /// Send ring sizes, likewise.
    pub tx_rings: u64,
}

impl Caps {
    pub(crate) fn query(session: &Session) -> Self {
        let value = |cap| session.capability(cap).unwrap_or(0);
        let has = |cap| value(cap) != 0;
        Self {
            rx_timestamps: has(sys::EF_VI_CAP_HW_RX_TIMESTAMPING),
            tx_timestamps: has(sys::EF_VI_CAP_HW_TX_TIMESTAMPING),
            rx_merge: has(sys::EF_VI_CAP_RX_MERGE),
            multicast_replication: has(sys::EF_VI_CAP_HW_MULTICAST_REPLICATION),
            ctpio: has(sys::EF_VI_CAP_CTPIO),
            ctpio_only: has(sys::EF_VI_CAP_CTPIO_ONLY),
            pio: has(sys::EF_VI_CAP_PIO),
            alternatives: has(sys::EF_VI_CAP_TX_ALTERNATIVES),
            shared_rx: has(sys::EF_VI_CAP_RX_SHARED),
            min_page_bytes: value(sys::EF_VI_CAP_MIN_BUFFER_MODE_SIZE),
            rx_rings: value(sys::EF_VI_CAP_RXQ_SIZES),
            tx_rings: value(sys::EF_VI_CAP_TXQ_SIZES),
        }
    }
}
