//! The receive queue: copies out of the card's ring, checked against being overwritten.

mod collect;
mod status;

use crate::shared::PAYLOAD_WORDS;
use linerate_common::{
    ClockDomain, ClockInfo, Clocked, Error, FlowSpec, FrameRx, MAX_BURST, NO_TS, RuleId, RxFlags,
    RxFrame, RxMeta, RxStats, SetupError, Steer,
};

use crate::assemble::{Assembler, FCS_BYTES};
use crate::clock::TickClock;
use crate::error;
use crate::filter;
use crate::port::{BadFrames, Options};
use crate::reader::Reader;
pub use status::FrameStatus;

/// Room for a whole window of full-size frames.
const WINDOW_BYTES: usize = 128 * 1024;
/// Frames begin on lines of their own.
const LINE_WORDS: usize = 8;
/// Bad frames passed over in one call before it returns with what it has.
const BAD_PER_CALL: usize = 256;

/// One reader of a port's ring, by copying.
///
/// The ring is written by the card whether or not anybody reads. Each frame is copied out and
/// then checked against having been overwritten meanwhile, so that a handler never sees bytes that
/// the card may still change. Costs: an empty poll is two loads; a frame is a copy and two
/// loads. No system call, no lock, no allocation.
///
/// `release` gives nothing back: there is nothing to give. A slow reader loses the whole ring at
/// once (`ring_lapped` counts the occasion: how many frames it cost is unknown), and the frame
/// after it carries [`RxFlags::LOSS_BEFORE`].
#[derive(Debug)]
pub struct ExanicRx {
    // Fields drop in this order: the ring is not touched after its reader has gone.
    walk: Assembler,
    clock: Option<TickClock>,
    reader: Reader,
    /// The window's frames, one behind the other.
    arena: Box<[u64]>,
    /// A frame of one chunk, while `poll` shows it.
    cell: Box<[u64; PAYLOAD_WORDS]>,
    window: [Slot; MAX_BURST],
    len: usize,
    /// Word in the arena where the frame at hand is being collected.
    partial_at: usize,
    max_words: usize,
    /// Bytes of a frame's end that are not shown.
    strip: usize,
    bad_frames: BadFrames,
    /// Do chunks name the rule that selected them?
    marked: bool,
    /// Never while the short way is open: see [`next_frame`](Self::next_frame).
    loss_before: bool,
    time_flags: RxFlags,
    stats: RxStats,
    rules: Vec<RuleId>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// First word in the arena.
    at: usize,
    bytes: usize,
    meta: RxMeta,
    status: FrameStatus,
}

impl Slot {
    const NONE: Self = Self {
        at: 0,
        bytes: 0,
        meta: RxMeta { ts_ns: NO_TS, wire_len: 0, flags: RxFlags::NONE, mark: 0 },
        status: FrameStatus::Good,
    };
}

impl ExanicRx {
    pub(crate) fn new(reader: Reader, options: &Options) -> Result<Self, SetupError> {
        let longest = options.max_frame_bytes;
        if !(60..=1 << 20).contains(&longest) {
            return Err(error::argument("open", "max_frame_bytes must be 60 to 1048576"));
        }
        let lead_ns = i64::from(options.clock_lead_s) * 1_000_000_000;
        let max_words = (longest + FCS_BYTES).next_multiple_of(8 * LINE_WORDS) / 8;
        let mut rx = Self {
            // Of a frame that may be longer than the longest each chunk is looked at closely.
            walk: Assembler::new(reader.ring()?, 8 * max_words),
            clock: TickClock::new(reader.device(), lead_ns),
            cell: Box::new([0; PAYLOAD_WORDS]),
            arena: vec![0; max_words + WINDOW_BYTES / 8].into_boxed_slice(),
            window: [Slot::NONE; MAX_BURST],
            len: 0,
            partial_at: 0,
            max_words,
            strip: if options.keep_fcs { 0 } else { FCS_BYTES },
            bad_frames: options.bad_frames,
            marked: reader.buffer() != 0 && !reader.is_hashed(),
            loss_before: false,
            time_flags: RxFlags::TS_HW,
            stats: RxStats::default(),
            rules: Vec::new(),
            reader,
        };
        rx.look_at_clock();
        Ok(rx)
    }

    /// The filter buffer this reads, 0 for the port's default ring.
    #[must_use]
    pub fn buffer(&self) -> u32 {
        self.reader.buffer()
    }

    /// How frame `i` of the open window ended: anything but [`FrameStatus::Good`] only with
    /// [`BadFrames::Deliver`].
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    #[must_use]
    pub fn frame_status(&self, i: usize) -> FrameStatus {
        self.window[..self.len][i].status
    }

    /// The card this reads from.
    #[must_use]
    pub fn device(&self) -> &std::sync::Arc<crate::Device> {
        self.reader.device()
    }

    /// Asks the card whether its timestamps are ready, for the flags of frames to come.
    fn look_at_clock(&mut self) {
        let status = self.reader.device().status(self.reader.port());
        self.time_flags = match status {
            Ok(status) if status.rx_time_ready => RxFlags::TS_HW,
            _ => RxFlags::TS_HW | RxFlags::TS_UNSYNCED,
        };
    }
}

impl FrameRx for ExanicRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.len = 0;
        if self.is_idle() {
            return Ok(0);
        }
        let (max, last) = (max.min(MAX_BURST), self.arena.len() - self.max_words);
        let (mut at, mut len) = (0, 0);
        let mut bad = BAD_PER_CALL;
        while len < max && at <= last {
            let Some(slot) = self.next(at, &mut bad) else { break };
            self.window[len] = slot;
            len += 1;
            // The next frame is collected behind this one.
            at += slot.bytes.max(1).div_ceil(8).next_multiple_of(LINE_WORDS);
            self.partial_at = at;
        }
        self.len = len;
        Ok(len)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        let slot = &self.window[..self.len][i];
        RxFrame { bytes: self.bytes(slot.at, slot.bytes), meta: slot.meta }
    }

    #[inline]
    fn release(&mut self) {
        self.len = 0;
    }

    /// The ring's own counters. `ring_lapped` counts occasions, each of which cost the reader up
    /// to a ring; `card_drop` counts frames that the card marked with a hardware overflow. See
    /// [`Device::counters`](crate::Device::counters) for what the port saw.
    fn stats(&mut self) -> RxStats {
        self.look_at_clock();
        self.stats
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        self.len = 0;
        if max == 0 || self.is_idle() {
            return Ok(0);
        }
        let mut bad = BAD_PER_CALL;
        // Each frame is counted as it is found.
        let before = self.stats.frames;
        let last = before.wrapping_add(max as u64);
        loop {
            // Always in the same place, which stays in the nearest cache.
            let frame = match self.walk.single(&mut self.cell) {
                Some((len, info)) => {
                    let meta = self.usual(len, info);
                    let words = self.cell.as_ptr().cast();
                    // SAFETY: initialised words seen as bytes; `single` gives no length that is
                    // beyond a chunk, which they hold.
                    let bytes = unsafe { std::slice::from_raw_parts(words, len - self.strip) };
                    RxFrame { bytes, meta }
                }
                None => {
                    let Some(slot) = self.next_frame(0, &mut bad) else { break };
                    RxFrame { bytes: self.bytes(0, slot.bytes), meta: slot.meta }
                }
            };
            f(frame);
            if self.stats.frames == last {
                break;
            }
        }
        Ok((self.stats.frames - before) as usize)
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl Clocked for ExanicRx {
    /// The card's own clock. It says that it is not ready, but not whether it is synchronised:
    /// `synced` is `Some(false)` or `None`. Reads a register.
    fn clock(&self) -> ClockInfo {
        let Some(clock) = &self.clock else { return ClockInfo::NONE };
        let device = self.reader.device();
        let ready = device.status(self.reader.port()).is_ok_and(|s| s.rx_time_ready);
        let far_off = crate::port::clock_error_s(device).is_some_and(|s| s.abs() > 3600);
        let synced = if ready && !far_off { None } else { Some(false) };
        ClockInfo { domain: ClockDomain::Card, synced, resolution_ns: clock.resolution_ns() }
    }
}

impl Steer for ExanicRx {
    /// Steers a flow to this reader's filter buffer. Steered frames reach neither the default
    /// ring nor the kernel. MAC rules come before IP rules, lower ids before higher ones.
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        let rule = filter::add(&self.reader, flow)
            .map_err(|e| e.on(self.reader.device().port_name(self.reader.port())))?;
        self.rules.push(rule);
        Ok(rule)
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        // Rules are the port's, not the handle's: never take away somebody else's.
        let own = self.rules.iter().position(|r| *r == rule);
        let own =
            own.ok_or_else(|| error::argument("exanic_filter_remove", "not this reader's rule"))?;
        filter::remove(&self.reader, rule)?;
        self.rules.swap_remove(own);
        Ok(())
    }
}

impl Drop for ExanicRx {
    fn drop(&mut self) {
        // They would go with the buffer, but for another process that refers to it too.
        for rule in std::mem::take(&mut self.rules) {
            // Nothing to be done if it is gone already.
            let _ = filter::remove(&self.reader, rule);
        }
    }
}
