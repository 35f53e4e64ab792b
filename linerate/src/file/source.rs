//! The bytes of a file through one bounded buffer, with their offsets.

use std::io::{self, Read};

/// How much is read at a time. A record never needs more than this plus
/// [`MAX_RECORD`](super::MAX_RECORD).
const CHUNK: usize = 256 << 10;

/// The answer to "are there `n` bytes?".
pub(super) enum Want {
    /// Yes, buffered.
    Ready,
    /// The stream ends first: only this many.
    Short(usize),
    /// Not without moving the buffer.
    Later,
}

/// A stream with look-ahead. Memory stays bounded: the buffer grows to what one record needs,
/// and records are bounded by their parsers before they ask.
pub(super) struct Source {
    input: Box<dyn Read + Send>,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset in the stream of `buf[0]`.
    base: u64,
    ended: bool,
}

impl Source {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, buf: Vec::new(), start: 0, end: 0, base: 0, ended: false }
    }

    /// Offset in the stream of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// What is buffered and not yet consumed.
    pub(super) fn peek(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Is `n` bytes' worth buffered?
    pub(super) fn has(&self, n: usize) -> bool {
        self.end - self.start >= n
    }

    /// Buffers at least `n` bytes if the stream has them; says how many there are, which is
    /// less than `n` only at the end of the stream. Moves the buffer: spans taken before are void.
    pub(super) fn fill(&mut self, n: usize) -> io::Result<usize> {
        if self.has(n) || self.ended {
            return Ok(self.end - self.start);
        }
        self.buf.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        let room = CHUNK.max(n);
        if self.buf.len() < room {
            self.buf.resize(room, 0);
        }
        while self.end < n {
            match self.input.read(&mut self.buf[self.end..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(got) => self.end += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.end)
    }

    /// Is there enough? With `may_fill` off the buffer stays where it is, and the answer may be
    /// [`Want::Later`].
    pub(super) fn want(&mut self, n: usize, may_fill: bool) -> io::Result<Want> {
        if self.has(n) {
            return Ok(Want::Ready);
        }
        if !may_fill {
            return Ok(Want::Later);
        }
        let got = self.fill(n)?;
        Ok(if got >= n { Want::Ready } else { Want::Short(got) })
    }

    /// Where in the buffer the next byte is, for [`span`](Self::span).
    pub(super) fn position(&self) -> usize {
        self.start
    }

    /// Bytes `at..at + len` of the buffer; valid until the next [`fill`](Self::fill).
    pub(super) fn span(&self, at: usize, len: usize) -> &[u8] {
        &self.buf[at..at + len]
    }

    /// Steps over `n` buffered bytes.
    pub(super) fn consume(&mut self, n: usize) {
        debug_assert!(self.has(n));
        self.start += n.min(self.end - self.start);
    }

    /// Steps over `n` bytes without keeping them; says how many there were.
    pub(super) fn skip(&mut self, n: u64) -> io::Result<u64> {
        let mut left = n;
        while left > 0 {
            let here = self.fill(1)?;
            if here == 0 {
                break;
            }
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(here);
            self.consume(step);
            left -= step as u64;
        }
        Ok(n - left)
    }
}

/// What was looked at and not consumed, then the rest: so that a decompressor can take over.
impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.has(1) {
            return self.input.read(out);
        }
        let n = out.len().min(self.end - self.start);
        out[..n].copy_from_slice(&self.peek()[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Reads integers of either byte order out of a slice whose length was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Endian {
    pub(super) fn u16(self, b: &[u8], at: usize) -> u16 {
        let b = [b[at], b[at + 1]];
        if self == Self::Little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) }
    }

    pub(super) fn u32(self, b: &[u8], at: usize) -> u32 {
        let b = [b[at], b[at + 1], b[at + 2], b[at + 3]];
        if self == Self::Little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) }
    }

    pub(super) fn u64(self, b: &[u8], at: usize) -> u64 {
        let (first, second) = (self.u32(b, at), self.u32(b, at + 4));
        let (high, low) = if self == Self::Little { (second, first) } else { (first, second) };
        u64::from(high) << 32 | u64::from(low)
    }

    /// The two halves of a pcapng timestamp: the high one always comes first.
    pub(super) fn stamp(self, b: &[u8], at: usize) -> u64 {
        u64::from(self.u32(b, at)) << 32 | u64::from(self.u32(b, at + 4))
    }
}
