//! The TPACKET_V2 ring: one slot for each frame.
//!
//! Each slot has a status word of its own, with the same rules as a block's (see `blocks`): the
//! kernel's store publishes the frame, our release store gives the slot back.

use std::sync::atomic::Ordering;

use linerate_common::{RxFlags, RxFrame};

use crate::decode::{Decoder, Raw, Seen};
use crate::ledger::Ledger;
use crate::map::{Map, Status};

/// Length of a frame's header, rounded up as the kernel does; a `sockaddr_ll` and the frame follow.
pub(crate) const HEADER: usize = size_of::<libc::tpacket2_hdr>().next_multiple_of(16);

/// The receive ring of slots, and how far it has been read.
#[derive(Debug)]
pub(crate) struct Frames {
    map: Map,
    frame_bytes: usize,
    frames: usize,
    /// The first slot that is not given back.
    head: usize,
    /// Slots from there on that belong to the open window.
    open: usize,
    /// Was the last frame seen marked as following a loss?
    losing: bool,
}

impl Frames {
    pub(crate) fn new(map: Map, frame_bytes: usize, frames: usize) -> Self {
        Self { map, frame_bytes, frames, head: 0, open: 0, losing: false }
    }

    #[inline]
    fn status(&self, header: usize) -> &Status {
        // SAFETY: `header` is the offset of a slot, which begins with its status word, aligned to
        // 256 bytes.
        unsafe { self.map.status(header) }
    }

    /// The slot behind the open window: the offset of its header, and its frame. `None` when the
    /// kernel has not filled it; a slot that makes no sense counts as malformed.
    #[inline(always)]
    fn step(&mut self, decoder: &Decoder, ledger: &mut Ledger) -> Option<(usize, Option<Seen>)> {
        if self.open == self.frames {
            return None;
        }
        let mut slot = self.head + self.open;
        if slot >= self.frames {
            slot -= self.frames;
        }
        let header = slot * self.frame_bytes;
        let status = self.status(header).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        self.open += 1;
        // SAFETY: the slot is ours and longer than its header.
        let seen = unsafe {
            let header = self.map.at(header);
            let h: libc::tpacket2_hdr = header.cast::<libc::tpacket2_hdr>().read();
            let raw = Raw {
                sec: h.tp_sec,
                nsec: h.tp_nsec,
                snaplen: h.tp_snaplen,
                len: h.tp_len,
                status,
                mac: h.tp_mac,
                vlan_tci: h.tp_vlan_tci,
                vlan_tpid: h.tp_vlan_tpid,
            };
            decoder.decode(raw, header, self.frame_bytes)
        };
        let Some(mut seen) = seen else {
            ledger.stats.malformed += 1;
            return Some((header, None));
        };
        let losing = status & libc::TP_STATUS_LOSING != 0;
        if losing != self.losing {
            self.losing = losing;
            if losing {
                seen.meta.flags |= RxFlags::LOSS_BEFORE;
                ledger.collect_drops();
            }
        }
        ledger.count(&seen);
        Some((header, Some(seen)))
    }

    /// Fills `window` with the next frames.
    #[inline]
    pub(crate) fn window(
        &mut self,
        window: &mut [(usize, Seen)],
        decoder: &Decoder,
        ledger: &mut Ledger,
    ) -> usize {
        let mut n = 0;
        while n < window.len() {
            match self.step(decoder, ledger) {
                Some((header, Some(seen))) => {
                    window[n] = (header, seen);
                    n += 1;
                }
                Some((_, None)) => {}
                None => break,
            }
        }
        n
    }

    /// Shows at most `max` frames, giving back each slot when it has been shown. Each is a window
    /// of its own: should `f` panic, those it has not seen wait for the next call.
    #[inline]
    pub(crate) fn poll<F: FnMut(RxFrame<'_>)>(
        &mut self,
        max: usize,
        decoder: &Decoder,
        ledger: &mut Ledger,
        mut f: F,
    ) -> usize {
        let mut shown = 0;
        while shown < max {
            let Some((header, seen)) = self.step(decoder, ledger) else { break };
            if let Some(seen) = seen {
                shown += 1;
                // SAFETY: decoded from this header; the slot is given back below.
                f(unsafe { seen.frame(self.map.at(header)) });
            }
            self.give_back();
        }
        shown
    }

    /// Gives back the slots of the window.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        while self.open > 0 {
            self.status(self.head * self.frame_bytes)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.open -= 1;
            self.head = if self.head + 1 == self.frames { 0 } else { self.head + 1 };
        }
    }

    /// # Safety
    ///
    /// `frame` is from the window that [`window`](Self::window) filled last, with no `give_back` or
    /// `poll` since.
    #[inline]
    pub(crate) unsafe fn frame(&self, (header, seen): &(usize, Seen)) -> RxFrame<'_> {
        // SAFETY: the slot stays ours until then.
        unsafe { seen.frame(self.map.at(*header)) }
    }
}
