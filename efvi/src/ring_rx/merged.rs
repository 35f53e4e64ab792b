//! Merged events: one stands for up to fifteen buffers.

use linerate_efvi_sys::{
    EF_EVENT_FLAG_SOP, EF_VI_LAYOUT_PACKET_LENGTH, EF_VI_RECEIVE_BATCH, ef_event, ef_request_id,
};

use super::{RingRx, Slot};
use crate::discard::{Discards, Reason};
use crate::session::Session;

/// Ids that one merged event stands for.
#[derive(Debug, Default)]
pub(super) struct Merged {
    ids: [ef_request_id; EF_VI_RECEIVE_BATCH],
    at: usize,
    n: usize,
    fault: Option<Reason>,
    /// Buffers still to come of the frame that began last.
    more: u32,
}

impl Merged {
    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        self.at < self.n
    }
}

impl RingRx {
    /// Takes the ids out of a merged event, which also moves the library's ring on: it must be
    /// done whether or not anybody wants the frames.
    pub(super) fn unbundle(&mut self, event: &ef_event, fault: Option<Reason>) {
        if event.rx_multi_n_descs() as usize > EF_VI_RECEIVE_BATCH {
            self.unknown_events += 1;
            return;
        }
        // SAFETY: a live VI, a merged event of at most as many ids as there is room for.
        let n =
            unsafe { (self.lib.vi_receive_unbundle)(self.vi, event, self.merged.ids.as_mut_ptr()) };
        self.merged.at = 0;
        self.merged.n = usize::try_from(n).unwrap_or(0).min(EF_VI_RECEIVE_BATCH);
        self.merged.fault = fault;
        // These come before the events after them.
        if self.merged.is_pending() {
            self.event_end = self.event_at;
        }
        // The flag is about the event's first buffer only.
        if event.rx_multi_flags() & EF_EVENT_FLAG_SOP != 0 {
            self.drop_held();
            self.merged.more = 0;
        } else if self.merged.more == 0 {
            // The end of a frame whose beginning we do not have.
            self.merged.more = 1;
        }
    }

    /// The next good frame of a merged event; `None` when that was the last, and the events after
    /// it are due.
    #[inline(never)]
    pub(super) fn next_merged(&mut self) -> Option<Slot> {
        let (at, n) = (self.merged.at, self.merged.n);
        let ids = self.merged.ids;
        for id in ids.get(at..n).unwrap_or_default() {
            self.merged.at += 1;
            if let Some(slot) = self.merged_buffer(*id as u32) {
                return Some(slot);
            }
        }
        self.event_end = self.event_n;
        None
    }

    /// One buffer. Where frames end is known by the length in their metadata.
    #[inline]
    fn merged_buffer(&mut self, id: u32) -> Option<Slot> {
        let place = self.filled(id)?;
        if self.merged.more > 0 {
            self.merged.more -= 1;
            return if self.merged.more == 0 { self.end_merged(place) } else { None };
        }
        let Some(total) = self.prefix_len(id) else {
            self.stats.malformed += 1;
            return None;
        };
        if total <= self.max_len + self.prefix {
            return match self.merged.fault {
                None => self.whole(place, id, total),
                Some(reason) => self.faulty(place, id, (true, false), total, reason),
            };
        }
        self.hold(place, id, total);
        self.merged.more = total.div_ceil(self.max_len + self.prefix) as u32 - 1;
        None
    }

    /// The last buffer of a frame of several, in merged events.
    fn end_merged(&mut self, place: u32) -> Option<Slot> {
        let Some(reason) = self.merged.fault else { return self.cut_short(place) };
        self.drop_held_silently();
        self.discards.count(reason);
        Discards::lose(&mut self.stats, reason);
        None
    }

    /// The frame's length by the metadata, prefix included.
    fn prefix_len(&self, id: u32) -> Option<usize> {
        // SAFETY: within the buffer (checked when the queue was opened), which the card has
        // filled and will not touch again.
        let bytes = unsafe { self.area(id).add(self.length_at?).cast::<[u8; 2]>().read() };
        Some(usize::from(u16::from_le_bytes(bytes)) + self.prefix)
    }
}

/// Where the metadata has the frame's length.
pub(super) fn length_offset(session: &Session) -> Option<usize> {
    let (mut entries, mut n) = (std::ptr::null(), 0);
    // SAFETY: a live VI and two places to write to.
    let rc = unsafe { (session.lib().vi_receive_query_layout)(session.vi(), &mut entries, &mut n) };
    let n = usize::try_from(n).ok().filter(|_| rc == 0 && !entries.is_null())?;
    // SAFETY: the library gave a static table of n entries.
    let entries = unsafe { std::slice::from_raw_parts(entries, n) };
    let length = entries.iter().find(|e| e.evle_type == EF_VI_LAYOUT_PACKET_LENGTH)?;
    usize::try_from(length.evle_offset).ok()
}
