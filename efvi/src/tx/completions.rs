//! From events to frames that have left.

use linerate_common::{NO_TS, RxFlags};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::{EF_VI_TRANSMIT_BATCH, ef_event, ef_precisetime};

use super::{EVENTS, EfviTx, Path, Sent};
use crate::session::lost;

impl EfviTx {
    /// Reads the event queue until it is empty, for nobody who wants to know more.
    #[inline(never)]
    pub(super) fn collect_silently(&mut self) -> usize {
        self.collect(&mut |_| {})
    }

    /// Reads the event queue until it is empty.
    #[inline]
    pub(super) fn collect(&mut self, f: &mut impl FnMut(Sent)) -> usize {
        let mut done = 0;
        while self.lost.is_none() {
            let room = EVENTS as i32;
            // SAFETY: a live VI and room for the events.
            let got = unsafe { self.lib.eventq_poll(self.vi, self.events.as_mut_ptr(), room) };
            let n = usize::try_from(got).unwrap_or(0).min(EVENTS);
            for i in 0..n {
                // The mask spares a check of bounds: EVENTS is a power of two.
                let event = self.events[i & (EVENTS - 1)];
                done += if event.kind() == sys::EF_EVENT_TYPE_TX {
                    self.unbundle(&event, f)
                } else {
                    self.seldom(&event, f)
                };
            }
            if n < EVENTS {
                break;
            }
        }
        done
    }

    /// Takes the ids out of an event: it is this that makes room in the ring again.
    #[inline]
    fn unbundle(&mut self, event: &ef_event, f: &mut impl FnMut(Sent)) -> usize {
        let ids = self.ids.as_mut_ptr();
        // SAFETY: a live VI, one of its events, room for as many ids as one stands for.
        let n = unsafe { (self.lib.vi_transmit_unbundle)(self.vi, event, ids) };
        let n = usize::try_from(n).unwrap_or(0).min(EF_VI_TRANSMIT_BATCH);
        let ids = self.ids.get(..n).unwrap_or_default();
        let first = self.flights.first();
        let landed = self.flights.land(ids, &mut self.spare);
        let path = self.path_of(None, by_ctpio(event));
        self.stats.completed += landed as u64;
        self.paths.count(path, landed as u64);
        for seq in first..first + landed as u64 {
            f(Sent { seq, path, ts_ns: NO_TS, flags: RxFlags::NONE });
        }
        if landed == n { n } else { landed + self.unbundle_others(event, landed, n, f) }
    }

    /// What did not simply come next, or finds the stack of buffers full.
    #[cold]
    fn unbundle_others(
        &mut self,
        event: &ef_event,
        landed: usize,
        n: usize,
        f: &mut impl FnMut(Sent),
    ) -> usize {
        let ids = *self.ids;
        let ids = ids.get(landed..n).unwrap_or_default();
        let none = (NO_TS, RxFlags::NONE);
        ids.iter().map(|id| self.complete(*id as u32, by_ctpio(event), none, f)).sum()
    }

    #[cold]
    fn seldom(&mut self, event: &ef_event, f: &mut impl FnMut(Sent)) -> usize {
        match event.kind() {
            sys::EF_EVENT_TYPE_TX_WITH_TIMESTAMP => {
                let stamp = self.stamper.stamp(0, &tx_time(event));
                self.complete(event.rq_id(), by_ctpio(event), stamp, f)
            }
            sys::EF_EVENT_TYPE_TX_ERROR => self.all_failed(),
            sys::EF_EVENT_TYPE_TX_ALT => {
                if let Some(alternatives) = &mut self.alternatives {
                    alternatives.sent(event.tx_alt_id());
                }
                0
            }
            sys::EF_EVENT_TYPE_OFLOW => self.lose("EF_EVENT_TYPE_OFLOW"),
            sys::EF_EVENT_TYPE_RESET => self.lose("EF_EVENT_TYPE_RESET"),
            sys::EF_EVENT_TYPE_SW => 0,
            _ => {
                self.unknown_events += 1;
                0
            }
        }
    }

    /// One frame is done, whichever way it took and wherever it is among those in flight.
    fn complete(
        &mut self,
        id: u32,
        ctpio: bool,
        (ts_ns, flags): (u64, RxFlags),
        f: &mut impl FnMut(Sent),
    ) -> usize {
        let Some((seq, buffer)) = self.flights.pop(id) else {
            self.unknown_events += 1;
            return 0;
        };
        let slot = self.release(buffer);
        let path = self.path_of(slot, ctpio);
        self.paths.count(path, 1);
        self.stats.completed += 1;
        f(Sent { seq, path, ts_ns, flags });
        1
    }

    /// How a frame left that was in this slot of programmed I/O, or in none.
    #[inline]
    fn path_of(&self, slot: Option<u8>, ctpio: bool) -> Path {
        match (slot, self.path) {
            (Some(_), _) => Path::Pio,
            (None, Path::Ctpio) if ctpio => Path::Ctpio,
            (None, Path::Ctpio) => Path::Fallback,
            (None, _) => Path::Dma,
        }
    }

    /// The card stopped at an error: what it had not completed may or may not have left.
    #[cold]
    fn all_failed(&mut self) -> usize {
        let mut n = 0;
        while let Some(buffer) = self.flights.pop_any() {
            self.release(buffer);
            n += 1;
        }
        self.stats.failed += n as u64;
        self.pushed = self.flights.sent();
        let restarted = match self.lib.sometimes.vi_reinit_txq_post_error {
            // SAFETY: a live VI; nothing is being sent.
            Some(reinit) => unsafe { reinit(self.vi) == 0 },
            None => false,
        };
        if !restarted {
            self.lose("EF_EVENT_TYPE_TX_ERROR");
        }
        n
    }

    #[cold]
    fn lose(&mut self, op: &'static str) -> usize {
        self.lost = Some(lost(op));
        self.limit = 0;
        0
    }
}

/// When the frame of this event left.
fn tx_time(event: &ef_event) -> ef_precisetime {
    ef_precisetime {
        tv_sec: event.tx_ts_sec().into(),
        tv_nsec: event.tx_ts_nsec(),
        tv_nsec_frac: 0,
        tv_flags: event.tx_ts_flags() as u16,
    }
}

/// Did the frames of this event leave by CTPIO?
fn by_ctpio(event: &ef_event) -> bool {
    event.tx_flags() & sys::EF_EVENT_FLAG_CTPIO != 0
}
