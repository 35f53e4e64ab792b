//! What comes back: answers, the stamps of sending, and what becomes of each frame that was out.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use linerate::{Error, ErrorKind, FrameRx, RxFrame};

use super::{Client, Pending, Run};
use crate::ping::record::{Sample, UNKNOWN};
use crate::ping::stamp::{Stamp, Torn};
use crate::ping::tally::Stray;
use crate::probe::{Kind, Mark, Unmarked};

/// How long an answered frame waits for the stamp of its sending.
const STAMP_PATIENCE_NS: u64 = 2_000_000;
/// Answers taken in one turn.
const BURST: usize = 32;

impl Client {
    /// Takes the answers that are there.
    pub(super) fn receive(&mut self, run: Run) -> Result<usize, Error> {
        let Self { rx, pending, oldest, stray, stream, .. } = self;
        let mut came = 0;
        for queue in rx {
            let polled = queue.poll(BURST, |frame| {
                let now = run.now_ns();
                match answer(&frame, run, *stream, now) {
                    Ok(mark) => take(&frame, mark, *oldest, pending, now, stray),
                    Err(Unmarked::Damaged) => stray.damaged += 1,
                    Err(Unmarked::Foreign) => stray.foreign += 1,
                }
            });
            came += match polled {
                // Frames may come again when the link is back; those in between are lost.
                Err(e) if e.kind == ErrorKind::LinkDown => 0,
                polled => polled?,
            };
        }
        Ok(came)
    }

    pub(super) fn collect_stamps(&mut self) {
        let Self { tx, pending, oldest, stamped, .. } = self;
        if let Some(stamps) = tx.stamps() {
            stamps.reap_with(&mut |stamp| {
                *stamped = true;
                let at = stamp.seq.checked_sub(*oldest);
                if let Some(pending) = at.and_then(|at| pending.get_mut(at as usize)) {
                    pending.left = Stamp::new(stamp.ts_ns, stamp.flags);
                }
            });
        }
    }

    /// Hands on what is answered and gives up what is overdue, in the order of sending. `now` may
    /// be a little early.
    pub(super) fn settle(&mut self, run: Run, now: u64) {
        while let Some(front) = self.pending.front() {
            let overdue = now.saturating_sub(front.due_ns) > self.plan.timeout_ns;
            let ready = match front.answer {
                // The stamp of sending may come behind the answer, or not at all.
                Some((at, _)) => {
                    let fresh = now.saturating_sub(at) < STAMP_PATIENCE_NS;
                    !(self.stamped && front.left.ns == 0 && fresh)
                }
                None => false,
            };
            if !overdue && !ready {
                return;
            }
            let front = *front;
            self.pending.pop_front();
            self.oldest += 1;
            if front.warm {
                continue;
            }
            let tally = &mut self.tallies[run.index];
            let Some((at, came)) = front.answer else {
                tally.lost += 1;
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            tally.answered += 1;
            self.shared.answered.fetch_add(1, Ordering::Relaxed);
            let service_ns = at.saturating_sub(front.sent_ns);
            let stamped = came.since(front.left, service_ns);
            self.stray.torn += u64::from(stamped == Some(Err(Torn)));
            let mut sample = Sample {
                run: run.index,
                due_ns: front.due_ns,
                rtt_ns: at.saturating_sub(front.due_ns),
                service_ns,
                stamped_ns: stamped.and_then(Result::ok).unwrap_or(UNKNOWN),
            };
            // The main thread empties it many times a second.
            while let Err(rtrb::PushError::Full(back)) = self.samples.push(sample) {
                sample = back;
                std::thread::yield_now();
            }
        }
    }
}

/// The mark of a frame that may be an answer to us.
#[inline]
fn answer(frame: &RxFrame<'_>, run: Run, stream: u8, now: u64) -> Result<Mark, Unmarked> {
    let mark = Mark::of_frame(frame.bytes, run.start_ns + now)?;
    if mark.kind != Kind::Pong || mark.stream != stream {
        return Err(Unmarked::Foreign);
    }
    if frame.bytes.len() != run.size { Err(Unmarked::Damaged) } else { Ok(mark) }
}

/// Takes note of an answer.
#[inline]
fn take(
    frame: &RxFrame<'_>,
    mark: Mark,
    oldest: u64,
    pending: &mut VecDeque<Pending>,
    now: u64,
    stray: &mut Stray,
) {
    let ahead = mark.seq.wrapping_sub(oldest as u32);
    match pending.get_mut(ahead as usize) {
        Some(pending) if pending.time_ns != mark.time_ns => stray.foreign += 1,
        Some(pending) if pending.answer.is_some() => stray.duplicates += 1,
        Some(pending) => {
            pending.answer = Some((now, Stamp::new(frame.meta.ts_ns, frame.meta.flags)));
        }
        None if ahead > u32::MAX / 2 => stray.late += 1,
        None => stray.foreign += 1,
    }
}
