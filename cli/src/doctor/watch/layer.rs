//! The places between wire and application where frames are lost.

use serde::Serialize;

/// From the wire inwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Layer {
    /// Damaged before the card understood them.
    Wire,
    /// In the card, for want of room or bus.
    Card,
    /// No rule wanted them.
    Steering,
    /// The card found no buffer in the receive ring.
    Ring,
    /// The driver.
    Driver,
    /// Between driver and sockets, for want of CPU.
    Softirq,
    /// An AF_XDP socket.
    AfXdp,
    /// A UDP socket's buffer.
    UdpSocket,
    /// The ring or socket that a linerate port reads.
    Port,
    /// The queue between a capture's receive loop and its file.
    Writer,
}

impl Layer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Card => "card",
            Self::Steering => "steering",
            Self::Ring => "ring",
            Self::Driver => "driver",
            Self::Softirq => "softirq",
            Self::AfXdp => "af_xdp",
            Self::UdpSocket => "udp_socket",
            Self::Port => "port",
            Self::Writer => "writer",
        }
    }

    /// What usually helps.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Wire => "frames arrive damaged: check optics, cable, and the sender",
            Self::Card => "host or bus are too slow for the card: PCIe width, pause, NUMA node",
            Self::Steering => "no rule matched: is the group joined, is the flow the right one?",
            Self::Ring => "the ring is refilled too late: larger ring (ethtool -G), isolated CPU",
            Self::Driver => "the driver dropped them: `doctor PORT` shows its settings",
            Self::Softirq => {
                "the CPU is behind: net.core.netdev_max_backlog, netdev_budget, more queues"
            }
            Self::AfXdp => "its reader is too slow, or its rings are small: ring_slots=, --cpu",
            Self::UdpSocket => "its reader is too slow for its buffer: rcvbuf=, net.core.rmem_max",
            Self::Port => "the receive loop is too slow for its ring: larger ring, --cpu, --loop",
            Self::Writer => "the disk is too slow: --buffer, a faster disk, --snaplen",
        }
    }

    /// Where a driver's counter of this name counts; `None` when it counts no loss. The names
    /// are those of mlx5, sfc, exanic, ixgbe, i40e, ice, ena, virtio and veth.
    pub(super) fn of_driver_counter(name: &str) -> Option<Self> {
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        // What is sent has layers of its own, and names like `tx_xdp_drops` are not ours.
        if name.starts_with("tx") || has(&["_tx_", ".tx"]) {
            return None;
        }
        if has(&[
            "crc",
            "symbol",
            "bad_",
            "_bad",
            "fcs",
            "jabber",
            "undersize",
            "align",
            "in_range_len",
        ]) {
            Some(Self::Wire)
        } else if has(&[
            "out_of_buffer",
            "nodesc",
            "no_desc",
            "no_dma",
            "alloc_fail",
            "buff_alloc",
            "alloc_rx_buff",
        ]) {
            Some(Self::Ring)
        } else if has(&["mismatch", "steer_missed", "nomatch"]) {
            Some(Self::Steering)
        } else if has(&["discards_phy", "pm_discard", "overflow", "_discards", "missed", "fifo"]) {
            Some(Self::Card)
        } else if has(&["drop", "discard"]) && !has(&["xdp_drops", "drop_count_ok"]) {
            Some(Self::Driver)
        } else {
            None
        }
    }

    /// Where a loss that a linerate port names happens.
    pub(super) fn of_reason(reason: &str) -> Self {
        match reason {
            "writer_queue_full" => Self::Writer,
            "no_buffer" => Self::Ring,
            "card_drop" => Self::Card,
            "crc" | "malformed" | "truncated" => Self::Wire,
            "filtered" => Self::Steering,
            _ => Self::Port,
        }
    }
}

/// A counter that grew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
    pub(super) layer: Layer,
    /// Its name, as its owner calls it.
    pub(super) counter: String,
    /// Interface, CPU, socket or program.
    pub(super) place: String,
    pub(super) frames: u64,
    /// Counts something that is no loss by itself.
    pub(super) only_a_sign: bool,
}

impl Loss {
    pub(super) fn is_loss(&self) -> bool {
        !self.only_a_sign
    }
}

/// The layer that lost most. One loss shows in several counters where layers count what those
/// below them lost: of equals, the one nearest to the wire is the cause.
pub(super) fn worst(losses: &[Loss]) -> Option<Layer> {
    let mut layers: Vec<Layer> = losses.iter().map(|loss| loss.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let lost = |layer: Layer| -> u64 {
        losses.iter().filter(|loss| loss.layer == layer).map(|loss| loss.frames).sum()
    };
    layers.into_iter().rev().max_by_key(|layer| lost(*layer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_known_drivers_have_their_layer() {
        for (name, layer) in [
            ("rx_crc_errors_phy", Some(Layer::Wire)),
            ("port_rx_bad", Some(Layer::Wire)),
            ("rx_out_of_buffer", Some(Layer::Ring)),
            ("port_rx_nodesc_drops", Some(Layer::Ring)),
            ("rx_discards_phy", Some(Layer::Card)),
            ("port_rx_pm_discard_bb_overflow", Some(Layer::Card)),
            ("rx_steer_missed_packets", Some(Layer::Steering)),
            ("rx_mcast_mismatch", Some(Layer::Steering)),
            ("rx_queue_0_drops", Some(Layer::Driver)),
            ("rx_queue_0_xdp_drops", None),
            ("rx_packets_phy", None),
            ("tx_queue_0_xdp_xmit_errors", None),
            ("tx_dropped", None),
        ] {
            assert_eq!(Layer::of_driver_counter(name), layer, "{name}");
        }
    }

    #[test]
    fn the_layer_that_lost_most_is_named_and_of_equals_the_outer() {
        let loss = |layer, frames| Loss {
            layer,
            counter: "c".into(),
            place: "p".into(),
            frames,
            only_a_sign: false,
        };
        assert_eq!(worst(&[]), None);
        assert_eq!(worst(&[loss(Layer::Port, 5), loss(Layer::Ring, 4)]), Some(Layer::Port));
        assert_eq!(worst(&[loss(Layer::Port, 5), loss(Layer::Ring, 5)]), Some(Layer::Ring));
        let several = [loss(Layer::Writer, 3), loss(Layer::Writer, 3), loss(Layer::Ring, 5)];
        assert_eq!(worst(&several), Some(Layer::Writer));
    }
}
