//! From what the hardware wrote to what the library tells.

use linerate_efvi_sys as sys;
use linerate_efvi_sys::ef_event;

use super::{Hw, Vi, ViState};
use crate::efvi::card::Discard;

impl Vi {
    pub(super) fn translate(&self, s: &mut ViState, event: Hw) -> ef_event {
        match event {
            Hw::Rx { total, flags, fault, at, ts_ns } => {
                let slot = s.rx[(s.index.rx_removed & s.rx_mask) as usize];
                s.index.rx_removed = s.index.rx_removed.wrapping_add(1);
                s.stampable.push((at, ts_ns));
                let kind = match fault {
                    None => sys::EF_EVENT_TYPE_RX,
                    Some(_) => sys::EF_EVENT_TYPE_RX_DISCARD,
                };
                ef_event::new(kind, 0)
                    .with(32, 32, slot.id as u32)
                    .with(64, 16, total)
                    .with(80, 16, flags)
                    .with(96, 16, fault.map_or(0, subtype))
            }
            Hw::Multi(m) => {
                s.stampable.extend(&m.stamps);
                let kind = match m.fault {
                    None => sys::EF_EVENT_TYPE_RX_MULTI,
                    Some(_) => sys::EF_EVENT_TYPE_RX_MULTI_DISCARD,
                };
                ef_event::new(kind, 0).with(32, 16, m.n).with(48, 16, m.flags).with(
                    64,
                    16,
                    m.fault.map_or(0, subtype),
                )
            }
            Hw::NoDescriptor => ef_event::new(sys::EF_EVENT_TYPE_RX_NO_DESC_TRUNC, 0),
            Hw::Ref { id, len, filter, fault } => {
                let kind = match fault {
                    None => sys::EF_EVENT_TYPE_RX_REF,
                    Some(_) => sys::EF_EVENT_TYPE_RX_REF_DISCARD,
                };
                ef_event::new(kind, 0)
                    .with(16, 16, len)
                    .with(32, 32, id)
                    .with(64, 8, 0)
                    .with(72, 16, filter)
                    .with(96, 16, fault.map_or(0, discard_flags))
            }
            Hw::Tx { upto, ctpio } => {
                self.free_fifo(s, upto.wrapping_sub(s.tx_sent));
                s.tx_sent = upto;
                ef_event::new(sys::EF_EVENT_TYPE_TX, 0).with(24, 4, u32::from(ctpio)).with(
                    32,
                    16,
                    upto & 0xffff,
                )
            }
            Hw::TxStamp { ctpio, ts_ns } => {
                self.free_fifo(s, 1);
                s.tx_sent = s.tx_sent.wrapping_add(1);
                s.index.tx_removed = s.index.tx_removed.wrapping_add(1);
                let id = s.tx_ids.pop_front().unwrap_or(-1);
                let synced = 2 * u32::from(self.card.settings.clock_synced) + 1;
                ef_event::new(sys::EF_EVENT_TYPE_TX_WITH_TIMESTAMP, 0)
                    .with(24, 4, u32::from(ctpio))
                    .with(32, 32, id as u32)
                    .with_tx_ts(
                        (ts_ns / 1_000_000_000) as u32,
                        (ts_ns % 1_000_000_000) as u32,
                        synced,
                    )
            }
            Hw::TxError => ef_event::new(sys::EF_EVENT_TYPE_TX_ERROR, 0)
                .with(32, 16, s.index.tx_added & 0xffff)
                .with(64, 16, sys::EF_EVENT_TX_ERROR_BUS),
            Hw::Alternative(alt) => ef_event::new(sys::EF_EVENT_TYPE_TX_ALT, 0).with(32, 16, alt),
            Hw::Overflow => ef_event::new(sys::EF_EVENT_TYPE_OFLOW, 0),
            Hw::Reset => ef_event::new(sys::EF_EVENT_TYPE_RESET, 0),
            Hw::Foreign(event) => event,
        }
    }

    fn free_fifo(&self, s: &mut ViState, frames: u32) {
        for _ in 0..frames {
            let size = s.tx_sizes.pop_front().unwrap_or(0);
            s.index.ct_removed = s.index.ct_removed.wrapping_add(size);
        }
    }
}

fn subtype(reason: Discard) -> u32 {
    match reason {
        Discard::Checksum => sys::EF_EVENT_RX_DISCARD_CSUM_BAD,
        Discard::MulticastMismatch => sys::EF_EVENT_RX_DISCARD_MCAST_MISMATCH,
        Discard::Crc => sys::EF_EVENT_RX_DISCARD_CRC_BAD,
        Discard::Truncated => sys::EF_EVENT_RX_DISCARD_TRUNC,
        Discard::Rights => sys::EF_EVENT_RX_DISCARD_RIGHTS,
        Discard::EventError => sys::EF_EVENT_RX_DISCARD_EV_ERROR,
        Discard::Other => sys::EF_EVENT_RX_DISCARD_OTHER,
        Discard::InnerChecksum => sys::EF_EVENT_RX_DISCARD_INNER_CSUM_BAD,
    }
}

fn discard_flags(reason: Discard) -> u32 {
    match reason {
        Discard::Crc => sys::EF_VI_DISCARD_RX_ETH_FCS_ERR,
        Discard::Truncated => sys::EF_VI_DISCARD_RX_ETH_LEN_ERR,
        Discard::Checksum => sys::EF_VI_DISCARD_RX_L4_CSUM_ERR,
        Discard::InnerChecksum => sys::EF_VI_DISCARD_RX_INNER_L4_CSUM_ERR,
        _ => sys::EF_VI_DISCARD_RX_L2_CLASS_OTHER,
    }
}
