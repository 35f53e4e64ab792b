//! How much transmit memory a frame takes, and how long it is waited for.

use std::time::Duration;

use linerate_exanic_sys::tx::FRAME_OFFSET;

/// Chunks begin on lines: a store that fills one goes over the bus in one piece.
pub(crate) const LINE: usize = 64;

/// How long a dropped queue waits for its frames to leave.
pub(crate) const DRAIN: Duration = Duration::from_millis(20);

/// Bytes of transmit memory that a frame takes.
#[inline]
pub(crate) const fn room_for(frame_bytes: usize) -> usize {
    (FRAME_OFFSET + frame_bytes).next_multiple_of(LINE)
}
