//! From events to frames: which buffer was filled, how far, and whether the frame is any good.

use linerate_common::{NO_TS, RxFlags, RxMeta};
use linerate_efvi_sys::{
    EF_EVENT_FLAG_CONT, EF_EVENT_FLAG_SOP, EF_EVENT_TYPE_OFLOW, EF_EVENT_TYPE_RESET,
    EF_EVENT_TYPE_RX, EF_EVENT_TYPE_RX_DISCARD, EF_EVENT_TYPE_RX_MULTI,
    EF_EVENT_TYPE_RX_MULTI_DISCARD, EF_EVENT_TYPE_RX_NO_DESC_TRUNC, EF_EVENT_TYPE_SW,
    EF_VI_EVENT_POLL_MIN_EVS, EF_VI_RECEIVE_BATCH, ef_event, ef_precisetime,
};

use super::{EVENTS, Fragment, LOOKS, RingRx, Slot};
use crate::discard::{Discards, Reason};
use crate::session::lost;

impl RingRx {
    /// Has the last poll left something that no window showed yet?
    #[inline]
    pub(super) fn has_stash(&self) -> bool {
        self.event_at < self.event_n || self.merged.at < self.merged.n
    }

    /// Fetches events, if none are left of the last time.
    #[inline]
    pub(super) fn fetch(&mut self, max: usize) -> bool {
        if self.has_stash() {
            return true;
        }
        if self.look_ahead > 0 && self.looks < LOOKS {
            // SAFETY: a live VI.
            let many = unsafe { self.lib.eventq_has_many_events(self.vi, self.look_ahead as i32) };
            if !many {
                self.looks += 1;
                return false;
            }
        }
        self.looks = 0;
        let n = max.clamp(EF_VI_EVENT_POLL_MIN_EVS, EVENTS);
        // SAFETY: a live VI and room for n events.
        let got = unsafe { self.lib.eventq_poll(self.vi, self.events.as_mut_ptr(), n as i32) };
        self.event_at = 0;
        self.event_n = usize::try_from(got).unwrap_or(0).min(n);
        self.event_n > 0
    }

    /// The next good frame among the events fetched.
    // A call would pass the slot through memory: a quarter of what a frame costs.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Slot> {
        loop {
            if self.merged.at < self.merged.n {
                if let Some(slot) = self.next_merged() {
                    return Some(slot);
                }
                continue;
            }
            if self.event_at >= self.event_n {
                return None;
            }
            // The mask spares a check of bounds: `event_n` is at most EVENTS, a power of two.
            let event = self.events[self.event_at & (EVENTS - 1)];
            self.event_at += 1;
            const WHOLE: u32 = EF_EVENT_FLAG_SOP;
            const ENDS: u32 = EF_EVENT_FLAG_SOP | EF_EVENT_FLAG_CONT;
            if event.kind() == EF_EVENT_TYPE_RX && event.rx_flags() & ENDS == WHOLE {
                self.missing += 1;
                let slot = self.whole(event.rq_id(), event.rx_len() as usize);
                if slot.is_some() {
                    return slot;
                }
            } else if let Some(slot) = self.seldom(&event) {
                return Some(slot);
            }
        }
    }

    /// A frame of one buffer; `total` counts the prefix.
    #[inline(always)]
    fn whole(&mut self, id: u32, total: usize) -> Option<Slot> {
        if !self.cache.is_lent(id) || total < self.prefix || total > self.buffer_len {
            self.refuse(id);
            return None;
        }
        let (ts_ns, flags) = self.stamp(id);
        let len = (total - self.prefix) as u32;
        Some(Slot { id, len, meta: RxMeta { ts_ns, wire_len: len, flags, mark: 0 } })
    }

    /// The timestamp that the card put in front of the frame. Valid only until the next poll.
    #[inline]
    fn stamp(&mut self, id: u32) -> (u64, RxFlags) {
        if !self.stamper.is_on() {
            return (NO_TS, RxFlags::NONE);
        }
        let mut ts = ef_precisetime::default();
        let area = self.buffer(id).wrapping_add(self.dma_off);
        // SAFETY: a live VI, and the start of the first buffer of a frame that the last poll
        // reported.
        let rc = unsafe { self.lib.receive_get_timestamp(self.vi, area.cast(), None, &mut ts) };
        self.stamper.stamp(rc, &ts)
    }

    /// An event that cannot be true: counted, and its buffer taken back if it is one of ours.
    #[cold]
    fn refuse(&mut self, id: u32) {
        self.stats.malformed += 1;
        self.cache.free(id);
    }

    /// Everything but a whole frame with an event of its own.
    #[cold]
    fn seldom(&mut self, event: &ef_event) -> Option<Slot> {
        match event.kind() {
            EF_EVENT_TYPE_RX => {
                self.missing += 1;
                let (id, total) = (event.rq_id(), event.rx_len() as usize);
                self.piece(id, event.rx_flags(), total, None)
            }
            EF_EVENT_TYPE_RX_DISCARD => {
                self.missing += 1;
                let (id, total) = (event.rq_id(), event.rx_len() as usize);
                let fault = Reason::of_subtype(event.rx_discard_subtype());
                self.piece(id, event.rx_flags(), total, Some(fault))
            }
            EF_EVENT_TYPE_RX_MULTI => self.unbundle(event, None),
            EF_EVENT_TYPE_RX_MULTI_DISCARD => {
                let fault = Reason::of_subtype(event.rx_multi_discard_subtype());
                self.unbundle(event, Some(fault))
            }
            EF_EVENT_TYPE_RX_NO_DESC_TRUNC => {
                self.drop_held();
                // Where the driver counts these itself its count is the one to use.
                if self.vi_stats.is_empty() {
                    self.stats.no_buffer += 1;
                }
                None
            }
            EF_EVENT_TYPE_OFLOW => self.lose("EF_EVENT_TYPE_OFLOW"),
            EF_EVENT_TYPE_RESET => self.lose("EF_EVENT_TYPE_RESET"),
            EF_EVENT_TYPE_SW => None,
            _ => {
                self.unknown_events += 1;
                None
            }
        }
    }

    /// The card has lost the queue: what follows in the event queue means nothing.
    fn lose(&mut self, op: &'static str) -> Option<Slot> {
        self.lost = Some(lost(op));
        self.event_at = self.event_n;
        None
    }

    /// Takes the ids out of a merged event, which also moves the library's ring on: it must be
    /// done whether or not anybody wants the frames.
    fn unbundle(&mut self, event: &ef_event, fault: Option<Reason>) -> Option<Slot> {
        if event.rx_multi_n_descs() as usize > EF_VI_RECEIVE_BATCH {
            self.unknown_events += 1;
            return None;
        }
        // SAFETY: a live VI, a merged event of at most as many ids as there is room for.
        let n =
            unsafe { (self.lib.vi_receive_unbundle)(self.vi, event, self.merged.ids.as_mut_ptr()) };
        self.missing += event.rx_multi_n_descs();
        self.merged.at = 0;
        self.merged.n = usize::try_from(n).unwrap_or(0).min(EF_VI_RECEIVE_BATCH);
        self.merged.fault = fault;
        // The flag is about the event's first buffer only.
        if event.rx_multi_flags() & EF_EVENT_FLAG_SOP != 0 {
            self.drop_held();
            self.merged.more = 0;
        } else if self.merged.more == 0 {
            // The end of a frame whose beginning we do not have.
            self.merged.more = 1;
        }
        None
    }

    /// The next id of a merged event. Where frames end is known by the length in their metadata.
    #[inline(never)]
    fn next_merged(&mut self) -> Option<Slot> {
        let id = self.merged.ids[self.merged.at] as u32;
        self.merged.at += 1;
        if !self.cache.is_lent(id) {
            self.refuse(id);
            return None;
        }
        if self.merged.more > 0 {
            self.merged.more -= 1;
            self.cache.free(id);
            return if self.merged.more == 0 { self.end_merged() } else { None };
        }
        let Some(total) = self.prefix_len(id) else {
            self.refuse(id);
            return None;
        };
        if total <= self.buffer_len {
            return match self.merged.fault {
                None => self.whole(id, total),
                Some(reason) => self.faulty(id, true, false, total, reason),
            };
        }
        let (ts_ns, flags) = self.stamp(id);
        self.held = Some(Fragment { id, len: total, ts_ns, flags });
        self.merged.more = total.div_ceil(self.buffer_len) as u32 - 1;
        None
    }

    /// The last buffer of a frame of several, in merged events.
    fn end_merged(&mut self) -> Option<Slot> {
        let Some(reason) = self.merged.fault else { return self.cut_short() };
        self.drop_held_silently();
        self.discards.count(reason);
        Discards::lose(&mut self.stats, reason);
        None
    }

    /// The frame's length by the metadata, prefix included.
    fn prefix_len(&self, id: u32) -> Option<usize> {
        let at = self.dma_off + self.length_at?;
        // SAFETY: within the buffer (checked when the queue was opened), which the card has
        // filled and will not touch again.
        let bytes = unsafe { self.buffer(id).add(at).cast::<[u8; 2]>().read() };
        Some(usize::from(u16::from_le_bytes(bytes)) + self.prefix)
    }

    /// One filled buffer of a frame that may have several or a fault. `total` is the frame's
    /// length so far, prefix included.
    fn piece(&mut self, id: u32, flags: u32, total: usize, fault: Option<Reason>) -> Option<Slot> {
        if !self.cache.is_lent(id) {
            self.refuse(id);
            return None;
        }
        let (first, more) = (flags & EF_EVENT_FLAG_SOP != 0, flags & EF_EVENT_FLAG_CONT != 0);
        if first {
            self.drop_held();
        }
        if let Some(reason) = fault {
            return self.faulty(id, first, more, total, reason);
        }
        match (first, more) {
            (true, false) => self.whole(id, total),
            (true, true) => {
                let (ts_ns, flags) = self.stamp(id);
                self.held = Some(Fragment { id, len: total, ts_ns, flags });
                None
            }
            (false, _) => {
                if let Some(held) = &mut self.held {
                    held.len = held.len.max(total);
                }
                self.cache.free(id);
                if more { None } else { self.cut_short() }
            }
        }
    }

    /// The frame has ended whose first buffer is held: that much of it is delivered.
    fn cut_short(&mut self) -> Option<Slot> {
        let Some(Fragment { id, len, ts_ns, flags }) = self.held.take() else {
            self.stats.malformed += 1;
            return None;
        };
        let wire_len = len.saturating_sub(self.prefix) as u32;
        let len = (self.buffer_len - self.prefix).min(wire_len as usize) as u32;
        let flags = flags | RxFlags::TRUNCATED;
        Some(Slot { id, len, meta: RxMeta { ts_ns, wire_len, flags, mark: 0 } })
    }

    /// A buffer of a bad frame.
    fn faulty(
        &mut self,
        id: u32,
        first: bool,
        more: bool,
        total: usize,
        reason: Reason,
    ) -> Option<Slot> {
        if !first {
            self.drop_held_silently();
        }
        if !more {
            self.discards.count(reason);
        }
        let show = self.deliver_bad && first && !more;
        if let (true, Some(flags)) = (show, reason.flags()) {
            let mut slot = self.whole(id, total)?;
            slot.meta.flags |= flags;
            return Some(slot);
        }
        self.cache.free(id);
        if !more {
            Discards::lose(&mut self.stats, reason);
        }
        None
    }

    /// A frame whose end never came.
    fn drop_held(&mut self) {
        if self.held.is_some() {
            self.stats.malformed += 1;
            self.drop_held_silently();
        }
    }

    fn drop_held_silently(&mut self) {
        if let Some(held) = self.held.take() {
            self.cache.free(held.id);
        }
    }
}
