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
        self.see_bytes(frame.bytes);
        self.times ^= frame.meta.ts_ns;
    }

    /// As the C loops of `twins/program.h`, which have no time.
    #[inline(always)]
    pub fn see_bytes(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.bytes += frame.len() as u64;
        if let Some(word) = frame.first_chunk::<8>() {
            self.words = self.words.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
}
