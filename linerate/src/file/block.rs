//! Encodes pcapng blocks into one growing buffer, in this machine's byte order.

use linerate_common::{NO_TS, RxFrame};

use super::statistics::Statistics;
use super::writer::{InterfaceOptions, epb_flags};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE: u32 = 3;
const STATISTICS: u32 = 5;
pub(super) const ENHANCED: u32 = 6;
/// Of the types that are left to local use, for bytes that mean nothing.
pub(super) const PADDING: u32 = 0x8000_0000;

const OPT_COMMENT: u16 = 1;
const ETHERNET: u16 = 1;

/// The buffer. Every method appends one whole block.
#[derive(Debug)]
pub(super) struct Encoder {
    buf: Vec<u8>,
    frames: u64,
}

impl Encoder {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { buf: Vec::with_capacity(bytes), frames: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.buf.len()
    }

    /// Frames in the buffer.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn clear(&mut self) {
        self.buf.clear();
        self.frames = 0;
    }

    pub(super) fn section(&mut self, application: &str) {
        self.block(SECTION, |b| {
            b.u32(0x1a2b_3c4d);
            b.u16(1);
            b.u16(0);
            b.u64(u64::MAX); // The section's length is not known beforehand.
            b.text(3, std::env::consts::OS);
            b.text(4, application);
            b.end_options();
        });
    }

    pub(super) fn interface(&mut self, i: &InterfaceOptions) {
        self.block(INTERFACE, |b| {
            b.u16(ETHERNET);
            b.u16(0);
            b.u32(i.snap_len);
            b.text(OPT_COMMENT, &i.comment);
            b.text(2, &i.name);
            b.text(3, &i.description);
            if let Some(mac) = i.mac {
                b.option(6, &[&mac]);
            }
            if let Some(speed) = i.speed_bps {
                b.option(8, &[&speed.to_ne_bytes()]);
            }
            b.option(9, &[&[9]]);
            if !i.filter.is_empty() {
                b.option(11, &[&[0], i.filter.as_bytes()]);
            }
            b.text(12, std::env::consts::OS);
            b.text(15, &i.hardware);
            b.end_options();
        });
    }

    /// A frame by the block that fits it.
    #[inline]
    pub(super) fn frame(&mut self, interface: u32, frame: &RxFrame<'_>, lost_before: u64) {
        let meta = &frame.meta;
        let whole = meta.wire_len as usize == frame.bytes.len();
        if meta.ts_ns == NO_TS && interface == 0 && whole && lost_before == 0 {
            self.simple(frame.bytes);
        } else {
            let ts_ns = if meta.ts_ns == NO_TS { 0 } else { meta.ts_ns };
            let flags = epb_flags(meta.flags);
            self.enhanced(interface, frame.bytes, ts_ns, meta.wire_len, flags, lost_before);
        }
    }

    #[inline]
    fn enhanced(
        &mut self,
        interface: u32,
        frame: &[u8],
        ts_ns: u64,
        wire_len: u32,
        flags: u32,
        lost_before: u64,
    ) {
        if flags == 0 && lost_before == 0 {
            // The ordinary frame, in one go: this is the loop of a capture at line rate.
            let padded = frame.len().next_multiple_of(4);
            let total = (32 + padded) as u32;
            let words = [
                ENHANCED,
                total,
                interface,
                (ts_ns >> 32) as u32,
                ts_ns as u32,
                frame.len() as u32,
                wire_len,
            ];
            self.buf.reserve(total as usize);
            for word in words {
                self.u32(word);
            }
            self.padded(frame);
            self.u32(total);
        } else {
            self.block(ENHANCED, |b| {
                b.u32(interface);
                b.stamp(ts_ns);
                b.u32(frame.len() as u32);
                b.u32(wire_len);
                b.padded(frame);
                if flags != 0 {
                    b.option(2, &[&flags.to_ne_bytes()]);
                }
                if lost_before != 0 {
                    b.option(4, &[&lost_before.to_ne_bytes()]);
                }
                b.end_options();
            });
        }
        self.frames += 1;
    }

    fn simple(&mut self, frame: &[u8]) {
        self.block(SIMPLE, |b| {
            b.u32(frame.len() as u32);
            b.padded(frame);
        });
        self.frames += 1;
    }

    pub(super) fn statistics(&mut self, interface: u32, s: &Statistics, comment: &str) {
        self.block(STATISTICS, |b| {
            b.u32(interface);
            b.stamp(s.end_ns.unwrap_or_else(linerate_common::clock::now_ns));
            b.text(OPT_COMMENT, comment);
            for (code, time) in [(2, s.start_ns), (3, s.end_ns)] {
                if let Some(ns) = time {
                    let (high, low) = ((ns >> 32) as u32, ns as u32);
                    b.option(code, &[&high.to_ne_bytes(), &low.to_ne_bytes()]);
                }
            }
            let counters = [s.received, s.if_dropped, s.accepted, s.os_dropped, s.delivered];
            for (code, counter) in (4..).zip(counters) {
                if let Some(n) = counter {
                    b.option(code, &[&n.to_ne_bytes()]);
                }
            }
            b.end_options();
        });
    }

    /// Frames a body with its type and its length, in front and behind.
    fn block(&mut self, kind: u32, body: impl FnOnce(&mut Self)) {
        let start = self.buf.len();
        self.u32(kind);
        self.u32(0);
        body(self);
        let total = (self.buf.len() - start + 4) as u32;
        self.buf[start + 4..start + 8].copy_from_slice(&total.to_ne_bytes());
        self.u32(total);
    }

    #[inline]
    fn u16(&mut self, n: u16) {
        self.buf.extend_from_slice(&n.to_ne_bytes());
    }

    #[inline]
    fn u32(&mut self, n: u32) {
        self.buf.extend_from_slice(&n.to_ne_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.buf.extend_from_slice(&n.to_ne_bytes());
    }

    fn stamp(&mut self, ns: u64) {
        self.u32((ns >> 32) as u32);
        self.u32(ns as u32);
    }

    #[inline]
    fn padded(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        let pad = bytes.len().next_multiple_of(4) - bytes.len();
        self.buf.extend_from_slice(&[0; 3][..pad]);
    }

    fn text(&mut self, code: u16, text: &str) {
        if !text.is_empty() {
            self.option(code, &[text.as_bytes()]);
        }
    }

    /// An option of these parts, cut to the 65535 bytes that one can have.
    fn option(&mut self, code: u16, parts: &[&[u8]]) {
        self.u16(code);
        let length_at = self.buf.len();
        self.u16(0);
        let value_at = self.buf.len();
        for part in parts {
            self.buf.extend_from_slice(part);
        }
        self.buf.truncate(value_at + usize::from(u16::MAX));
        let len = self.buf.len() - value_at;
        self.buf[length_at..value_at].copy_from_slice(&(len as u16).to_ne_bytes());
        self.buf.resize(value_at + len.next_multiple_of(4), 0);
    }

    fn end_options(&mut self) {
        self.u32(0);
    }
}

/// How much of an encoded piece, cut anywhere, is whole blocks, and the frames in them.
pub(super) fn whole_blocks(piece: &[u8]) -> (usize, u64) {
    let (mut at, mut frames) = (0, 0);
    while let Some(head) = piece.get(at..at + 8) {
        let word = |i| u32::from_ne_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let end = at + word(4) as usize;
        if end > piece.len() {
            break;
        }
        frames += u64::from(matches!(word(0), ENHANCED | SIMPLE));
        at = end;
    }
    (at, frames)
}
