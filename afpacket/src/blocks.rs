//! The TPACKET_V3 ring: blocks of frames.
//!
//! A block belongs either to the kernel or to us, as its status word says; in a block of ours
//! nobody else writes. The kernel publishes a filled block by a store to the status behind all
//! its other stores, which our acquire load pairs with; our release store behind the last read
//! gives the block back. Within the block, counts, offsets and lengths are the kernel's word, and
//! checked all the same: a wrong one must not become a read outside the mapping.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use linerate_common::{RxFlags, RxFrame};

use crate::decode::{Decoder, Raw, Seen};
use crate::ledger::Ledger;
use crate::map::{Map, Status};

/// Length of a frame's header; a `sockaddr_ll` and the frame follow.
pub(crate) const HEADER: usize = size_of::<libc::tpacket3_hdr>();

/// Where a block's status word is.
pub(crate) const STATUS: usize = offset_of!(libc::tpacket_block_desc, hdr.bh1.block_status);

/// The receive ring of blocks, and how far it has been read.
#[derive(Debug)]
pub(crate) struct Blocks {
    map: Map,
    block_bytes: usize,
    blocks: usize,
    /// The block being read, or to be read next.
    current: usize,
    /// Is the current block ours?
    held: bool,
    /// Frames of it that no window has shown.
    left: u32,
    /// Offset of the next of them in the block.
    next: usize,
    /// Did the kernel say that frames were lost before this block?
    loss: bool,
}

impl Blocks {
    pub(crate) fn new(map: Map, block_bytes: usize, blocks: usize) -> Self {
        Self { map, block_bytes, blocks, current: 0, held: false, left: 0, next: 0, loss: false }
    }

    #[inline]
    fn status(&self) -> &Status {
        // SAFETY: `current < blocks`, and a block begins with its descriptor (page-aligned).
        unsafe { self.map.status(self.current * self.block_bytes + STATUS) }
    }

    /// Is there a frame to be read? Gives back the blocks that are used up.
    #[inline]
    fn ready(&mut self, ledger: &mut Ledger) -> bool {
        loop {
            self.give_back();
            if self.held {
                return true;
            }
            let status = self.status().load(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                return false;
            }
            self.open(status, ledger);
        }
    }

    fn open(&mut self, status: u32, ledger: &mut Ledger) {
        // SAFETY: the block is ours; reads within its descriptor.
        let (count, first) = unsafe {
            let block: *const libc::tpacket_block_desc =
                self.map.at(self.current * self.block_bytes).cast();
            ((*block).hdr.bh1.num_pkts, (*block).hdr.bh1.offset_to_first_pkt)
        };
        self.held = true;
        self.left = count.min((self.block_bytes / HEADER) as u32);
        self.next = first as usize;
        if status & libc::TP_STATUS_LOSING != 0 {
            self.loss = true;
            ledger.collect_drops();
        }
    }

    /// The next frame of the current block: where its header is, and what it says. `None`: the
    /// kernel's word was wrong, and the rest of the block is lost.
    #[inline(always)]
    fn step(&mut self, decoder: &Decoder, ledger: &mut Ledger) -> Option<(usize, Seen)> {
        let seen = match self.block_bytes.checked_sub(self.next) {
            Some(room) if room >= HEADER => {
                // SAFETY: HEADER bytes of our block lie at `next`.
                let (raw, next) = unsafe {
                    let header = self.map.at(self.current * self.block_bytes + self.next);
                    let h: libc::tpacket3_hdr =
                        header.cast::<libc::tpacket3_hdr>().read_unaligned();
                    let raw = Raw {
                        sec: h.tp_sec,
                        nsec: h.tp_nsec,
                        snaplen: h.tp_snaplen,
                        len: h.tp_len,
                        status: h.tp_status,
                        mac: h.tp_mac,
                        vlan_tci: h.hv1.tp_vlan_tci as u16,
                        vlan_tpid: h.hv1.tp_vlan_tpid,
                    };
                    (decoder.decode(raw, header, room), h.tp_next_offset as usize)
                };
                // A next frame within this header would be no progress.
                let end = if next < HEADER { self.block_bytes } else { self.next + next };
                raw.map(|seen| (seen, end))
            }
            _ => None,
        };
        let Some((mut seen, end)) = seen else {
            ledger.stats.malformed += u64::from(self.left);
            self.left = 0;
            return None;
        };
        let header = self.current * self.block_bytes + self.next;
        self.left -= 1;
        self.next = end;
        if self.loss {
            self.loss = false;
            seen.meta.flags |= RxFlags::LOSS_BEFORE;
        }
        ledger.count(&seen);
        Some((header, seen))
    }

    /// Fills `window` with the next frames of one block.
    #[inline]
    pub(crate) fn window(
        &mut self,
        window: &mut [(usize, Seen)],
        decoder: &Decoder,
        ledger: &mut Ledger,
    ) -> usize {
        loop {
            if window.is_empty() || !self.ready(ledger) {
                return 0;
            }
            let want = window.len().min(self.left as usize);
            let mut n = 0;
            while n < want {
                match self.step(decoder, ledger) {
                    Some(frame) => window[n] = frame,
                    None => break,
                }
                n += 1;
            }
            if n > 0 {
                return n;
            }
        }
    }

    /// Shows at most `max` frames. Each is a window of its own: should `f` panic, those it has not
    /// seen wait for the next call.
    #[inline]
    pub(crate) fn poll<F: FnMut(RxFrame<'_>)>(
        &mut self,
        max: usize,
        decoder: &Decoder,
        ledger: &mut Ledger,
        mut f: F,
    ) -> usize {
        let mut shown = 0;
        while shown < max && self.ready(ledger) {
            for _ in 0..(max - shown).min(self.left as usize) {
                let Some((header, seen)) = self.step(decoder, ledger) else { break };
                shown += 1;
                // SAFETY: decoded from this header; the block is given back after the loop only.
                f(unsafe { seen.frame(self.map.at(header)) });
            }
        }
        self.give_back();
        shown
    }

    /// Gives the current block back when all of it has been shown. No window may be open.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        if self.held && self.left == 0 {
            self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.held = false;
            self.current = if self.current + 1 == self.blocks { 0 } else { self.current + 1 };
        }
    }

    /// # Safety
    ///
    /// `frame` is from the window that [`window`](Self::window) filled last, with no `give_back` or
    /// `poll` since.
    #[inline]
    pub(crate) unsafe fn frame(&self, (header, seen): &(usize, Seen)) -> RxFrame<'_> {
        // SAFETY: the block stays ours until then.
        unsafe { seen.frame(self.map.at(*header)) }
    }
}
