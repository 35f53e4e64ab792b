//! Finding the next frame that is to be delivered: bad ones are passed over and counted.

use linerate_common::{NO_TS, RxFlags, RxMeta};
use linerate_exanic_sys::rx::{FRAME_OK, Info};

use super::{ExanicRx, FrameStatus, Slot};
use crate::assemble::{FCS_BYTES, Step, Whole};
use crate::clock::TickClock;
use crate::filter;
use crate::port::BadFrames;

/// The CRC-32 of a frame followed by its own check sequence.
const GOOD_RESIDUE: u32 = 0x2144_df1c;

impl ExanicRx {
    /// As [`next_frame`](Self::next_frame), with the usual frame dealt with here.
    // Inlined always: a call would pass the slot through memory.
    #[inline(always)]
    pub(super) fn next(&mut self, at: usize, bad: &mut usize) -> Option<Slot> {
        if let Some(buf) = self.arena.get_mut(at..).and_then(<[u64]>::first_chunk_mut)
            && let Some((len, info)) = self.walk.single(buf)
        {
            let meta = self.usual(len, info);
            return Some(Slot { at, bytes: len - self.strip, meta, status: FrameStatus::Good });
        }
        self.next_frame(at, bad)
    }

    /// Counts a good frame without anything special before it, and gives what is known of it.
    #[inline(always)]
    pub(super) fn usual(&mut self, len: usize, info: Info) -> RxMeta {
        debug_assert!(!self.loss_before);
        let (ts_ns, flags) = self.time(info);
        let mark = if self.marked { filter::mark(info) } else { 0 };
        self.stats.frames += 1;
        self.stats.bytes += (len - self.strip) as u64;
        RxMeta { ts_ns, wire_len: (len - FCS_BYTES) as u32, flags, mark }
    }

    /// When a frame came, with the flags that go with it.
    #[inline(always)]
    fn time(&mut self, info: Info) -> (u64, RxFlags) {
        if let Some(clock) = &mut self.clock {
            clock.sync();
            if let Some(ns) = clock.expand(info.timestamp()) {
                return (ns, self.time_flags);
            }
        }
        (NO_TS, RxFlags::NONE)
    }

    /// Collects the next frame to be delivered at word `at` of the arena. `None`: there is none,
    /// or enough bad ones were passed over (`bad` is a budget).
    #[inline(never)]
    pub(super) fn next_frame(&mut self, at: usize, bad: &mut usize) -> Option<Slot> {
        let slot = self.find_frame(at, bad);
        if self.loss_before {
            // The frame that says so must come this way.
            self.walk.look_closely();
        }
        slot
    }

    fn find_frame(&mut self, at: usize, bad: &mut usize) -> Option<Slot> {
        if self.partial_at != at {
            self.move_partial(at);
        }
        loop {
            match self.walk.next(&mut self.arena[at..at + self.max_words]) {
                Step::Frame(whole) => {
                    if whole.info.status() == FRAME_OK
                        && whole.joint == 0
                        && whole.copied == whole.len
                        && whole.len > FCS_BYTES
                    {
                        return Some(self.good(at, whole));
                    }
                    if let Some(slot) = self.unusual(at, whole) {
                        return Some(slot);
                    }
                    *bad = bad.saturating_sub(1);
                    if *bad == 0 {
                        return None;
                    }
                }
                Step::Empty => {
                    if let Some(clock) = &mut self.clock {
                        clock.caught_up();
                    }
                    return None;
                }
                Step::Lapped => {
                    self.lapped();
                    return None;
                }
            }
        }
    }

    fn good(&mut self, at: usize, whole: Whole) -> Slot {
        let bytes = whole.len - self.strip;
        self.slot(at, bytes, whole.len - FCS_BYTES, whole, RxFlags::NONE)
    }

    fn slot(&mut self, at: usize, bytes: usize, wire: usize, whole: Whole, extra: RxFlags) -> Slot {
        let (ts_ns, mut flags) = self.time(whole.info);
        flags |= extra;
        if self.loss_before {
            self.loss_before = false;
            flags |= RxFlags::LOSS_BEFORE;
        }
        let mark = if self.marked { filter::mark(whole.info) } else { 0 };
        self.stats.frames += 1;
        self.stats.bytes += bytes as u64;
        let meta = RxMeta { ts_ns, wire_len: wire as u32, flags, mark };
        Slot { at, bytes, meta, status: FrameStatus::of(whole.info.status()) }
    }

    /// Frames that are bad, cut or too long.
    #[cold]
    fn unusual(&mut self, at: usize, whole: Whole) -> Option<Slot> {
        let status = FrameStatus::of(whole.info.status());
        if whole.joint != 0 && !self.is_one_frame(at, whole) {
            return self.split(at, whole);
        }
        let cut = whole.copied < whole.len;
        // An aborted frame ends anywhere; the others end with a check sequence.
        let fcs = if status == FrameStatus::Aborted { 0 } else { FCS_BYTES };
        let wire = whole.len.saturating_sub(fcs);
        if status == FrameStatus::HardwareOverflow {
            self.stats.card_drop += 1;
            self.loss_before = true;
        }
        let deliver = self.bad_frames == BadFrames::Deliver && whole.copied > 0;
        if deliver {
            let mut flags = RxFlags::NONE;
            if status != FrameStatus::Good || whole.len <= FCS_BYTES {
                flags |= RxFlags::BAD;
            }
            if cut {
                flags |= RxFlags::TRUNCATED;
            }
            self.stats.flagged += 1;
            let bytes = if self.strip == 0 { whole.copied } else { whole.copied.min(wire) };
            return Some(self.slot(at, bytes, wire, whole, flags));
        }
        match status {
            FrameStatus::Good if cut => self.stats.truncated += 1,
            FrameStatus::Corrupt => self.stats.crc += 1,
            // Counted above, as the loss that it reports.
            FrameStatus::HardwareOverflow => {}
            _ => self.stats.malformed += 1,
        }
        None
    }

    /// The timestamp changed within what the ring shows as one frame. All chunks of a frame carry
    /// its start time, so a card that died in mid-frame and came back looks like that: the
    /// beginning of one frame and the whole of another. Its check sequence decides; a card that
    /// stamped its chunks differently would only pay for the checking.
    fn is_one_frame(&self, at: usize, whole: Whole) -> bool {
        whole.copied == whole.len
            && whole.info.status() == FRAME_OK
            && crc32fast::hash(self.bytes(at, whole.len)) == GOOD_RESIDUE
    }

    /// Drops the beginning of a frame that never ended, and delivers the one behind it.
    fn split(&mut self, at: usize, whole: Whole) -> Option<Slot> {
        self.stats.malformed += 1;
        if whole.copied < whole.len {
            // Not all of the second is here to judge.
            self.stats.truncated += 1;
            return None;
        }
        // Chunks are whole words, so the second frame begins on one.
        let words = whole.joint / 8;
        self.arena.copy_within(at + words..at + whole.len.div_ceil(8), at);
        let len = whole.len - whole.joint;
        let second = Whole { len, copied: len, joint: 0, ..whole };
        let good = whole.info.status() == FRAME_OK
            && len > FCS_BYTES
            && crc32fast::hash(self.bytes(at, len)) == GOOD_RESIDUE;
        if good {
            return Some(self.good(at, second));
        }
        if whole.info.status() == FRAME_OK {
            self.stats.malformed += 1;
            return None;
        }
        self.unusual(at, second)
    }

    /// The usual empty poll: nothing came since the last look, and the clock stands.
    #[inline(always)]
    pub(super) fn is_idle(&self) -> bool {
        self.walk.is_still() && self.clock.as_ref().is_none_or(TickClock::is_settled)
    }

    #[cold]
    fn lapped(&mut self) {
        self.stats.ring_lapped += 1;
        self.loss_before = true;
        // All that is still to come was written after the newest frame that was found.
        if let Some(clock) = &mut self.clock {
            clock.caught_up();
        }
    }

    /// Moves the beginning of a frame to where the rest is to be collected.
    #[cold]
    fn move_partial(&mut self, at: usize) {
        let words = self.walk.words_held().min(self.max_words);
        self.arena.copy_within(self.partial_at..self.partial_at + words, at);
        self.partial_at = at;
    }

    #[inline]
    pub(super) fn bytes(&self, at: usize, len: usize) -> &[u8] {
        // Always all of them: `get` only keeps a panic out of the hot path.
        let words = self.arena.get(at..).unwrap_or_default();
        let len = len.min(8 * words.len());
        // SAFETY: initialised words seen as bytes, no more of them than there are.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), len) }
    }
}
