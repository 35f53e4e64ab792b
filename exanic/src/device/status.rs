//! What a port says about itself, and what it has counted.

/// What a port says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStatus {
    /// Is the interface administratively up?
    pub enabled: bool,
    /// Is the link up?
    pub link: bool,
    /// Does the module see a signal?
    pub signal: bool,
    /// Mb/s.
    pub speed_mbps: u32,
    /// MAC address.
    pub mac: [u8; 6],
    /// Are frames for other MAC addresses received?
    pub promiscuous: bool,
    /// Does the card say that receive timestamps are ready?
    pub rx_time_ready: bool,
    /// Does the card say that transmit timestamps are ready?
    pub tx_time_ready: bool,
}

/// Counters of a port, over all programs and the kernel. The card counts in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PortCounters {
    /// Frames sent.
    pub tx: u32,
    /// Good frames delivered.
    pub rx: u32,
    /// Good frames for other MAC addresses, not delivered.
    pub rx_ignored: u32,
    /// Bad frames.
    pub rx_error: u32,
    /// Frames that the card lost for want of bus or memory bandwidth.
    pub rx_dropped: u32,
}
