//! The hot loop: a run of good frames.

use linerate_common::{NO_TS, RxFlags, RxFrame, RxMeta, RxStats};
use linerate_efvi_sys::{EF_EVENT_TYPE_RX_REF, ef_precisetime};

use super::{MAX_FRAME, SharedRx, Shown, Slot};

/// What a run has done so far. The queue learns of it when the run ends, by a panic too: so the
/// loop has it in registers, and a frame that was shown is neither shown again nor lost.
struct Run<'a> {
    frames: usize,
    bytes: u64,
    to: (&'a mut usize, &'a mut RxStats),
}

impl Drop for Run<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let (event_at, stats) = &mut self.to;
        **event_at += self.frames;
        stats.frames += self.frames as u64;
        stats.bytes += self.bytes;
    }
}

impl SharedRx {
    /// Shows frames as long as each event is that of a good one, at most `max`; `show` takes them
    /// over, to be released. What is left then, and whatever is wrong with it, is for
    /// [`next`](Self::next).
    #[inline(always)]
    pub(super) fn run(&mut self, max: usize, mut show: impl FnMut(Slot)) -> usize {
        let max = if self.own_flows_only { 0 } else { max };
        let events = self.events.get(self.event_at..self.event_n).unwrap_or_default();
        let events = events.get(..max).unwrap_or(events);
        let (lib, vi, get) = (self.lib, self.vi, self.lib.efct_vi_rxpkt_get);
        let utc = self.stamper.utc();
        let mut run = Run { frames: 0, bytes: 0, to: (&mut self.event_at, &mut self.stats) };
        let mut ts = ef_precisetime::default();
        for event in events {
            let (pkt_id, len) = (event.rx_ref_pkt_id(), event.rx_ref_len());
            if event.kind() != EF_EVENT_TYPE_RX_REF || len as usize > MAX_FRAME {
                break;
            }
            // SAFETY: a live VI and a reference that was not released yet.
            let start = unsafe { get(vi, pkt_id) }.cast::<u8>();
            if start.is_null() {
                break;
            }
            let mut time = (NO_TS, RxFlags::NONE);
            if let Some(utc) = utc {
                let pkt = start.cast();
                // SAFETY: a live VI and a frame of it that was not released yet.
                let rc = unsafe { lib.receive_get_timestamp(vi, pkt, Some(pkt_id), &mut ts) };
                let Some(stamp) = utc.stamp(rc, &ts) else { break };
                time = stamp;
            }
            run.frames += 1;
            run.bytes += u64::from(len);
            let mark = event.rx_ref_filter_id();
            let meta = RxMeta { ts_ns: time.0, wire_len: len, flags: time.1, mark };
            show(Slot { pkt_id, len, start, meta });
        }
        let frames = run.frames;
        drop(run);
        if utc.is_some() && frames > 0 {
            self.stamper.saw(0, &ts);
        }
        frames
    }

    /// [`run`](Self::run) for a closure that looks at frames, each released right after. A
    /// function of its own, for the loop wants all registers.
    #[inline(never)]
    pub(super) fn show_run<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, f: &mut F) -> usize {
        let (vi, release) = (self.vi, self.lib.efct_vi_rxpkt_release);
        self.run(max, |slot| {
            let shown = Shown { slot, vi, release };
            // SAFETY: the slot is released when `shown` goes.
            f(unsafe { shown.slot.frame() });
        })
    }
}
