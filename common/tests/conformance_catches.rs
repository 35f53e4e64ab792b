//! The conformance suite notices: each bug here, small as it is, fails the rule it breaks.

#![allow(clippy::unwrap_used)] // A test that cannot go on may say so.

mod bench;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bench::Bench;
use linerate_common::conformance::{Outcome, rules, run_all};
use linerate_common::loopback::{LoopRx, LoopTx};
use linerate_common::{
    Buf, BufRx, BufTx, Clocked, Error, ErrorKind, FrameRx, FrameTx, MAX_BURST, RxFlags, RxFrame,
    RxMeta, RxStats, TxStamp, TxStamps, TxStats, Waitable,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    // Windows.
    EmptyIsAnError,
    MoreThan64,
    IgnoresMax,
    AcquireShowsTheWindowAgain,
    ReleaseForgetsLen,
    FrameOutOfRangeIsEmpty,
    PollIgnoresMax,
    PollCountsWrong,
    PanicShowsAgain,
    PanicLosesTheQueue,
    // Streams.
    Reorders,
    Duplicates,
    LosesSilently,
    CutsLongFrames,
    DamagesLongFrames,
    Invents,
    StatsReset,
    StatsForgetBytes,
    LeaksBuffers,
    // Stamps.
    StampWithoutSource,
    StampIsTai,
    SoftwareStampCalledHardware,
    // Waiting.
    NeverWakes,
    WakesForEver,
    // Buffers.
    TakesTwice,
    TakenIsReused,
    TakeOutOfRangeIsNone,
    // Sending.
    TakesEmptyFrames,
    CutsOversizeFrames,
    ReservingAgainSends,
    CommitZeroSends,
    CommitSendsWhatWasReserved,
    CommitUnreservedIsIgnored,
    CommitBeyondIsClamped,
    KickWithNothingFails,
    KickSendsTheReserved,
    EverySecondKickIsLost,
    FullLosesFrames,
    RoomIsZero,
    CompletionsAreLost,
    PushTakesForeign,
    PushTakesEmpty,
    PushLeaks,
    StampsOutOfOrder,
}
use Bug::*;

/// A receiver with a bug. Frames are copied out, so that windows can be anything.
struct BadRx {
    below: LoopRx,
    bug: Bug,
    waiting: VecDeque<(Vec<u8>, RxMeta)>,
    len: usize,
    seen: u64,
    given: Vec<bool>,
    alias: Option<Buf>,
    read: u64,
}

impl BadRx {
    fn new(below: LoopRx, bug: Bug) -> Self {
        let given = vec![false; MAX_BURST];
        let waiting = VecDeque::new();
        Self { below, bug, waiting, len: 0, seen: 0, given, alias: Option::None, read: 0 }
    }

    /// Bugs about buffers and waiting need the real window.
    fn passes(&self) -> bool {
        matches!(
            self.bug,
            None | NeverWakes | WakesForEver | TakesTwice | TakenIsReused | TakeOutOfRangeIsNone
        )
    }

    fn fetch(&mut self) -> Result<(), Error> {
        let leaks = self.bug == LeaksBuffers;
        while self.below.acquire(MAX_BURST)? > 0 {
            for i in 0..self.below.len() {
                let RxFrame { bytes, mut meta } = self.below.frame(i);
                let mut bytes = bytes.to_vec();
                self.seen += 1;
                let long = bytes.len() > 1000;
                match self.bug {
                    LosesSilently if self.seen.is_multiple_of(100) => continue,
                    CutsLongFrames if long => bytes.truncate(1000),
                    DamagesLongFrames if long => bytes[1000] ^= 1,
                    StampWithoutSource => meta.flags = RxFlags::NONE,
                    StampIsTai => meta.ts_ns += 37_000_000_000,
                    SoftwareStampCalledHardware => meta.flags = RxFlags::TS_HW,
                    _ => {}
                }
                let frame = (bytes, meta);
                if self.bug == Duplicates && self.seen.is_multiple_of(100) {
                    self.waiting.push_back(frame.clone());
                }
                if self.bug == Invents && self.seen == 3 {
                    self.waiting.push_back((vec![0; 64], RxMeta::plain(64)));
                }
                self.waiting.push_back(frame);
                let n = self.waiting.len();
                if self.bug == Reorders && n > 1 && self.seen.is_multiple_of(10) {
                    self.waiting.swap(n - 1, n - 2);
                }
                if leaks && self.seen.is_multiple_of(10) {
                    let _leaked = self.below.take(i);
                }
            }
            self.below.release();
        }
        Ok(())
    }
}

impl FrameRx for BadRx {
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        if self.passes() {
            self.given.fill(false);
            if let Some(alias) = &mut self.alias {
                self.below.pool().bytes_mut(alias).unwrap().fill(0xee);
            }
            return self.below.acquire(max);
        }
        if self.bug == AcquireShowsTheWindowAgain {
            self.len = 0;
        }
        self.waiting.drain(..self.len);
        self.len = 0;
        self.fetch()?;
        let cap = if self.bug == MoreThan64 { usize::MAX } else { MAX_BURST };
        let max = if self.bug == IgnoresMax { MAX_BURST } else { max.min(cap) };
        self.len = self.waiting.len().min(max);
        if self.len == 0 && self.bug == EmptyIsAnError {
            return Err(Error::new(ErrorKind::Os, "recv"));
        }
        Ok(self.len)
    }

    fn len(&self) -> usize {
        if self.passes() { self.below.len() } else { self.len }
    }

    fn frame(&self, i: usize) -> RxFrame<'_> {
        if self.passes() {
            return self.below.frame(i);
        }
        if self.bug == FrameOutOfRangeIsEmpty && i >= self.len {
            return RxFrame { bytes: &[], meta: RxMeta::plain(0) };
        }
        assert!(i < self.len);
        let (bytes, meta) = &self.waiting[i];
        RxFrame { bytes, meta: *meta }
    }

    fn release(&mut self) {
        if self.passes() {
            return self.below.release();
        }
        if self.bug != ReleaseForgetsLen {
            self.waiting.drain(..self.len);
            self.len = 0;
        }
    }

    fn stats(&mut self) -> RxStats {
        let mut stats = self.below.stats();
        match self.bug {
            StatsReset => stats.frames -= std::mem::replace(&mut self.read, stats.frames),
            StatsForgetBytes => stats.bytes = 0,
            _ => {}
        }
        stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        Some(self)
    }

    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        let max = if self.bug == PollIgnoresMax { 64 } else { max };
        if self.bug == PanicShowsAgain {
            // The open window is not closed, so its frames are still the next ones.
            self.len = 0;
        }
        let n = self.acquire(max)?;
        if self.bug == PanicLosesTheQueue {
            let frames: Vec<_> = self.waiting.drain(..).collect();
            self.len = 0;
            for (bytes, meta) in &frames[..n] {
                f(RxFrame { bytes, meta: *meta });
            }
            // Not reached when the handler panics.
            self.waiting.extend(frames.into_iter().skip(n));
            return Ok(n);
        }
        for i in 0..n {
            f(self.frame(i));
        }
        self.release();
        Ok(if self.bug == PollCountsWrong { n + 1 } else { n })
    }
}

impl BufRx for BadRx {
    fn take(&mut self, i: usize) -> Option<Buf> {
        if self.bug == TakeOutOfRangeIsNone && i >= self.below.len() {
            return Option::None;
        }
        let buf = self.below.take(i);
        if let Some(buf) = &buf {
            if self.bug == TakenIsReused {
                // SAFETY: there is none; that is the bug.
                let alias = unsafe {
                    Buf::from_parts(buf.pool_tag(), buf.id(), buf.offset() as u16, buf.len() as u16)
                };
                self.alias = Some(alias);
            }
            self.given[i] = true;
        } else if self.bug == TakesTwice && self.given[i] {
            return self.below.pool().alloc(60);
        }
        buf
    }
}

impl Waitable for BadRx {
    fn fd(&self) -> BorrowedFd<'_> {
        self.below.fd()
    }

    fn arm(&mut self) -> Result<(), Error> {
        match self.bug {
            NeverWakes => Ok(()),
            WakesForEver if self.seen > 0 => Ok(()),
            WakesForEver => {
                self.seen = 1;
                self.below.arm()
            }
            _ => self.below.arm(),
        }
    }
}

/// A sender with a bug.
struct BadTx {
    below: LoopTx,
    bug: Bug,
    reserved: usize,
    committed: bool,
    kicks: u32,
}

impl BadTx {
    fn new(below: LoopTx, bug: Bug) -> Self {
        Self { below, bug, reserved: 0, committed: false, kicks: 0 }
    }
}

impl FrameTx for BadTx {
    fn max_len(&self) -> usize {
        self.below.max_len()
    }

    fn room(&self) -> usize {
        if self.bug == RoomIsZero { 0 } else { self.below.room() }
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.bug == ReservingAgainSends && self.reserved > 0 {
            self.below.commit(self.reserved);
        }
        self.reserved = 0;
        let slot = self.below.reserve(len)?;
        self.reserved = slot.len();
        Some(slot)
    }

    fn commit(&mut self, len: usize) {
        let reserved = std::mem::take(&mut self.reserved);
        let len = match self.bug {
            CommitUnreservedIsIgnored if reserved == 0 => return,
            CommitZeroSends if len == 0 => reserved,
            CommitSendsWhatWasReserved if len > 0 => reserved,
            CommitBeyondIsClamped => len.min(reserved),
            _ => len,
        };
        self.below.commit(len);
        self.committed |= len > 0;
    }

    fn kick(&mut self) -> Result<(), Error> {
        match self.bug {
            KickWithNothingFails if !self.committed => {
                return Err(Error::new(ErrorKind::Os, "doorbell"));
            }
            KickSendsTheReserved if self.reserved > 0 => {
                self.below.commit(std::mem::take(&mut self.reserved));
            }
            EverySecondKickIsLost => {
                self.kicks += 1;
                if self.kicks % 2 == 1 {
                    return Ok(());
                }
            }
            _ => {}
        }
        self.committed = false;
        self.below.kick()
    }

    fn reap(&mut self) -> usize {
        self.below.reap()
    }

    fn stats(&mut self) -> TxStats {
        let mut stats = self.below.stats();
        if self.bug == CompletionsAreLost {
            stats.completed -= stats.completed / 100;
        }
        stats
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        let cut = &frame[..frame.len().min(self.max_len())];
        let sent = match self.bug {
            TakesEmptyFrames if frame.is_empty() => return Ok(true),
            CutsOversizeFrames => self.below.send(cut)?,
            FullLosesFrames => self.below.send(frame)? || !frame.is_empty(),
            _ => self.below.send(frame)?,
        };
        self.committed |= sent;
        Ok(sent)
    }
}

impl BufTx for BadTx {
    fn push(&mut self, buf: Buf) -> Result<(), Buf> {
        match self.bug {
            PushTakesForeign if buf.pool_tag() != self.below.pool().tag() => Ok(()),
            PushTakesEmpty if buf.is_empty() => Ok(()),
            PushLeaks => {
                let copy = self.below.pool().bytes(&buf).unwrap().to_vec();
                assert!(self.below.send(&copy).unwrap());
                Ok(())
            }
            _ => self.below.push(buf),
        }
    }
}

impl TxStamps for BadTx {
    fn reap_with(&mut self, f: &mut dyn FnMut(TxStamp)) -> usize {
        let bug = self.bug;
        self.below.reap_with(&mut |mut stamp| {
            if bug == StampsOutOfOrder && stamp.seq > 3 {
                stamp.seq ^= 1;
            }
            f(stamp);
        })
    }
}

/// A pair with one bug.
fn rig(bug: Bug) -> Bench<BadTx, BadRx> {
    let mut rig = Bench::new(move |tx, rx| (BadTx::new(tx, bug), BadRx::new(rx, bug)));
    // What never comes should not be waited for.
    rig.wire.patience = Duration::from_millis(150);
    rig.take = Some(|rx| rx);
    rig.push = Some(|tx| tx);
    rig.stamps = Some(|tx| tx);
    rig.clock = Some(|rx| rx.below.clock());
    rig
}

fn try_rule(bug: Bug, name: &str) -> Outcome {
    let rules = rules();
    let rule = rules.iter().find(|rule| rule.name == name).expect("a rule of that name");
    rule.run(&mut rig(bug))
}

#[test]
fn without_a_bug_every_rule_passes() {
    let report = run_all(&mut rig(None));
    assert!(report.is_clean(), "{report}");
}

#[test]
fn each_bug_fails_the_rule_it_breaks() {
    let mut missed = Vec::new();
    for (bug, rule) in [
        (EmptyIsAnError, "empty_is_zero"),
        (MoreThan64, "window_of_at_most_64"),
        (IgnoresMax, "window_respects_max"),
        (AcquireShowsTheWindowAgain, "acquire_closes_the_window"),
        (AcquireShowsTheWindowAgain, "forgotten_guard"),
        (ReleaseForgetsLen, "window_shows_what_came"),
        (FrameOutOfRangeIsEmpty, "frame_out_of_range_panics"),
        (PollIgnoresMax, "poll_respects_max"),
        (PollCountsWrong, "empty_is_zero"),
        (PanicShowsAgain, "panic_in_the_handler"),
        (PanicLosesTheQueue, "panic_in_the_handler"),
        (Reorders, "order_kept"),
        (Reorders, "two_threads"),
        (Duplicates, "order_kept"),
        (LosesSilently, "losses_named"),
        (CutsLongFrames, "contents_intact"),
        (DamagesLongFrames, "contents_intact"),
        (Invents, "order_kept"),
        (StatsReset, "stats_monotonic"),
        (StatsForgetBytes, "stats_monotonic"),
        (LeaksBuffers, "buffers_come_back"),
        (StampWithoutSource, "stamps_have_a_source"),
        (StampIsTai, "stamps_are_plausible"),
        (SoftwareStampCalledHardware, "stamps_have_a_source"),
        (NeverWakes, "no_lost_wake_up"),
        (WakesForEver, "wake_ups_are_spent"),
        (TakesTwice, "take_twice"),
        (TakenIsReused, "taken_survives"),
        (TakeOutOfRangeIsNone, "take_out_of_range_panics"),
        (TakesEmptyFrames, "bad_length"),
        (CutsOversizeFrames, "bad_length"),
        (ReservingAgainSends, "reserve_again_cancels"),
        (CommitZeroSends, "commit_zero_cancels"),
        (CommitSendsWhatWasReserved, "commit_less"),
        (CommitUnreservedIsIgnored, "commit_unreserved_panics"),
        (CommitBeyondIsClamped, "commit_beyond_panics"),
        (KickWithNothingFails, "kick_with_nothing"),
        (KickSendsTheReserved, "reservation_is_not_sent"),
        (EverySecondKickIsLost, "group_with_one_kick"),
        (FullLosesFrames, "back_pressure"),
        (FullLosesFrames, "losses_named"),
        (RoomIsZero, "room"),
        (CompletionsAreLost, "completions"),
        (PushTakesForeign, "push_foreign"),
        (PushTakesEmpty, "push_bad_length"),
        (PushLeaks, "push_what_was_taken"),
        (StampsOutOfOrder, "tx_stamps_in_order"),
    ] {
        let outcome = try_rule(bug, rule);
        if !matches!(outcome, Outcome::Fail(_)) {
            missed.push((bug, rule, outcome));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
