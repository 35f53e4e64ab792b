//! From a received datagram to the frame that is shown.

use linerate_common::{RxFlags, RxFrame, RxMeta, RxStats};

use crate::batch::Batch;
use crate::control::Control;
use crate::headers::{self, Facts, HEADROOM};
use crate::inlet::Inlet;
use crate::stamps::Clocks;

/// A frame in the window: a part of a slot.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    slot: u8,
    start: u8,
    end: u32,
    meta: RxMeta,
    /// Its place among the frames of other sockets: its timestamp, or that of an earlier frame
    /// of the same socket if that is later.
    order_ns: u64,
}

impl Shown {
    pub(crate) const NOTHING: Self =
        Self { slot: 0, start: 0, end: 0, meta: RxMeta::plain(0), order_ns: 0 };

    /// Puts it behind an earlier frame of its socket; gives its place.
    #[inline]
    pub(crate) fn after(&mut self, earlier_ns: u64) -> u64 {
        self.order_ns = self.order_ns.max(earlier_ns);
        self.order_ns
    }

    /// The frame itself.
    #[inline]
    pub(crate) fn frame<'a>(&self, batch: &'a Batch) -> RxFrame<'a> {
        let slot = batch.slot(usize::from(self.slot));
        RxFrame { bytes: &slot[usize::from(self.start)..self.end as usize], meta: self.meta }
    }
}

/// Brings frames of several sockets into the order of their timestamps. Those of one socket,
/// which came into rising slots, keep theirs: two processors may have stamped them out of order.
pub(crate) fn by_time(frames: &mut [Shown]) {
    frames.sort_unstable_by_key(|shown| (shown.order_ns, shown.slot));
}

/// Makes a frame of the datagram in slot `i`; `None` when it does not belong to the queue.
#[inline]
pub(crate) fn dress(
    inlet: &mut Inlet,
    batch: &mut Batch,
    stamps: &mut Clocks,
    stats: &mut RxStats,
    mac: [u8; 6],
    i: usize,
) -> Option<Shown> {
    let message = batch.message(i);
    let (stored, sent, truncated) = (message.stored, message.sent, message.truncated);
    let control = Control::parse(message.control);
    let src = message.src.get();
    batch.reset(i);

    let mut flags = RxFlags::SYNTHETIC;
    if control.drops.is_some_and(|now| inlet.note_drops(now)) {
        flags |= RxFlags::LOSS_BEFORE;
    }
    let admitted = src.and_then(|(ip, port)| Some((ip, port, inlet.admit(ip, control.dst)?)));
    let Some((src, src_port, dst)) = admitted else {
        stats.filtered += 1;
        return None;
    };
    let (ts_ns, ts_flags) = stamps.choose(control.hardware_ns, control.software_ns);
    flags |= ts_flags;
    if truncated {
        flags |= RxFlags::TRUNCATED;
        stats.flagged += 1;
    } else {
        // The kernel hands out no datagram whose checksum is wrong.
        flags |= RxFlags::CSUM_OK;
    }
    let facts = Facts {
        src: (src, src_port),
        dst: (dst, inlet.port),
        ttl: control.ttl.unwrap_or(0),
        tos: control.tos.unwrap_or(0),
        mac,
    };
    let headers = headers::write(batch.slot_mut(i), &facts, stored, sent);
    stats.frames += 1;
    stats.bytes += (headers + stored) as u64;
    let wire_len = u32::try_from(headers + sent).unwrap_or(u32::MAX);
    Some(Shown {
        slot: i as u8,
        start: (HEADROOM - headers) as u8,
        end: (HEADROOM + stored) as u32,
        meta: RxMeta { ts_ns, wire_len, flags, mark: 0 },
        order_ns: ts_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_interleave_by_time_and_keep_their_own_order() {
        // Two sockets' stamps, the first with one that went backwards.
        let mut frames = Vec::new();
        for stamps in [[10, 40, 20, 50], [5, 30, 45, 50]] {
            let mut last = 0;
            for order_ns in stamps {
                let slot = frames.len() as u8;
                let mut shown = Shown { slot, order_ns, ..Shown::NOTHING };
                last = shown.after(last);
                frames.push(shown);
            }
        }
        by_time(&mut frames);
        let slots: Vec<u8> = frames.iter().map(|s| s.slot).collect();
        assert_eq!(slots, [4, 0, 5, 1, 2, 6, 3, 7]);
    }
}
