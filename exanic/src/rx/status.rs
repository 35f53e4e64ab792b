//! How a frame ended.

use linerate_exanic_sys::rx::{FRAME_ABORTED, FRAME_CORRUPT, FRAME_HWOVFL, FRAME_OK};

/// How a frame ended, as the card says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameStatus {
    /// Complete, with a good check sequence.
    Good,
    /// The sender aborted it.
    Aborted,
    /// The check sequence is wrong.
    Corrupt,
    /// The card lost one or more frames around this one.
    HardwareOverflow,
    /// A status that no release of libexanic knows.
    Unknown(u8),
}

impl FrameStatus {
    pub(crate) fn of(status: u8) -> Self {
        match status {
            FRAME_OK => Self::Good,
            FRAME_ABORTED => Self::Aborted,
            FRAME_CORRUPT => Self::Corrupt,
            FRAME_HWOVFL => Self::HardwareOverflow,
            other => Self::Unknown(other),
        }
    }
}
