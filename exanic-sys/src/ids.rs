//! Names and bits: models, functions, capabilities, port status, hashing.

/// Name of a model by its hardware id (`exanic_hardware_id_str`).
#[must_use]
pub const fn hardware_name(id: u32) -> Option<&'static str> {
    Some(match id {
        2 => "ExaNIC X4",
        3 => "ExaNIC X2",
        4 => "ExaNIC X10",
        5 => "ExaNIC X10-GM",
        6 => "ExaNIC X40",
        7 => "ExaNIC X10-HPT",
        8 => "ExaNIC V5P",
        9 => "ExaNIC X25",
        10 => "ExaNIC X100",
        11 => "ExaNIC V9P",
        12 => "ExaNIC V9P-3",
        _ => return None,
    })
}

/// What a card is used as (`exanic_function_id_t`).
pub mod function {
    /// A network interface.
    pub const NIC: u32 = 0;
    /// A firewall.
    pub const FIREWALL: u32 = 1;
    /// A forwarding device.
    pub const FORWARDER: u32 = 2;
    /// Customer logic beside a network interface (FDK).
    pub const DEVKIT: u32 = 3;
    /// A PTP grandmaster.
    pub const PTP_GM: u32 = 4;
    /// The recovery image.
    pub const RECOVERY: u32 = 0x8000_0000;

    /// In words (`exanic_function_id_str`).
    #[must_use]
    pub const fn name(id: u32) -> Option<&'static str> {
        Some(match id {
            NIC => "network interface",
            FIREWALL => "firewall",
            FORWARDER => "forwarding device",
            DEVKIT => "customer application",
            PTP_GM => "PTP grandmaster",
            RECOVERY => "recovery image",
            _ => return None,
        })
    }
}

/// Capability bits of a card.
pub mod caps {
    /// The clock has 64 bits in registers.
    pub const HW_TIME_HI: u32 = 0x100;
    /// 1 Gb/s.
    pub const SPEED_1G: u32 = 0x0200_0000;
    /// 10 Gb/s.
    pub const SPEED_10G: u32 = 0x0400_0000;
    /// 40 Gb/s.
    pub const SPEED_40G: u32 = 0x0800_0000;
    /// 100 Gb/s.
    pub const SPEED_100G: u32 = 0x1000_0000;
    /// 25 Gb/s.
    pub const SPEED_25G: u32 = 0x2000_0000;
}

/// Status bits of a port.
pub mod port_status {
    /// Administratively up.
    pub const ENABLED: u32 = 1;
    /// A module is in the cage.
    pub const SFP: u32 = 2;
    /// The module sees a signal.
    pub const SIGNAL: u32 = 4;
    /// The link is up.
    pub const LINK: u32 = 8;
    /// Auto-negotiation is complete.
    pub const AUTONEG_DONE: u32 = 0x10;
    /// Receive timestamps are not ready.
    pub const RX_TIME_BAD: u32 = 0x20;
    /// Transmit timestamps are not ready.
    pub const TX_TIME_BAD: u32 = 0x40;
    /// The port cannot receive.
    pub const RX_UNSUPPORTED: u32 = 0x0100_0000;
    /// The port cannot send.
    pub const TX_UNSUPPORTED: u32 = 0x0200_0000;
    /// There is no such port.
    pub const NOT_IMPLEMENTED: u32 = 0x8000_0000;
}

/// Flag bits of a port.
pub mod port_flags {
    /// Frames for every MAC address are received.
    pub const PROMISCUOUS: u32 = 1;
    /// Short frames are not padded to 60 bytes.
    pub const DISABLE_TX_PADDING: u32 = 0x20;
    /// No frame check sequence is appended.
    pub const DISABLE_TX_CRC: u32 = 0x40;
}

/// What a flow is hashed over (`EXANIC_RX_HASH_FUNCTION_*`).
pub mod hash {
    /// Ports.
    pub const PORT: i32 = 0;
    /// Addresses.
    pub const IP: i32 = 1;
    /// Addresses and ports.
    pub const PORT_IP: i32 = 2;
}

/// How a MAC rule treats VLAN tags (`EXANIC_VLAN_MATCH_METHOD_*`).
pub mod vlan_match {
    /// Tagged or not.
    pub const ALL: i32 = 0;
    /// One VLAN.
    pub const SPECIFIC: i32 = 1;
    /// Untagged frames only.
    pub const NOT_VLAN: i32 = 2;
    /// Any VLAN, but tagged.
    pub const ALL_VLAN: i32 = 3;
}
