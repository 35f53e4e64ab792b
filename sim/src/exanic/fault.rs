//! What can go wrong by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use linerate_exanic_sys::rx;

use crate::WireState;

/// How a frame looks to the receiving port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FrameState {
    /// Complete and good.
    #[default]
    Good,
    /// Cut short by its sender.
    Aborted,
    /// With a wrong check sequence.
    Corrupt,
    /// The card lost others around it.
    HardwareOverflow,
}

impl FrameState {
    pub(super) fn status(self) -> u8 {
        match self {
            Self::Good => rx::FRAME_OK,
            Self::Aborted => rx::FRAME_ABORTED,
            Self::Corrupt => rx::FRAME_CORRUPT,
            Self::HardwareOverflow => rx::FRAME_HWOVFL,
        }
    }
}

impl From<WireState> for FrameState {
    fn from(wire: WireState) -> Self {
        match wire {
            WireState::Good => Self::Good,
            WireState::BadCrc => Self::Corrupt,
            WireState::Aborted => Self::Aborted,
        }
    }
}

/// Faults of a card, changed at any time. `every` ones strike each Nth frame that a port is
/// offered; 0 is never.
#[derive(Debug, Default)]
pub struct Faults {
    /// A wrong check sequence.
    pub crc_every: AtomicU64,
    /// Cut short, half of it missing.
    pub abort_every: AtomicU64,
    /// Marked with a hardware overflow.
    pub overflow_every: AtomicU64,
    /// Dropped by the card and counted there.
    pub drop_every: AtomicU64,
    /// ns between the chunks of a frame.
    pub chunk_gap_ns: AtomicU64,
    /// ns between the payload and the metadata of a chunk.
    pub tear_ns: AtomicU64,
    /// Commands wait and are not served.
    pub tx_stall: AtomicBool,
}

impl Faults {
    /// What becomes of frame `seq` (counted from 1), `None` when it is dropped.
    pub(super) fn strike(&self, seq: u64, state: FrameState) -> Option<FrameState> {
        let due = |every: &AtomicU64| seq.checked_rem(every.load(Relaxed)) == Some(0);
        if due(&self.drop_every) {
            return None;
        }
        let struck = [
            (&self.crc_every, FrameState::Corrupt),
            (&self.abort_every, FrameState::Aborted),
            (&self.overflow_every, FrameState::HardwareOverflow),
        ];
        Some(struck.into_iter().find(|(every, _)| due(every)).map_or(state, |(_, s)| s))
    }

    pub(super) fn pause(ns: &AtomicU64) {
        let pause = Duration::from_nanos(ns.load(Relaxed));
        if pause >= Duration::from_micros(50) {
            std::thread::sleep(pause);
        } else if !pause.is_zero() {
            let start = Instant::now();
            while start.elapsed() < pause {
                std::hint::spin_loop();
            }
        }
    }
}
