//! What a handler does with a frame: as little as makes sure that it was there.

use linerate_common::RxFrame;

/// Sums over frames. `twins/twins.h` has the same.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sink {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first words of all frames.
    pub words: u64,
    /// All timestamps.
    pub times: u64,
}

impl Sink {
    /// Takes notice of a frame.
    #[inline(always)]
    pub fn see(&mut self, frame: RxFrame<'_>) {
        self.frames += 1;
        self.bytes += frame.bytes.len() as u64;
        if let Some(word) = frame.bytes.first_chunk::<8>() {
            self.words = self.words.wrapping_add(u64::from_ne_bytes(*word));
        }
        self.times ^= frame.meta.ts_ns;
    }
}
