//! From events to frames: which buffer was filled, how far, and whether the frame is any good.

use linerate_common::{NO_TS, RxFlags, RxMeta};
use linerate_efvi_sys::{
    EF_EVENT_TYPE_OFLOW, EF_EVENT_TYPE_RESET, EF_EVENT_TYPE_RX, EF_EVENT_TYPE_RX_DISCARD,
    EF_EVENT_TYPE_RX_MULTI, EF_EVENT_TYPE_RX_MULTI_DISCARD, EF_EVENT_TYPE_RX_NO_DESC_TRUNC,
    EF_EVENT_TYPE_SW, EF_VI_EVENT_POLL_MIN_EVS, ef_precisetime,
};

use super::{EVENTS, LOOKS, RingRx, Slot};
use crate::discard::Reason;
use crate::session::lost;

impl RingRx {
    /// Has the last poll left something that no window showed yet?
    #[inline]
    pub(super) fn has_stash(&self) -> bool {
        self.event_at < self.event_n || self.merged.is_pending()
    }

    /// Fetches events, if none are left of the last time.
    #[inline]
    pub(super) fn fetch(&mut self, max: usize) -> bool {
        if self.has_stash() {
            return true;
        }
        if self.look_ahead > 0 && self.waits_for_more() {
            return false;
        }
        let n = max.clamp(EF_VI_EVENT_POLL_MIN_EVS, EVENTS);
        // SAFETY: a live VI and room for n events.
        let got = unsafe { self.lib.eventq_poll(self.vi, self.events.as_mut_ptr(), n as i32) };
        if got <= 0 {
            return false;
        }
        self.event_at = 0;
        self.event_n = (got as usize).min(n);
        self.event_end = self.event_n;
        true
    }

    /// Are there too few events yet, and have not been for long?
    fn waits_for_more(&mut self) -> bool {
        // SAFETY: a live VI.
        let many = || unsafe { self.lib.eventq_has_many_events(self.vi, self.look_ahead as i32) };
        if self.looks < LOOKS && !many() {
            self.looks += 1;
            return true;
        }
        self.looks = 0;
        false
    }

    /// The next good frame among the events fetched, of any kind.
    #[inline(never)]
    pub(super) fn next(&mut self) -> Option<Slot> {
        while self.has_stash() {
            let slot =
                if self.event_at >= self.event_end { self.next_merged() } else { self.event() };
            if let Some(slot) = slot {
                self.stats.frames += 1;
                self.stats.bytes += u64::from(slot.len);
                return Some(slot);
            }
        }
        None
    }

    /// A frame of one buffer; `total` counts the prefix. One that cannot be that long is counted.
    pub(super) fn whole(&mut self, place: u32, id: u32, total: usize) -> Option<Slot> {
        let Some(len) = total.checked_sub(self.prefix).filter(|len| *len <= self.max_len) else {
            self.stats.malformed += 1;
            return None;
        };
        let area = self.area(id);
        let (ts_ns, flags) = self.stamp(area);
        let (start, len) = (area.wrapping_add(self.prefix), len as u32);
        Some(Slot { start, place, len, meta: RxMeta { ts_ns, wire_len: len, flags, mark: 0 } })
    }

    /// The timestamp that the card put in front of the frame. Valid only until the next poll.
    pub(super) fn stamp(&mut self, area: *const u8) -> (u64, RxFlags) {
        if !self.stamper.is_on() {
            return (NO_TS, RxFlags::NONE);
        }
        let mut ts = ef_precisetime::default();
        // SAFETY: a live VI, and the start of the first buffer of a frame that the last poll
        // reported.
        let rc = unsafe { self.lib.receive_get_timestamp(self.vi, area.cast(), None, &mut ts) };
        self.stamper.stamp(rc, &ts)
    }

    /// One event.
    fn event(&mut self) -> Option<Slot> {
        // The mask spares a check of bounds: `event_n` is at most EVENTS, a power of two.
        let event = self.events[self.event_at & (EVENTS - 1)];
        self.event_at += 1;
        match event.kind() {
            EF_EVENT_TYPE_RX => {
                let (id, total) = (event.rq_id(), event.rx_len() as usize);
                return self.piece(id, event.rx_flags(), total, None);
            }
            EF_EVENT_TYPE_RX_DISCARD => {
                let (id, total) = (event.rq_id(), event.rx_len() as usize);
                let fault = Reason::of_subtype(event.rx_discard_subtype());
                return self.piece(id, event.rx_flags(), total, Some(fault));
            }
            EF_EVENT_TYPE_RX_MULTI => self.unbundle(&event, None),
            EF_EVENT_TYPE_RX_MULTI_DISCARD => {
                let fault = Reason::of_subtype(event.rx_multi_discard_subtype());
                self.unbundle(&event, Some(fault));
            }
            EF_EVENT_TYPE_RX_NO_DESC_TRUNC => {
                self.drop_held();
                // Where the driver counts these itself its count is the one to use.
                if self.vi_stats.is_empty() {
                    self.stats.no_buffer += 1;
                }
            }
            EF_EVENT_TYPE_OFLOW => self.lose("EF_EVENT_TYPE_OFLOW"),
            EF_EVENT_TYPE_RESET => self.lose("EF_EVENT_TYPE_RESET"),
            EF_EVENT_TYPE_SW => {}
            _ => self.unknown_events += 1,
        }
        None
    }

    /// The card has lost the queue: what follows in the event queue means nothing.
    fn lose(&mut self, op: &'static str) {
        self.lost = Some(lost(op));
        self.event_at = self.event_n;
    }

    /// Where the buffer is in the ring's order that an event names. `None`, and counted: the card
    /// does not have it.
    pub(super) fn filled(&mut self, id: u32) -> Option<u32> {
        let place = self.order.filled(id);
        self.stats.malformed += u64::from(place.is_none());
        place.map(|place| place as u32)
    }
}
