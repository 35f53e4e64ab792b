//! How a card is set up, and what its driver counts.

use super::{Interface, sys};

/// What the driver says about the card's settings (`ethtool -i -g -c -a -l -k -T`). `None` where
/// it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DriverSettings {
    /// Version of the driver; the kernel's own drivers often give the kernel's.
    pub driver_version: Option<String>,
    /// Version of the card's firmware.
    pub firmware: Option<String>,
    /// Slots of a receive ring, now and at most.
    pub rx_ring: Option<(u32, u32)>,
    /// Slots of a transmit ring, now and at most.
    pub tx_ring: Option<(u32, u32)>,
    /// How long the card waits with an interrupt for more frames, in µs.
    pub rx_coalesce_us: Option<u32>,
    /// Does the driver change that by itself?
    pub adaptive_coalescing: Option<bool>,
    /// Does the port obey, and send, pause frames?
    pub pause: Option<(bool, bool)>,
    /// Receive queues, now and at most.
    pub rx_queues: Option<(u32, u32)>,
    /// Does the kernel merge received frames (generic receive offload)?
    pub gro: Option<bool>,
    /// Does the card merge received frames (large receive offload)?
    pub lro: Option<bool>,
    /// Is steering by rules (ntuple filters) on?
    pub ntuple: Option<bool>,
    /// Can the card stamp received frames?
    pub hardware_stamps: Option<bool>,
    /// The card's clock: N of `/dev/ptpN`.
    pub ptp_clock: Option<u32>,
}

impl Interface {
    /// The card's settings as of now. Needs no rights.
    #[must_use]
    pub fn driver_settings(&self) -> DriverSettings {
        sys::Control::open().map(|socket| socket.settings(&self.name)).unwrap_or_default()
    }

    /// Every counter of the driver by its own name (`ethtool -S`), as of now; empty where it has
    /// none. Needs no rights. Drivers with many queues have thousands, and some ask the card for
    /// them: not for hot paths.
    #[must_use]
    pub fn driver_counters(&self) -> Vec<(String, u64)> {
        let socket = sys::Control::open();
        socket.and_then(|socket| socket.counters(&self.name)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use linerate_lab::lab_or_skip;

    #[test]
    fn a_veth_has_counters_and_settings() {
        let lab = lab_or_skip!();
        let (before, settings, after) = lab.in_a(|| {
            let v0 = crate::interface::named("v0").expect("the lab has v0");
            let before = v0.driver_counters();
            (before, v0.driver_settings(), v0.driver_counters())
        });
        assert!(before.iter().any(|(name, n)| name == "peer_ifindex" && *n > 0), "{before:?}");
        assert_eq!(before.len(), after.len());
        assert!(settings.gro.is_some() && settings.lro == Some(false), "{settings:?}");
        assert_eq!(settings.rx_queues.map(|(now, _)| now > 0), Some(true), "{settings:?}");
        assert_eq!(settings.rx_ring, None, "a veth has no ring: {settings:?}");
    }

    #[test]
    fn the_loopback_interface_says_little() {
        let lo = crate::interface::named("lo").expect("every machine has lo");
        assert_eq!(lo.driver_counters(), []);
        assert_eq!(lo.driver_settings().firmware, None);
    }
}
