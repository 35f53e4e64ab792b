//! What the kernel counted on an interface, for the ledger's wire line.

use std::fs;

/// Frames that an interface took in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Frames that reached the kernel.
    pub(crate) received: u64,
    /// Frames that the card had to drop for want of room in the host (`rx_missed_errors`).
    pub(crate) missed: u64,
}

/// The counters now. `None` when they cannot be read, or when /sys shows an interface of that
/// name in another network namespace: `/proc/net/dev` always shows ours, so the two must agree.
pub(crate) fn counters(interface: &str) -> Option<Counters> {
    let of = |name: &str| -> Option<u64> {
        let path = format!("/sys/class/net/{interface}/statistics/{name}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let before = proc_received(&fs::read_to_string("/proc/net/dev").ok()?, interface)?;
    let counters = Counters { received: of("rx_packets")?, missed: of("rx_missed_errors")? };
    let after = proc_received(&fs::read_to_string("/proc/net/dev").ok()?, interface)?;
    (before..=after).contains(&counters.received).then_some(counters)
}

/// Is there an interface of this name in our network namespace?
pub(crate) fn exists(interface: &str) -> bool {
    fs::read_to_string("/proc/net/dev")
        .is_ok_and(|table| proc_received(&table, interface).is_some())
}

/// `packets` of the receive columns of /proc/net/dev.
fn proc_received(table: &str, interface: &str) -> Option<u64> {
    let mut rows = table.lines().filter_map(|line| line.split_once(':'));
    let (_, columns) = rows.find(|(name, _)| name.trim() == interface)?;
    columns.split_whitespace().nth(1)?.parse().ok()
}

/// Counters around a capture. Frames that came while it was being opened or closed may or may
/// not be part of it, so the truth lies between two numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bracket {
    /// Before the port was opened.
    pub(crate) before_open: Counters,
    /// After it was opened.
    pub(crate) after_open: Counters,
    /// When the capture was told to end.
    pub(crate) at_end: Counters,
    /// After the last frame was taken.
    pub(crate) after_end: Counters,
}

impl Bracket {
    /// Frames on the wire, given that `seen` were delivered or lost under a name: `seen` itself
    /// if the counters allow it, or the nearest number that they allow.
    ///
    /// `None`: the interface counted fewer than were seen. Drivers that update their counters
    /// now and then, and receive offloads, do that: then the counters prove nothing.
    pub(crate) fn wire(&self, seen: u64) -> Option<u64> {
        let span = |from: Counters, to: Counters| {
            to.received.saturating_sub(from.received) + to.missed.saturating_sub(from.missed)
        };
        let most = span(self.before_open, self.after_end);
        let least = span(self.after_open, self.at_end).min(most);
        (seen <= most).then(|| seen.max(least))
    }

    /// Frames that the card dropped for want of room.
    pub(crate) fn missed(&self) -> u64 {
        self.after_end.missed.saturating_sub(self.after_open.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_received_column_is_found() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs\n    lo: 100 7 0 0\n\
                     eth0:12345678 99 1\n";
        assert_eq!(proc_received(table, "lo"), Some(7));
        assert_eq!(proc_received(table, "eth0"), Some(99));
        assert_eq!(proc_received(table, "eth1"), None);
    }

    #[test]
    fn the_loopback_interface_has_counters() {
        assert!(counters("lo").is_some());
        assert!(exists("lo"));
        assert!(counters("no-such-interface").is_none());
        assert!(!exists("no-such-interface"));
    }

    #[test]
    fn a_bracket_names_what_is_missing() {
        let at = |received| Counters { received, missed: 0 };
        let bracket = Bracket {
            before_open: at(100),
            after_open: at(103),
            at_end: at(1_000),
            after_end: at(1_004),
        };
        assert_eq!(bracket.wire(900), Some(900), "within the bracket nothing is unexplained");
        assert_eq!(bracket.wire(890), Some(897), "seven at least are missing");
        assert_eq!(bracket.wire(905), None);
    }
}
