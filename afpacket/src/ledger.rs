//! What a receive queue counts, and where the kernel's own count of losses comes in.

use linerate_common::{RxFlags, RxStats};

use crate::decode::Seen;
use crate::sys::Socket;

/// A queue's socket and its counters.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) socket: Socket,
    pub(crate) stats: RxStats,
}

impl Ledger {
    #[inline(always)]
    pub(crate) fn count(&mut self, seen: &Seen) {
        self.stats.frames += 1;
        self.stats.bytes += seen.len as u64;
        self.stats.flagged += u64::from(seen.meta.flags.contains(RxFlags::TRUNCATED));
    }

    /// Adds the kernel's count of frames that found no room in the ring. The kernel forgets it
    /// with each reading, and with it the mark `TP_STATUS_LOSING` on what it hands over next.
    #[cold]
    pub(crate) fn collect_drops(&mut self) {
        // The call fails for no reason that a packet socket can have; nothing is lost then but
        // the count stays with the kernel until the next reading.
        self.stats.kernel_drop += self.socket.take_drops().unwrap_or(0);
    }
}
