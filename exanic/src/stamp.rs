//! Transmit timestamps, from the one register that a port has.
//!
//! The register holds the time of the port's *last* frame, whoever sent it: this queue, another
//! program or the kernel. So a time belongs to a frame only if the port sent exactly one frame
//! from before the command to after the reading. The port's count of frames tells.

use std::sync::Arc;

use linerate_common::{NO_TS, RxFlags};
use linerate_exanic_sys::{ids, regs};

use crate::clock::expand_recent;
use crate::device::Device;

/// Looks at the register before it gives a frame up: the count may trail the feedback.
const TRIES: u32 = 1000;

/// Finds out when single frames left. Each look costs three to four bus reads.
#[derive(Debug)]
pub(crate) struct Stamper {
    device: Arc<Device>,
    port: u32,
    lead_ns: i64,
    /// Frames the port had sent when nothing of this queue was in flight.
    idle_count: Option<u32>,
    /// The frame that went out alone since then.
    alone: Option<Alone>,
    tries: u32,
}

#[derive(Debug, Clone, Copy)]
struct Alone {
    seq: u64,
    count_before: u32,
}

/// What became of a frame's stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// ns since the epoch, with flags.
    At(u64, RxFlags),
    /// Other frames went out around it, or the clock is unusable.
    Unknown,
    /// The card has not counted it yet: ask again.
    Later,
}

impl Stamper {
    pub(crate) fn new(device: &Arc<Device>, port: u32, lead_ns: i64) -> Self {
        let device = Arc::clone(device);
        let mut this = Self { device, port, lead_ns, idle_count: None, alone: None, tries: 0 };
        this.idle();
        this
    }

    /// Nothing of this queue is in flight.
    pub(crate) fn idle(&mut self) {
        if self.idle_count.is_none() && self.alone.is_none() {
            self.idle_count = Some(self.count());
        }
    }

    /// Frames were completed without looking at their stamps.
    pub(crate) fn forget(&mut self) {
        (self.idle_count, self.alone, self.tries) = (None, None, 0);
    }

    /// Frame `seq` was sent; `first`: nothing else was in flight.
    #[inline]
    pub(crate) fn sent(&mut self, seq: u64, first: bool) {
        let idle = self.idle_count.take();
        // A second frame in flight spoils the first one's reading, and the count shows it.
        if first {
            self.alone = idle.map(|count_before| Alone { seq, count_before });
        }
    }

    /// Frame `seq` has been sent, by its feedback.
    pub(crate) fn completed(&mut self, seq: u64) -> Stamp {
        let Some(alone) = self.alone.filter(|a| a.seq == seq) else { return Stamp::Unknown };
        let before = self.count();
        let time = self.device.register(regs::port(self.port, regs::PORT_TX_LAST_TIME));
        let after = self.count();
        if before == alone.count_before && after == before && self.tries < TRIES {
            self.tries += 1;
            return Stamp::Later;
        }
        self.tries = 0;
        self.alone = None;
        if before != alone.count_before.wrapping_add(1) || after != before {
            return Stamp::Unknown;
        }
        let hz = u64::from(self.device.tick_hz());
        let ns = self.device.rough_ticks().and_then(|t| expand_recent(time, t, hz, self.lead_ns));
        match ns {
            Some(ns) if ns != NO_TS => Stamp::At(ns, self.flags()),
            _ => Stamp::Unknown,
        }
    }

    fn flags(&self) -> RxFlags {
        let status = self.device.register(regs::port(self.port, regs::PORT_STATUS));
        let bad = status & ids::port_status::TX_TIME_BAD != 0;
        if bad { RxFlags::TS_HW | RxFlags::TS_UNSYNCED } else { RxFlags::TS_HW }
    }

    fn count(&self) -> u32 {
        self.device.register(regs::port_stat(self.port, regs::STAT_TX))
    }
}
