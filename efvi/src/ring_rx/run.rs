//! The hot loop: a run of whole frames, each with an event of its own.

use linerate_common::{NO_TS, RxFlags, RxFrame, RxMeta, RxStats};
use linerate_efvi_sys::{EF_EVENT_FLAG_CONT, EF_EVENT_FLAG_SOP, EF_EVENT_TYPE_RX, ef_precisetime};

use super::order::Cursor;
use super::{RingRx, Slot};

/// What a run has done so far. The queue learns of it when the run ends, by a panic too: so the
/// loop has it in registers, and a frame that was shown is neither shown again nor lost.
struct Run<'a> {
    frames: usize,
    bytes: u64,
    to: (&'a mut Cursor, &'a mut usize, &'a mut RxStats),
}

impl Drop for Run<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let (cursor, event_at, stats) = &mut self.to;
        cursor.advance(self.frames);
        **event_at += self.frames;
        stats.frames += self.frames as u64;
        stats.bytes += self.bytes;
    }
}

impl RingRx {
    /// Shows frames as long as each event is that of a whole frame, in the buffer that is next; at
    /// most `max`. What is left then, and whatever is wrong with it, is for [`next`](Self::next).
    #[inline(always)]
    pub(super) fn run(&mut self, max: usize, mut show: impl FnMut(Slot)) -> usize {
        const WHOLE: u32 = EF_EVENT_FLAG_SOP;
        const ENDS: u32 = EF_EVENT_FLAG_SOP | EF_EVENT_FLAG_CONT;
        let events = self.events.get(self.event_at..self.event_end).unwrap_or_default();
        let events = events.get(..max).unwrap_or(events);
        let (entries, cursor) = self.order.next();
        let (lib, vi) = (self.lib, self.vi);
        let (prefix, max_len) = (self.prefix, self.max_len);
        let (first, utc) = (cursor.head(), self.stamper.utc());
        let mut run =
            Run { frames: 0, bytes: 0, to: (cursor, &mut self.event_at, &mut self.stats) };
        let mut ts = ef_precisetime::default();
        for (event, next) in events.iter().zip(entries) {
            let id = event.rq_id();
            // A length below the prefix wraps to one that is too long as well.
            let len = (event.rx_len() as usize).wrapping_sub(prefix);
            if event.kind() != EF_EVENT_TYPE_RX
                || event.rx_flags() & ENDS != WHOLE
                || !next.is(id)
                || len > max_len
            {
                break;
            }
            let area = next.area();
            let mut time = (NO_TS, RxFlags::NONE);
            if let Some(utc) = utc {
                // SAFETY: a live VI, and the start of the buffer of a frame that the last poll
                // reported.
                let rc = unsafe { lib.receive_get_timestamp(vi, area.cast(), None, &mut ts) };
                let Some(stamp) = utc.stamp(rc, &ts) else { break };
                time = stamp;
            }
            let place = (first + run.frames) as u32;
            run.frames += 1;
            run.bytes += len as u64;
            let (start, len) = (area.wrapping_add(prefix), len as u32);
            let meta = RxMeta { ts_ns: time.0, wire_len: len, flags: time.1, mark: 0 };
            show(Slot { start, place, len, meta });
        }
        let frames = run.frames;
        drop(run);
        if utc.is_some() && frames > 0 {
            self.stamper.saw(0, &ts);
        }
        frames
    }

    /// [`run`](Self::run) for a closure that looks at frames. A function of its own, for the loop
    /// wants all registers.
    #[inline(never)]
    pub(super) fn show_run<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, f: &mut F) -> usize {
        // SAFETY: nothing is posted while the closure runs: it cannot reach the queue.
        self.run(max, |slot| f(unsafe { slot.frame() }))
    }
}
