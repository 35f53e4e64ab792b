//! A buffer of whole pcapng blocks that a disk can take without a copy.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use linerate_common::{NO_TS, RxFrame};

use super::block::{self, Encoder};
use super::statistics::Statistics;
use super::writer::{InterfaceId, InterfaceOptions, epb_flags};

/// Disks take pieces that begin and end at multiples of this, in memory and in the file.
pub(super) const ALIGN: usize = 4096;
/// A buffer that begins here may be made of huge pages.
const HUGE: usize = 2 << 20;
/// The shortest block.
const SHORTEST: usize = 12;
/// Behind the blocks there is always room to fill the last piece up.
const SLACK: usize = 2 * ALIGN;

/// What a capture file begins with: the section that `application` (name and version) writes, and
/// its interfaces.
#[must_use]
pub fn preamble(application: &str, interfaces: &[InterfaceOptions]) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(1024);
    encoder.section(application);
    interfaces.iter().for_each(|interface| encoder.interface(interface));
    encoder.bytes().to_vec()
}

/// Frames as they will lie in a capture file: whole blocks in memory that a disk can fetch from.
///
/// A receive loop fills it straight from the ring, one copy a frame, and hands it to the thread
/// that owns the [`CaptureFile`](super::CaptureFile). Nothing is allocated after
/// [`with_capacity`](Self::with_capacity).
///
/// ```
/// use linerate::file::{Blocks, InterfaceId};
/// use linerate::{RxFrame, RxMeta};
///
/// let mut blocks = Blocks::with_capacity(1 << 20);
/// blocks.begin(1234); // where in the file they will be
/// let frame = RxFrame { bytes: &[0; 60], meta: RxMeta { ts_ns: 1, ..RxMeta::plain(60) } };
/// assert!(blocks.frame(InterfaceId::FIRST, &frame, 0));
/// assert_eq!((blocks.frames(), blocks.end()), (1, 1234 + 92));
/// ```
#[derive(Debug)]
pub struct Blocks {
    memory: Memory,
    /// The blocks are `memory[first..last]`. `first` is at the place of a piece that `at` has.
    first: usize,
    last: usize,
    /// Where the first of them is in the file.
    at: u64,
    frames: u64,
    rare: Encoder,
}

impl Blocks {
    /// An empty buffer with room for at least `bytes` of blocks.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let len = (bytes + ALIGN).next_multiple_of(ALIGN) + SLACK;
        let rare = Encoder::with_capacity(2048);
        Self { memory: Memory::new(len), first: 0, last: 0, at: 0, frames: 0, rare }
    }

    /// Empties it, for blocks whose place in the file begins at byte `at`.
    pub fn begin(&mut self, at: u64) {
        self.at = at;
        self.first = (at % ALIGN as u64) as usize;
        self.last = self.first;
        self.frames = 0;
    }

    /// Adds a frame as [`Writer::write_after_loss`](super::Writer::write_after_loss) does. `false`:
    /// there is no room for it, and nothing was added.
    #[inline]
    pub fn frame(&mut self, interface: InterfaceId, frame: &RxFrame<'_>, lost_before: u64) -> bool {
        let RxFrame { bytes, meta } = frame;
        if meta.ts_ns == NO_TS || lost_before != 0 || epb_flags(meta.flags) != 0 {
            return self.rare_frame(interface, frame, lost_before);
        }
        // The ordinary frame: this is the loop of a capture at line rate.
        if bytes.len() >= self.room() {
            return false;
        }
        let total = 32 + bytes.len().next_multiple_of(4);
        let Some(out) = self.space(total) else { return false };
        let words = [
            block::ENHANCED,
            total as u32,
            interface.0,
            (meta.ts_ns >> 32) as u32,
            meta.ts_ns as u32,
            bytes.len() as u32,
            meta.wire_len,
        ];
        // From behind: what follows overwrites of the padding what is none.
        if let Some(end) = out.last_chunk_mut::<8>() {
            *end = (u64::from_ne_bytes(words_of(0, total as u32))).to_ne_bytes();
        }
        for (to, word) in out.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        out[28..28 + bytes.len()].copy_from_slice(bytes);
        self.last += total;
        self.frames += 1;
        true
    }

    #[cold]
    fn rare_frame(
        &mut self,
        interface: InterfaceId,
        frame: &RxFrame<'_>,
        lost_before: u64,
    ) -> bool {
        if frame.bytes.len() >= self.room() {
            return false;
        }
        self.rare.clear();
        self.rare.frame(interface.0, frame, lost_before);
        self.take_rare()
    }

    /// Adds an interface's counters. `false`: there is no room.
    #[must_use]
    pub fn statistics(
        &mut self,
        interface: InterfaceId,
        statistics: &Statistics,
        comment: &str,
    ) -> bool {
        self.rare.clear();
        self.rare.statistics(interface.0, statistics, comment);
        self.take_rare()
    }

    fn take_rare(&mut self) -> bool {
        let rare = std::mem::replace(&mut self.rare, Encoder::with_capacity(0));
        let fits = self.raw(rare.bytes());
        self.frames += if fits { rare.frames() } else { 0 };
        self.rare = rare;
        fits
    }

    /// Adds encoded blocks.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> bool {
        let Some(out) = self.space(bytes.len()) else { return false };
        out.copy_from_slice(bytes);
        self.last += bytes.len();
        true
    }

    /// Adds the blocks of `next`, which follow these in the file. `false`: they do not, or there
    /// is no room.
    pub fn join(&mut self, next: &Self) -> bool {
        let joined = self.end() == next.at && self.raw(next.bytes());
        self.frames += if joined { next.frames } else { 0 };
        joined
    }

    /// The blocks.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory.as_slice()[self.first..self.last]
    }

    /// Is there nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == self.last
    }

    /// Frames in it.
    #[must_use]
    #[inline]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Where in the file they begin.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Where in the file they end.
    #[must_use]
    #[inline]
    pub fn end(&self) -> u64 {
        self.at + (self.last - self.first) as u64
    }

    /// Bytes of blocks that can still be added.
    #[must_use]
    #[inline]
    pub fn room(&self) -> usize {
        self.memory.len - SLACK - self.last
    }

    #[inline]
    fn space(&mut self, bytes: usize) -> Option<&mut [u8]> {
        if bytes > self.room() {
            return None;
        }
        self.memory.as_mut_slice().get_mut(self.last..self.last + bytes)
    }

    /// The whole pieces that hold these blocks: what is before them in the first is `before`, and
    /// what is behind them in the last is a block that readers skip. Also returns the beginning
    /// of the last piece, up to the blocks' end: the `before` of what follows.
    pub(super) fn pieces(&mut self, before: &[u8]) -> (&[u8], &[u8]) {
        let (first, last) = (self.first, self.last);
        let memory = self.memory.as_mut_slice();
        memory[..first].copy_from_slice(&before[..first]);
        let mut end = last.next_multiple_of(ALIGN);
        if end > last {
            if end - last < SHORTEST {
                end += ALIGN;
            }
            let gap = &mut memory[last..end];
            let len = gap.len();
            gap.fill(0);
            gap[..8].copy_from_slice(&words_of(block::PADDING, len as u32));
            gap[len - 4..].copy_from_slice(&(len as u32).to_ne_bytes());
        }
        (&memory[..end], &memory[last - last % ALIGN..last])
    }
}

/// Two words as they are in memory.
#[inline]
fn words_of(a: u32, b: u32) -> [u8; 8] {
    let (a, b) = (a.to_ne_bytes(), b.to_ne_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

/// Memory that begins at a page, a huge one if it is long enough, and is there before it is used.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

impl Memory {
    fn new(len: usize) -> Self {
        let align = if len >= HUGE { HUGE } else { ALIGN };
        let len = len.max(ALIGN);
        // Both are powers of two, and a buffer is far from half of the address space.
        let Ok(layout) = Layout::from_size_align(len, align) else {
            handle_alloc_error(Layout::new::<[u8; ALIGN]>())
        };
        // SAFETY: the layout is not empty.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: advice about memory that is ours; that it was not taken does not matter. Then
        // all of it is written, for the first time.
        unsafe {
            libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
            start.as_ptr().write_bytes(0, len);
        }
        Self { start, len, layout }
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        // SAFETY: allocated with this length and initialised by `new`; borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    #[inline]
    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` says that nobody else looks.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nothing borrows it any more.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: plain memory with one owner, as a `Vec<u8>` is.
unsafe impl Send for Memory {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Memory {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Reader, Writer};
    use linerate_common::{RxFlags, RxMeta};
    use std::io::Cursor;

    fn frames() -> Vec<(Vec<u8>, RxMeta, u64)> {
        (0..200_usize)
            .map(|i| {
                let bytes = vec![i as u8; (i * 37) % 1500];
                let mut meta = RxMeta { ts_ns: (1 << 60) + i as u64, ..RxMeta::plain(bytes.len()) };
                match i % 11 {
                    3 => meta.ts_ns = NO_TS,
                    5 => meta.flags |= RxFlags::OUTGOING,
                    7 => meta.wire_len += 100,
                    _ => {}
                }
                (bytes, meta, if i % 17 == 4 { 9 } else { 0 })
            })
            .collect()
    }

    #[test]
    fn blocks_are_those_of_the_writer() {
        let options = InterfaceOptions::named("eth2");
        let mut writer = Writer::new(Vec::new(), "test 1").unwrap();
        let id = writer.add_interface(&options).unwrap();
        let mut blocks = Blocks::with_capacity(1 << 20);
        blocks.begin(0);
        assert!(blocks.raw(&preamble("test 1", &[options])));
        for (bytes, meta, lost) in frames() {
            let frame = RxFrame { bytes: &bytes, meta };
            writer.write_after_loss(id, &frame, lost).unwrap();
            assert!(blocks.frame(id, &frame, lost));
        }
        let statistics = Statistics { end_ns: Some(5), ..Statistics::default() };
        writer.statistics(id, &statistics, "the end").unwrap();
        assert!(blocks.statistics(id, &statistics, "the end"));
        assert_eq!(blocks.frames(), 200);
        assert_eq!(blocks.bytes(), writer.finish().unwrap());
    }

    #[test]
    fn a_full_buffer_takes_nothing_and_padding_always_fits() {
        let mut blocks = Blocks::with_capacity(ALIGN);
        for at in (0..2 * ALIGN as u64).step_by(4) {
            blocks.begin(at);
            let frame = [1; 4];
            let meta = RxMeta { ts_ns: 1, ..RxMeta::plain(4) };
            while blocks.frame(InterfaceId::FIRST, &RxFrame { bytes: &frame, meta }, 0) {}
            let before = blocks.end();
            let long = vec![0; 1 << 20];
            for lost in [0, 1] {
                let frame = RxFrame { bytes: &long, meta };
                assert!(!blocks.frame(InterfaceId::FIRST, &frame, lost));
            }
            assert_eq!(blocks.end(), before);
            assert!(blocks.bytes().len() + 36 > ALIGN, "there is room for what was asked for");
            let (pieces, _) = blocks.pieces(&[0; ALIGN]);
            assert_eq!(pieces.len() % ALIGN, 0);
        }
    }

    #[test]
    fn readers_skip_the_padding() {
        for extra in 0..12 {
            let mut blocks = Blocks::with_capacity(1 << 16);
            blocks.begin(0);
            assert!(blocks.raw(&preamble("test", &[InterfaceOptions::named("x")])));
            let bytes = vec![7; 3800 + 4 * extra];
            let meta = RxMeta { ts_ns: 1, ..RxMeta::plain(bytes.len()) };
            for _ in 0..3 {
                let frame = RxFrame { bytes: &bytes, meta };
                assert!(blocks.frame(InterfaceId::FIRST, &frame, 0));
            }
            let (pieces, rest) = blocks.pieces(&[]);
            let (pieces, rest) = (pieces.to_vec(), rest.to_vec());
            assert!(blocks.bytes().ends_with(&rest));
            let mut reader = Reader::new(Cursor::new(pieces)).unwrap();
            let mut n = 0;
            while let Some(record) = reader.next().unwrap() {
                assert_eq!(record.bytes, bytes);
                n += 1;
            }
            assert_eq!(n, 3);
        }
    }
}
