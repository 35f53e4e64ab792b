//! Acting on a frame before it has ended.
//!
//! The card writes a frame to memory as its bytes come in, 120 at a time. A 1500-byte frame takes
//! 1.2 µs on a 10 Gb/s wire; its first 120 bytes are there after 0.1. [`CutThrough`] shows them.
//!
//! The price: the card may overwrite a chunk at any time, and whether the frame is any good (its
//! check sequence) is known at its end. So there is no `&[u8]` here. Bytes are loaded or copied,
//! and then [`Chunk::still_valid`] says whether what was loaded is what the card meant.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use linerate_common::{FlowSpec, NO_TS, RuleId, RxStats, SetupError};
use linerate_exanic_sys::rx::Info;

use crate::clock::TickClock;
use crate::filter;
use crate::port::Options;
use crate::reader::Reader;
use crate::ring::{Found, Pos, Ring};
use crate::rx::FrameStatus;
use crate::shared::{PAYLOAD_BYTES, fence};

/// What [`CutThrough::next_chunk`] found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Arrival<'a> {
    /// Nothing new.
    Nothing,
    /// The next chunk.
    Chunk(Chunk<'a>),
    /// The card overwrote what was not read yet; a frame that was being read is gone too. The
    /// next chunk is the first of a new frame.
    Lapped,
}

/// A reader that shows each chunk when it arrives. It is a reader of its own: open an
/// [`ExanicRx`](crate::ExanicRx) beside it for whole frames.
///
/// ```no_run
/// use linerate_exanic::{Arrival, Options, open};
///
/// let mut feed = open("exanic0/0", &Options::default())?.cut_through()?;
/// loop {
///     if let Arrival::Chunk(chunk) = feed.next_chunk()
///         && chunk.is_first()
///         && chunk.len() >= 50
///     {
///         // The first eight bytes of UDP payload, while the rest is still on the wire.
///         let head = u64::from_be_bytes(chunk.load(42));
///         if chunk.still_valid() {
///             println!("{head:#x}");
///         }
///         feed.skip_frame();
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CutThrough {
    ring: Ring,
    next: Pos,
    /// Metadata of the chunk before `next` as it was read.
    before: Info,
    /// Bytes of the frame at hand before `next`.
    offset: usize,
    frame_ts_ns: u64,
    skipping: bool,
    clock: Option<TickClock>,
    stats: RxStats,
    rules: Vec<RuleId>,
    reader: Reader,
}

impl CutThrough {
    pub(crate) fn new(
        reader: Reader,
        flows: &[FlowSpec],
        options: &Options,
    ) -> Result<Self, SetupError> {
        let ring = reader.ring()?;
        let (next, before) = ring.newest_end();
        let lead_ns = i64::from(options.clock_lead_s) * 1_000_000_000;
        let mut this = Self {
            ring,
            next,
            before,
            offset: 0,
            frame_ts_ns: NO_TS,
            skipping: false,
            clock: TickClock::new(reader.device(), lead_ns),
            stats: RxStats::default(),
            rules: Vec::new(),
            reader,
        };
        for flow in flows {
            let rule = filter::add(&this.reader, flow)?;
            this.rules.push(rule);
        }
        Ok(this)
    }

    /// The next chunk, if it has arrived. Never waits for the rest of a frame.
    #[inline]
    pub fn next_chunk(&mut self) -> Arrival<'_> {
        loop {
            let pos = self.next;
            // The chunk before must be the very one that was read, or 256 laps went by: see
            // `assemble/mod.rs`.
            let info = match self.ring.find(pos) {
                Found::Chunk(info) if is_intact(self.ring, pos, self.before) => info,
                Found::Nothing(_) if is_intact(self.ring, pos, self.before) => {
                    if let Some(clock) = self.clock.as_mut().filter(|_| self.offset == 0) {
                        clock.caught_up();
                    }
                    return Arrival::Nothing;
                }
                _ => return self.lapped(),
            };
            let (before, offset) = (self.before, self.offset);
            let last = info.length() != 0;
            let len = if last { usize::from(info.length()) } else { PAYLOAD_BYTES };
            let len = len.min(PAYLOAD_BYTES);
            self.next = pos.next();
            self.before = info;
            self.offset = if last { 0 } else { offset + len };
            let skip = self.skipping && offset != 0;
            if offset == 0 {
                self.skipping = false;
                self.frame_ts_ns = self.stamp(info);
            }
            if last {
                self.count(info, offset + len);
            }
            if !skip {
                let ring = self.ring;
                let ts_ns = self.frame_ts_ns;
                let borrow = PhantomData;
                return Arrival::Chunk(Chunk {
                    ring,
                    pos,
                    before,
                    info,
                    len,
                    offset,
                    ts_ns,
                    borrow,
                });
            }
        }
    }

    /// Passes over the rest of the frame at hand. Chunks that arrive are not shown until the next
    /// frame begins.
    #[inline]
    pub fn skip_frame(&mut self) {
        self.skipping = self.offset != 0;
    }

    /// What came and what was lost. `frames` and `bytes` count whole good frames, shown or
    /// skipped, check sequences included.
    #[must_use]
    pub fn stats(&self) -> RxStats {
        self.stats
    }

    /// The filter buffer this reads, 0 for the port's default ring.
    #[must_use]
    pub fn buffer(&self) -> u32 {
        self.reader.buffer()
    }

    #[inline]
    fn stamp(&mut self, info: Info) -> u64 {
        let Some(clock) = &mut self.clock else { return NO_TS };
        clock.sync();
        clock.expand(info.timestamp()).unwrap_or(NO_TS)
    }

    #[inline]
    fn count(&mut self, info: Info, bytes: usize) {
        match FrameStatus::of(info.status()) {
            FrameStatus::Good => {
                self.stats.frames += 1;
                self.stats.bytes += bytes as u64;
            }
            FrameStatus::Corrupt => self.stats.crc += 1,
            FrameStatus::HardwareOverflow => self.stats.card_drop += 1,
            _ => self.stats.malformed += 1,
        }
    }

    #[cold]
    fn lapped(&mut self) -> Arrival<'_> {
        (self.next, self.before) = self.ring.newest_end();
        self.offset = 0;
        self.skipping = false;
        self.stats.ring_lapped += 1;
        if let Some(clock) = &mut self.clock {
            clock.caught_up();
        }
        Arrival::Lapped
    }
}

impl Drop for CutThrough {
    fn drop(&mut self) {
        for rule in std::mem::take(&mut self.rules) {
            // Nothing to be done if it is gone already.
            let _ = filter::remove(&self.reader, rule);
        }
    }
}

#[inline]
fn is_intact(ring: Ring, pos: Pos, before: Info) -> bool {
    ring.info(pos.prev(), Ordering::Relaxed) == before
}

/// Up to 120 bytes of a frame, in the card's ring.
#[derive(Debug)]
pub struct Chunk<'a> {
    ring: Ring,
    pos: Pos,
    before: Info,
    info: Info,
    len: usize,
    offset: usize,
    ts_ns: u64,
    /// The reader keeps the ring mapped.
    borrow: PhantomData<&'a CutThrough>,
}

impl Chunk<'_> {
    /// A full first chunk.
    #[cfg(all(loom, test))]
    pub(crate) fn new(ring: Ring, pos: Pos, before: Info, info: Info) -> Self {
        let (len, offset, borrow) = (PAYLOAD_BYTES, 0, PhantomData);
        Self { ring, pos, before, info, len, offset, ts_ns: NO_TS, borrow }
    }

    /// Bytes in this chunk. The frame's last four are its check sequence.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there nothing in it? Never.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where in the frame it begins: a multiple of 120.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Does the frame begin here?
    #[inline]
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// How the frame ended, in its last chunk.
    #[inline]
    #[must_use]
    pub fn end(&self) -> Option<FrameStatus> {
        (self.info.length() != 0).then(|| FrameStatus::of(self.info.status()))
    }

    /// When the frame began, ns since the epoch in UTC, or [`NO_TS`]. The same in all its chunks.
    #[inline]
    #[must_use]
    pub fn ts_ns(&self) -> u64 {
        self.ts_ns
    }

    /// `N` bytes from `at` on. Ask [`still_valid`](Self::still_valid) before believing them.
    ///
    /// # Panics
    ///
    /// If they do not lie within the chunk.
    #[inline]
    #[must_use]
    pub fn load<const N: usize>(&self, at: usize) -> [u8; N] {
        assert!(N <= self.len && at <= self.len - N, "beyond the chunk");
        std::array::from_fn(|i| self.byte(at + i))
    }

    /// Copies the chunk's bytes and says how many that were: at most `to.len()`. Ask
    /// [`still_valid`](Self::still_valid) before believing them.
    #[inline]
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let n = self.len.min(to.len());
        for (part, word) in to[..n].chunks_mut(8).zip(&self.ring.at(self.pos).payload) {
            let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            part.copy_from_slice(&bytes[..part.len()]);
        }
        n
    }

    /// Were the bytes that have been loaded so far what the card wrote for this frame? Looks at
    /// the chunk before this one: see the notes in `assemble/mod.rs` on why.
    #[inline]
    #[must_use]
    pub fn still_valid(&self) -> bool {
        // After all loads above.
        fence(Ordering::Acquire);
        is_intact(self.ring, self.pos, self.before)
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        let word = self.ring.at(self.pos).payload[at / 8].load(Ordering::Relaxed);
        word.to_ne_bytes()[at % 8]
    }
}
