//! When frames left and came, as cards and the kernel stamp them.

use linerate::{NO_TS, RxFlags};

/// A stamp, and whether the card took it. ns 0: none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamp {
    pub(super) ns: u64,
    pub(super) hardware: bool,
}

impl Stamp {
    pub(super) fn new(ts_ns: u64, flags: RxFlags) -> Self {
        let ns = if ts_ns == NO_TS { 0 } else { ts_ns };
        Self { ns, hardware: flags.contains(RxFlags::TS_HW) }
    }

    /// From `left` to this one, both taken within `service_ns`, which was measured by a clock that
    /// nobody sets. `None`: they cannot be compared.
    pub(super) fn since(self, left: Self, service_ns: u64) -> Option<Result<u64, Torn>> {
        if self.ns == 0 || left.ns == 0 || self.hardware != left.hardware {
            return None;
        }
        // No card's clock runs as much faster than the system's.
        let most = service_ns + service_ns / 64 + 1_000;
        Some(self.ns.checked_sub(left.ns).filter(|apart| *apart <= most).ok_or(Torn))
    }
}

/// The clock behind two stamps was set between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Torn;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_a_clock_that_was_set_between_them_are_no_round_trip() {
        let at = |ns| Stamp { ns, hardware: true };
        let (t, hour) = (1_790_000_000_000_000_000, 3_600_000_000_000);
        assert_eq!(at(t + 9_000).since(at(t), 9_500), Some(Ok(9_000)));
        // The card's clock is a little fast.
        assert_eq!(at(t + 640_900).since(at(t), 640_000), Some(Ok(640_900)));
        assert_eq!(at(t + hour).since(at(t), 9_500), Some(Err(Torn)));
        assert_eq!(at(t - hour).since(at(t), 9_500), Some(Err(Torn)));
        assert_eq!(at(t).since(at(0), 9_500), None);
        assert_eq!(at(t).since(Stamp { ns: t, hardware: false }, 9_500), None);
    }
}
