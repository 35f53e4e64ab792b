//! The calls of the send half: requests, doorbells and alternatives.

use libc::c_int;
use linerate_efvi_sys::ef_event;
use linerate_efvi_sys::inject::Indices;

use super::{Alternative, Source, TxEntry, Vi};

impl Vi {
    /// `ef_vi_transmit_init` and its kin. `false`: no room.
    pub(in crate::efvi) fn queue(&self, source: Source, id: c_int, ctpio: bool) -> bool {
        let mut s = self.lock();
        let (Source::Dma { len, .. } | Source::Pio { len, .. }) = source;
        if s.warming || s.index.tx_added.wrapping_sub(s.index.tx_removed) >= s.tx_mask {
            return false;
        }
        let size = fifo_bytes(len);
        s.index.ct_added = s.index.ct_added.wrapping_add(size);
        s.tx_sizes.push_back(size);
        s.index.tx_added = s.index.tx_added.wrapping_add(1);
        s.tx_ids.push_back(id);
        let alternative = s.selected;
        s.tx.push_back(TxEntry { source, pushed: false, ctpio, alternative });
        true
    }

    /// `ef_vi_transmit_init_undo`.
    pub(in crate::efvi) fn unqueue(&self) {
        let mut s = self.lock();
        if s.tx.back().is_some_and(|entry| !entry.pushed) {
            s.tx.pop_back();
            s.tx_ids.pop_back();
            let size = s.tx_sizes.pop_back().unwrap_or(0);
            s.index.ct_added = s.index.ct_added.wrapping_sub(size);
            s.index.tx_added = s.index.tx_added.wrapping_sub(1);
        }
    }

    /// `ef_vi_transmit_push`.
    pub(in crate::efvi) fn transmit_doorbell(&self) {
        self.lock().tx.iter_mut().for_each(|entry| entry.pushed = true);
        self.card.ring();
    }

    /// `ef_vi_transmit_unbundle`.
    pub(in crate::efvi) fn transmit_unbundle(&self, event: &ef_event, ids: &mut [c_int]) -> usize {
        let mut s = self.lock();
        let mut n = 0;
        while n < ids.len() && s.index.tx_removed & 0xffff != event.tx_desc_id() {
            let Some(id) = s.tx_ids.pop_front() else { break };
            ids[n] = id;
            n += 1;
            s.index.tx_removed = s.index.tx_removed.wrapping_add(1);
        }
        n
    }

    /// `__ef_vi_reinit_txq_post_error`.
    pub(in crate::efvi) fn restart_transmit(&self) {
        let mut s = self.lock();
        (s.tx, s.tx_ids, s.tx_sizes) = Default::default();
        s.done.clear();
        s.tx_sent = 0;
        let Indices { rx_added, rx_removed, evq_ptr, .. } = s.index;
        s.index = Indices { rx_added, rx_removed, evq_ptr, ..Indices::default() };
    }

    pub(in crate::efvi) fn make_alternatives(&self, n: usize) {
        self.lock().alternatives = (0..n).map(|_| Alternative::default()).collect();
    }

    pub(in crate::efvi) fn alternatives(&self) -> usize {
        self.lock().alternatives.len()
    }

    pub(in crate::efvi) fn select(&self, alt: Option<usize>) -> bool {
        let mut s = self.lock();
        let known = alt.is_none_or(|alt| alt < s.alternatives.len());
        if known {
            s.selected = alt;
        }
        known
    }

    /// Stop, go or discard. `false`: there is no such alternative, or not now.
    pub(in crate::efvi) fn set_alternative(
        &self,
        alt: usize,
        going: bool,
        discarding: bool,
    ) -> bool {
        let mut s = self.lock();
        let busy = s.tx.iter().any(|e| e.alternative == Some(alt));
        let Some(a) = s.alternatives.get_mut(alt) else { return false };
        if !going && !discarding && a.going && (busy || !a.held.is_empty()) {
            return false;
        }
        (a.going, a.discarding) = (going, discarding);
        if discarding {
            a.held.clear();
        }
        drop(s);
        self.card.ring();
        true
    }
}

/// Bytes of the send FIFO that a frame takes: whole lines, with a header.
fn fifo_bytes(len: usize) -> u32 {
    (len + 8).next_multiple_of(64) as u32
}
