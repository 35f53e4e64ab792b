//! From events to frames that have left.

use linerate_common::{NO_TS, RxFlags};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::{EF_VI_TRANSMIT_BATCH, ef_event};

use super::{EVENTS, EfviTx, InFlight, Path, Sent};
use crate::session::lost;

impl EfviTx {
    /// Reads the event queue until it is empty.
    pub(super) fn collect(&mut self, f: &mut dyn FnMut(Sent)) -> usize {
        let mut done = 0;
        while self.lost.is_none() {
            let room = EVENTS as i32;
            // SAFETY: a live VI and room for the events.
            let got = unsafe { self.lib.eventq_poll(self.vi, self.events.as_mut_ptr(), room) };
            let n = usize::try_from(got).unwrap_or(0).min(EVENTS);
            for i in 0..n {
                let event = self.events[i];
                done += self.handle(&event, f);
            }
            if n < EVENTS {
                break;
            }
        }
        done
    }

    fn handle(&mut self, event: &ef_event, f: &mut dyn FnMut(Sent)) -> usize {
        match event.kind() {
            sys::EF_EVENT_TYPE_TX => self.unbundle(event, f),
            sys::EF_EVENT_TYPE_TX_WITH_TIMESTAMP => {
                let sec = i64::from(event.tx_ts_sec());
                let stamp = self.stamper.convert(sec, event.tx_ts_nsec(), event.tx_ts_flags());
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

    /// Takes the ids out of an event: it is this that makes room in the ring again.
    fn unbundle(&mut self, event: &ef_event, f: &mut dyn FnMut(Sent)) -> usize {
        let mut ids = [0; EF_VI_TRANSMIT_BATCH];
        // SAFETY: a live VI, one of its events, room for as many ids as one stands for.
        let n = unsafe { (self.lib.vi_transmit_unbundle)(self.vi, event, ids.as_mut_ptr()) };
        let n = usize::try_from(n).unwrap_or(0).min(EF_VI_TRANSMIT_BATCH);
        let none = (NO_TS, RxFlags::NONE);
        ids[..n].iter().map(|id| self.complete(*id as u32, by_ctpio(event), none, f)).sum()
    }

    /// One frame is done. Frames finish in the order of sending.
    #[inline]
    fn complete(
        &mut self,
        id: u32,
        ctpio: bool,
        (ts_ns, flags): (u64, RxFlags),
        f: &mut dyn FnMut(Sent),
    ) -> usize {
        let flight = match self.inflight.front() {
            Some(first) if first.id == id => self.inflight.pop_front(),
            _ => self.out_of_order(id),
        };
        let Some(flight) = flight else {
            self.unknown_events += 1;
            return 0;
        };
        let path = match flight.path {
            Path::Ctpio if !ctpio => Path::Fallback,
            path => path,
        };
        *match path {
            Path::Dma => &mut self.paths.dma,
            Path::Ctpio => &mut self.paths.ctpio,
            Path::Fallback => &mut self.paths.fallback,
            Path::Pio => &mut self.paths.pio,
        } += 1;
        self.stats.completed += 1;
        self.release(flight);
        f(Sent { seq: flight.seq, path, ts_ns, flags });
        1
    }

    /// A frame that others were sent before.
    #[cold]
    fn out_of_order(&mut self, id: u32) -> Option<InFlight> {
        let at = self.inflight.iter().position(|x| x.id == id)?;
        self.inflight.remove(at)
    }

    /// The card stopped at an error: what it had not completed may or may not have left.
    #[cold]
    fn all_failed(&mut self) -> usize {
        let n = self.inflight.len();
        self.stats.failed += n as u64;
        while let Some(flight) = self.inflight.pop_front() {
            self.release(flight);
        }
        self.unpushed = 0;
        let restarted = match self.lib.sometimes.vi_reinit_txq_post_error {
            // SAFETY: a live VI; nothing is being sent.
            Some(reinit) => unsafe { reinit(self.vi) == 0 },
            None => false,
        };
        if !restarted {
            self.lost = Some(lost("EF_EVENT_TYPE_TX_ERROR"));
        }
        n
    }

    #[cold]
    fn lose(&mut self, op: &'static str) -> usize {
        self.lost = Some(lost(op));
        0
    }
}

/// Did the frames of this event leave by CTPIO?
fn by_ctpio(event: &ef_event) -> bool {
    event.tx_flags() & sys::EF_EVENT_FLAG_CTPIO != 0
}
