//! The calls of the receive half: buffers posted, references looked up and released.

use libc::c_int;
use linerate_efvi_sys::ef_event;

use super::{Hw, RxSlot, Vi};

impl Vi {
    /// `ef_vi_receive_init`. `false`: the ring is full.
    pub(in crate::efvi) fn post(&self, addr: u64, len: usize, id: c_int) -> bool {
        let mut s = self.lock();
        if s.index.rx_added.wrapping_sub(s.index.rx_removed) >= s.rx_mask {
            return false;
        }
        let (at, mask) = (s.index.rx_added, s.rx_mask);
        s.rx[(at & mask) as usize] = RxSlot { addr, len, id };
        s.index.rx_added = at.wrapping_add(1);
        true
    }

    /// `ef_vi_receive_push`: full eights only.
    pub(in crate::efvi) fn receive_doorbell(&self) {
        let mut s = self.lock();
        s.rx_door = s.index.rx_added & !7;
    }

    /// `ef_vi_receive_unbundle`.
    pub(in crate::efvi) fn receive_unbundle(&self, event: &ef_event, ids: &mut [c_int]) -> usize {
        let mut s = self.lock();
        let n = (event.rx_multi_n_descs() as usize).min(ids.len());
        for id in &mut ids[..n] {
            let slot = s.rx[(s.index.rx_removed & s.rx_mask) as usize];
            s.index.rx_removed = s.index.rx_removed.wrapping_add(1);
            *id = slot.id;
        }
        n
    }

    /// `efct_vi_rxpkt_get`.
    pub(in crate::efvi) fn packet(&self, id: u32) -> Option<*const u8> {
        self.lock().packets.get(&id).map(|p| p.bytes.as_ptr())
    }

    /// When a frame of `packet` arrived.
    pub(in crate::efvi) fn packet_time(&self, at: *const u8) -> Option<u64> {
        self.lock().packets.values().find(|p| p.bytes.as_ptr() == at).map(|p| p.ts_ns)
    }

    /// `efct_vi_rxpkt_release`. `false`: it is not out.
    pub(in crate::efvi) fn release_packet(&self, id: u32) -> bool {
        self.lock().packets.remove(&id).is_some()
    }

    /// `efct_vi_rx_future_peek`: the frame that comes next, perhaps still arriving.
    pub(in crate::efvi) fn peek(&self) -> Option<*const u8> {
        let s = self.lock();
        let next = match s.events.front() {
            Some(Hw::Ref { id, .. }) => Some(*id),
            Some(_) => None,
            None => match &s.arriving {
                Some(Hw::Ref { id, .. }) => Some(*id),
                _ => None,
            },
        };
        next.and_then(|id| s.packets.get(&id)).map(|p| p.bytes.as_ptr())
    }
}
