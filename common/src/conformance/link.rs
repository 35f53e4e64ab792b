//! A pair under test, and what every rule needs: tagged frames, patience, verdicts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::rig::{Rig, Wire};
use crate::error::{Error, SetupError};
use crate::frame::{RxFlags, RxFrame};
use crate::rx::FrameRx;
use crate::tx::FrameTx;

/// Why a rule did not pass.
pub(super) enum Verdict {
    Fail(String),
    NotSupported(String),
}

pub(super) type Checked = Result<(), Verdict>;

/// A rule's name, its sentence and its check.
pub(super) type Entry<R> = (&'static str, &'static str, fn(&mut Link<'_, R>) -> Checked);

impl From<Error> for Verdict {
    fn from(e: Error) -> Self {
        Self::Fail(format!("an error where none was due: {e}"))
    }
}

/// Fails the rule unless `holds`.
pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Verdict::Fail(otherwise())) }
}

pub(super) fn not_supported<T>(why: &str) -> Result<T, Verdict> {
    Err(Verdict::NotSupported(why.to_owned()))
}

/// Marks the suite's frames: magic, the link's tag, sequence number, frame length.
const TAG_LEN: usize = 16;
const MAGIC: [u8; 4] = *b"lr?!";

/// A fresh pair.
pub(super) struct Link<'r, R: Rig> {
    pub(super) rig: &'r mut R,
    pub(super) tx: R::Tx,
    pub(super) rx: R::Rx,
    pub(super) wire: Wire,
    /// Tells our frames from those of a link before.
    pub(super) tag: u32,
}

impl<'r, R: Rig> Link<'r, R> {
    pub(super) fn open(rig: &'r mut R) -> Result<Self, SetupError> {
        static TAG: AtomicU32 = AtomicU32::new(1);
        let (tx, rx) = rig.pair()?;
        let wire = rig.wire();
        let tag = TAG.fetch_add(1, Ordering::Relaxed) ^ std::process::id() << 16;
        Ok(Self { rig, tx, rx, wire, tag })
    }

    /// Shortest frame that can carry a tag.
    pub(super) fn min_len(&self) -> usize {
        self.wire.min_len.max(self.rig.header_len() + TAG_LEN)
    }

    /// Longest frame that arrives.
    pub(super) fn max_len(&self) -> usize {
        self.tx.max_len().min(self.wire.max_len.unwrap_or(usize::MAX))
    }

    /// Frames to send in one go.
    pub(super) fn burst(&self, wanted: usize) -> usize {
        wanted.min(self.wire.in_flight)
    }

    /// Frame `seq`, `len` bytes long, every byte known.
    pub(super) fn build(&self, seq: u32, len: usize) -> Vec<u8> {
        build(&*self.rig, self.tag, seq, len)
    }

    /// Which of our frames this is, if any.
    pub(super) fn read(&self, frame: RxFrame<'_>) -> Result<Option<u32>, Verdict> {
        read(&*self.rig, &self.wire, self.tag, frame)
    }

    /// Sends frame `seq` of `len` bytes, with patience against back-pressure, and kicks.
    pub(super) fn send(&mut self, seq: u32, len: usize) -> Checked {
        let frame = self.build(seq, len);
        let sent = self.wait_for(|link| {
            if link.tx.send(&frame)? {
                return Ok(true);
            }
            link.tx.kick()?;
            link.tx.reap();
            Ok(false)
        })?;
        ensure(sent, || format!("no room for frame {seq} although nothing is in the way"))?;
        Ok(self.tx.kick()?)
    }

    /// Sends a range of frames of the shortest length.
    pub(super) fn send_all(&mut self, seqs: std::ops::Range<u32>) -> Checked {
        let len = self.min_len();
        seqs.into_iter().try_for_each(|seq| self.send(seq, len))
    }

    /// Opens one window and reads which of our frames it shows; the window stays open.
    pub(super) fn window(&mut self, max: usize) -> Result<Vec<u32>, Verdict> {
        let n = self.rx.acquire(max)?;
        let mut ours = Vec::new();
        for i in 0..n {
            ours.extend(self.read(self.rx.frame(i))?);
        }
        Ok(ours)
    }

    /// Opens windows until one shows `want` of our frames at once (or more), for rules about a
    /// window of several. `None` when they keep arriving apart.
    pub(super) fn window_of(
        &mut self,
        first: u32,
        want: usize,
    ) -> Result<Option<Vec<u32>>, Verdict> {
        let mut seq = first;
        for _ in 0..20 {
            self.send_all(seq..seq + want as u32)?;
            seq += want as u32;
            let mut left = want;
            let mut found = None;
            self.wait_for(|link| {
                let ours = link.window(64)?;
                left -= ours.len().min(left);
                if ours.len() >= want {
                    found = Some(ours);
                }
                Ok(left == 0)
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Receives our frames until `count` have come or patience runs out.
    pub(super) fn receive(&mut self, count: usize) -> Result<Vec<u32>, Verdict> {
        let mut got = Vec::new();
        self.wait_for(|link| {
            got.extend(link.window(64)?);
            link.rx.release();
            Ok(got.len() >= count)
        })?;
        Ok(got)
    }

    /// Receives exactly these frames, in order.
    pub(super) fn expect(&mut self, seqs: std::ops::Range<u32>) -> Checked {
        let got = self.receive(seqs.len())?;
        same(&got, seqs)
    }

    /// Sends frame `seq` and receives up to it: whatever came before it is an error. Proves that
    /// nothing is left over without waiting for nothing.
    pub(super) fn expect_nothing_before(&mut self, seq: u32) -> Checked {
        self.send_all(seq..seq + 1)?;
        let got = self.receive(1)?;
        ensure(got == [seq], || format!("expected frame {seq} next, got {got:?}"))
    }

    /// Tries until `done` says so or patience runs out; tells which.
    pub(super) fn wait_for(
        &mut self,
        mut done: impl FnMut(&mut Self) -> Result<bool, Verdict>,
    ) -> Result<bool, Verdict> {
        let start = Instant::now();
        for round in 0_u32.. {
            if done(self)? {
                return Ok(true);
            }
            self.rig.pump();
            if round > 100 {
                thread::sleep(Duration::from_micros(50));
                if start.elapsed() > self.wire.patience {
                    break;
                }
            }
        }
        Ok(false)
    }
}

/// Are these the frames of `seqs`, each once and in order?
pub(super) fn same(got: &[u32], seqs: std::ops::Range<u32>) -> Checked {
    if got.iter().copied().eq(seqs.clone()) {
        return Ok(());
    }
    let at = got
        .iter()
        .zip(seqs.clone())
        .position(|(a, b)| *a != b)
        .unwrap_or(got.len().min(seqs.len()));
    let near = &got[at.min(got.len())..got.len().min(at + 8)];
    Err(Verdict::Fail(format!(
        "sent frames {}..{}, got {} of them; the sequence breaks at {}: {near:?}",
        seqs.start,
        seqs.end,
        got.len(),
        seqs.start + at as u32,
    )))
}

pub(super) fn build<R: Rig>(rig: &R, tag: u32, seq: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    let payload = &mut frame[rig.header_len()..];
    payload[..4].copy_from_slice(&MAGIC);
    payload[4..8].copy_from_slice(&tag.to_be_bytes());
    payload[8..12].copy_from_slice(&seq.to_be_bytes());
    payload[12..16].copy_from_slice(&(len as u32).to_be_bytes());
    for (i, byte) in payload.iter_mut().enumerate().skip(TAG_LEN) {
        *byte = (i as u32).wrapping_mul(7).wrapping_add(seq.wrapping_mul(31)) as u8;
    }
    rig.write_headers(&mut frame);
    frame
}

pub(super) fn read<R: Rig>(
    rig: &R,
    wire: &Wire,
    tag: u32,
    frame: RxFrame<'_>,
) -> Result<Option<u32>, Verdict> {
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    let Some(payload) = rig.payload(frame.bytes) else { return stranger(wire, frame) };
    if payload.get(..4) != Some(&MAGIC) || word(payload, 4) != tag {
        return stranger(wire, frame);
    }
    let (seq, len) = (word(payload, 8), word(payload, 12) as usize);
    let fits = len >= rig.header_len() + TAG_LEN && len <= 1 << 16;
    ensure(fits, || format!("frame {seq} arrived with its length field changed to {len}"))?;
    let sent = build(rig, tag, seq, len);
    let got = if wire.rewrites_headers { payload } else { frame.bytes };
    let want = if wire.rewrites_headers { &sent[rig.header_len()..] } else { &sent[..] };
    let padded = if wire.pads { got.len() >= want.len() } else { got.len() == want.len() };
    ensure(padded, || format!("frame {seq} of {} bytes arrived with {}", want.len(), got.len()))?;
    let broken = got.iter().zip(want).position(|(a, b)| a != b);
    ensure(broken.is_none(), || {
        format!("frame {seq} of {len} bytes arrived changed from byte {broken:?} on")
    })?;
    let meta = frame.meta;
    let cut = meta.flags.contains(RxFlags::TRUNCATED);
    ensure(!cut && meta.wire_len as usize == frame.bytes.len(), || {
        format!(
            "frame {seq}: {} bytes, but wire_len {} and {:?}",
            frame.bytes.len(),
            meta.wire_len,
            meta.flags
        )
    })?;
    Ok(Some(seq))
}

/// A frame that is not ours: fine where others send.
fn stranger(wire: &Wire, frame: RxFrame<'_>) -> Result<Option<u32>, Verdict> {
    let start = &frame.bytes[..frame.bytes.len().min(16)];
    ensure(!wire.quiet, || {
        format!("a frame of {} bytes that nobody sent: {start:02x?}", frame.bytes.len())
    })?;
    Ok(None)
}
