//! Frames of several buffers, and bad ones.

use linerate_common::{RxFlags, RxMeta};
use linerate_efvi_sys::{EF_EVENT_FLAG_CONT, EF_EVENT_FLAG_SOP};

use super::order::Entry;
use super::{RingRx, Slot};
use crate::discard::{Discards, Reason};

/// The first buffer of a frame that goes on in more of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    entry: Entry,
    id: u32,
    len: usize,
    ts_ns: u64,
    flags: RxFlags,
}

impl RingRx {
    /// One filled buffer of a frame that may have several or a fault. `total` is the frame's
    /// length so far, prefix included.
    pub(super) fn piece(
        &mut self,
        id: u32,
        flags: u32,
        total: usize,
        fault: Option<Reason>,
    ) -> Option<Slot> {
        let place = self.filled(id)?;
        let (first, more) = (flags & EF_EVENT_FLAG_SOP != 0, flags & EF_EVENT_FLAG_CONT != 0);
        if first {
            self.drop_held();
        }
        if let Some(reason) = fault {
            return self.faulty(place, id, (first, more), total, reason);
        }
        match (first, more) {
            (true, false) => self.whole(place, id, total),
            (true, true) => {
                self.hold(place, id, total);
                None
            }
            (false, _) => {
                if let Some(held) = &mut self.held {
                    held.len = held.len.max(total);
                }
                if more { None } else { self.cut_short(place) }
            }
        }
    }

    /// Keeps the first buffer of a frame until its end comes. It leaves the ring's order, so that
    /// it is not posted again meanwhile.
    pub(super) fn hold(&mut self, place: u32, id: u32, total: usize) {
        let (ts_ns, flags) = self.stamp(self.area(id));
        if let Some(entry) = self.order.take(place as usize) {
            self.held = Some(Fragment { entry, id, len: total, ts_ns, flags });
        }
    }

    /// The frame has ended whose first buffer is held: that much of it is delivered, in the place
    /// of its last buffer.
    pub(super) fn cut_short(&mut self, place: u32) -> Option<Slot> {
        let Some(Fragment { entry, id, len, ts_ns, flags }) = self.held.take() else {
            self.stats.malformed += 1;
            return None;
        };
        if let Some(last) = self.order.exchange(place as usize, entry).and_then(Entry::id) {
            self.cache.free(last);
        }
        let wire_len = len.saturating_sub(self.prefix);
        let len = self.max_len.min(wire_len) as u32;
        let (wire_len, flags) = (wire_len as u32, flags | RxFlags::TRUNCATED);
        self.stats.flagged += 1;
        let start = self.area(id).wrapping_add(self.prefix);
        Some(Slot { start, place, len, meta: RxMeta { ts_ns, wire_len, flags, mark: 0 } })
    }

    /// A buffer of a bad frame.
    pub(super) fn faulty(
        &mut self,
        place: u32,
        id: u32,
        (first, more): (bool, bool),
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
            let mut slot = self.whole(place, id, total)?;
            slot.meta.flags |= flags;
            self.stats.flagged += u64::from(flags.contains(RxFlags::BAD));
            return Some(slot);
        }
        if !more {
            Discards::lose(&mut self.stats, reason);
        }
        None
    }

    /// A frame whose end never came.
    pub(super) fn drop_held(&mut self) {
        if self.held.is_some() {
            self.stats.malformed += 1;
            self.drop_held_silently();
        }
    }

    pub(super) fn drop_held_silently(&mut self) {
        if let Some(held) = self.held.take() {
            self.cache.free(held.id);
        }
    }
}
