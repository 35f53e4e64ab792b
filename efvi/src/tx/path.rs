//! How frames leave, and what is told of each.

use linerate_common::RxFlags;

/// How a frame left the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// Fetched by the card.
    Dma,
    /// Written through the card by CTPIO.
    Ctpio,
    /// Written by CTPIO, too slow or with no room, and then fetched by the card.
    Fallback,
    /// Written into the card's memory.
    Pio,
}

/// Frames that left by each path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathCounts {
    /// By DMA.
    pub dma: u64,
    /// By CTPIO.
    pub ctpio: u64,
    /// By DMA, because CTPIO did not make it.
    pub fallback: u64,
    /// By programmed I/O.
    pub pio: u64,
}

impl PathCounts {
    #[inline]
    pub(super) fn count(&mut self, path: Path, frames: u64) {
        *match path {
            Path::Dma => &mut self.dma,
            Path::Ctpio => &mut self.ctpio,
            Path::Fallback => &mut self.fallback,
            Path::Pio => &mut self.pio,
        } += frames;
    }
}

/// What became of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Counts the queue's committed frames from 0.
    pub seq: u64,
    /// How it really left.
    pub path: Path,
    /// When, in ns since the UNIX epoch, UTC, or [`NO_TS`](linerate_common::NO_TS).
    pub ts_ns: u64,
    /// Whose clock that is.
    pub flags: RxFlags,
}
