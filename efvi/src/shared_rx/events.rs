//! From events to frames: where a reference points, and whether the frame is any good.

use linerate_common::{NO_TS, RxFlags, RxMeta};
use linerate_efvi_sys::{
    EF_EVENT_TYPE_OFLOW, EF_EVENT_TYPE_RESET, EF_EVENT_TYPE_RX_REF, EF_EVENT_TYPE_RX_REF_DISCARD,
    EF_EVENT_TYPE_SW, EF_VI_EVENT_POLL_MIN_EVS, ef_event, ef_precisetime,
};

use super::{EVENTS, MAX_FRAME, SharedRx, Slot};
use crate::discard::{Discards, Reason};
use crate::session::lost;

impl SharedRx {
    #[inline]
    pub(super) fn fetched(&mut self, got: i32, room: usize) -> bool {
        if got <= 0 {
            return false;
        }
        self.event_at = 0;
        self.event_n = (got as usize).min(room);
        true
    }

    #[inline]
    pub(super) fn fetch(&mut self, max: usize) -> bool {
        if self.event_at < self.event_n {
            return true;
        }
        let n = max.clamp(EF_VI_EVENT_POLL_MIN_EVS, EVENTS);
        // SAFETY: a live VI and room for n events.
        let got = unsafe { self.lib.eventq_poll(self.vi, self.events.as_mut_ptr(), n as i32) };
        self.fetched(got, n)
    }

    /// The next good frame among the events fetched, of any kind.
    #[inline(never)]
    pub(super) fn next(&mut self) -> Option<Slot> {
        while self.event_at < self.event_n {
            // The mask spares a check of bounds: `event_n` is at most EVENTS, a power of two.
            let event = self.events[self.event_at & (EVENTS - 1)];
            self.event_at += 1;
            let slot = if event.kind() == EF_EVENT_TYPE_RX_REF {
                self.frame_of(&event, RxFlags::NONE)
            } else {
                self.seldom(&event)
            };
            if let Some(slot) = slot {
                self.stats.frames += 1;
                self.stats.bytes += u64::from(slot.len);
                self.stats.flagged += u64::from(slot.meta.flags.contains(RxFlags::BAD));
                return Some(slot);
            }
        }
        None
    }

    pub(super) fn frame_of(&mut self, event: &ef_event, extra: RxFlags) -> Option<Slot> {
        let (pkt_id, len) = (event.rx_ref_pkt_id(), event.rx_ref_len());
        // SAFETY: a live VI and a reference that was not released yet.
        let start = unsafe { (self.lib.efct_vi_rxpkt_get)(self.vi, pkt_id) }.cast::<u8>();
        if start.is_null() || len as usize > MAX_FRAME {
            self.stats.malformed += 1;
            self.give_back(pkt_id);
            return None;
        }
        let (ts_ns, flags) = self.stamp(start, pkt_id);
        let mark = event.rx_ref_filter_id();
        let meta = RxMeta { ts_ns, wire_len: len, flags: flags | extra, mark };
        let slot = Slot { pkt_id, len, start, meta };
        if self.own_flows_only && !self.is_ours(&slot) {
            self.stats.filtered += 1;
            self.give_back(pkt_id);
            return None;
        }
        Some(slot)
    }

    pub(super) fn stamp(&mut self, start: *const u8, pkt_id: u32) -> (u64, RxFlags) {
        if !self.stamper.is_on() {
            return (NO_TS, RxFlags::NONE);
        }
        let mut ts = ef_precisetime::default();
        // SAFETY: a live VI and a frame of it that was not released yet.
        let rc =
            unsafe { self.lib.receive_get_timestamp(self.vi, start.cast(), Some(pkt_id), &mut ts) };
        self.stamper.stamp(rc, &ts)
    }

    #[cold]
    pub(super) fn is_ours(&self, slot: &Slot) -> bool {
        // SAFETY: the slot is not released yet.
        let frame = unsafe { slot.frame() };
        self.flows.iter().any(|flow| flow.matches(frame.bytes))
    }

    #[inline]
    pub(super) fn give_back(&mut self, pkt_id: u32) {
        // SAFETY: a live VI, and each reference is given back once: by whoever takes it out of
        // the events or the window.
        unsafe { (self.lib.efct_vi_rxpkt_release)(self.vi, pkt_id) };
    }

    pub(super) fn seldom(&mut self, event: &ef_event) -> Option<Slot> {
        match event.kind() {
            EF_EVENT_TYPE_RX_REF_DISCARD => {
                let reason = Reason::of_flags(event.rx_ref_discard_flags());
                self.discards.count(reason);
                if let (true, Some(flags)) = (self.deliver_bad, reason.flags()) {
                    return self.frame_of(event, flags);
                }
                Discards::lose(&mut self.stats, reason);
                self.give_back(event.rx_ref_pkt_id());
            }
            EF_EVENT_TYPE_OFLOW => self.lose("EF_EVENT_TYPE_OFLOW"),
            EF_EVENT_TYPE_RESET => self.lose("EF_EVENT_TYPE_RESET"),
            EF_EVENT_TYPE_SW => {}
            _ => self.unknown_events += 1,
        }
        None
    }

    /// The card has lost the queue. References in events after this one went with it.
    pub(super) fn lose(&mut self, op: &'static str) {
        self.lost = Some(lost(op));
        self.event_at = self.event_n;
    }
}
