//! The loss ledger: every frame is delivered, lost under a name, or unexplained.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::format::{count, signed};
use crate::output::Paint;

/// The ledger as JSON fields.
#[derive(Serialize)]
pub(crate) struct LedgerFields<'a> {
    wire: u64,
    wire_is: &'static str,
    delivered: u64,
    dropped: &'a BTreeMap<&'static str, u64>,
    unexplained: i64,
}

/// `wire = delivered + Σ dropped + unexplained`, over the whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Frames that came in. `wire_is` says who counted them.
    pub(crate) wire: u64,
    /// Who counted `wire`, in words.
    pub(crate) wire_is: &'static str,
    /// Frames that got where they should.
    pub(crate) delivered: u64,
    /// Losses by name; only those that happened.
    pub(crate) dropped: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// A ledger without losses.
    pub(crate) fn new(wire: u64, wire_is: &'static str, delivered: u64) -> Self {
        Self { wire, wire_is, delivered, dropped: BTreeMap::new() }
    }

    /// Adds `n` frames to the loss called `name`.
    pub(crate) fn drop(&mut self, name: &'static str, n: u64) {
        if n > 0 {
            *self.dropped.entry(name).or_default() += n;
        }
    }

    /// Adds `n` frames to the loss called `name`, which came in but not as far as to what counted
    /// `wire`.
    pub(crate) fn lose_ahead(&mut self, name: &'static str, n: u64) {
        self.wire += n;
        self.drop(name, n);
    }

    /// Adds the losses of a queue.
    pub(crate) fn drop_all(&mut self, losses: impl Iterator<Item = (&'static str, u64)>) {
        for (name, n) in losses {
            self.drop(name, n);
        }
    }

    /// All named losses together.
    pub(crate) fn lost(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// What neither arrived nor has a name. Negative: more arrived than `wire` knows of.
    pub(crate) fn unexplained(&self) -> i64 {
        let known = i128::from(self.delivered) + i128::from(self.lost());
        let rest = i128::from(self.wire) - known;
        i64::try_from(rest).unwrap_or(if rest < 0 { i64::MIN } else { i64::MAX })
    }

    /// As JSON fields.
    pub(crate) fn fields(&self) -> LedgerFields<'_> {
        LedgerFields {
            wire: self.wire,
            wire_is: self.wire_is,
            delivered: self.delivered,
            dropped: &self.dropped,
            unexplained: self.unexplained(),
        }
    }

    /// In one line, for a capture file.
    pub(crate) fn comment(&self) -> String {
        let lost: String = self.dropped.iter().map(|(name, n)| format!(" + {name} {n}")).collect();
        format!(
            "wire {} ({}) = delivered {}{lost} + unexplained {}",
            self.wire,
            self.wire_is,
            self.delivered,
            self.unexplained()
        )
    }

    /// The ledger as lines of at most 80 columns.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut lines = vec![format!(
            "{}  {:>13}  {}",
            paint.bold("wire       "),
            count(self.wire),
            paint.dim(self.wire_is)
        )];
        lines.push(format!("  delivered  {:>13}", count(self.delivered)));
        for (name, n) in &self.dropped {
            let line = format!("  {:<9}  {:>13}  {name}", "lost", count(*n));
            lines.push(paint.bad(&line));
        }
        let rest = self.unexplained();
        let line = format!("  unexplained{:>13}", signed(rest));
        lines.push(if rest == 0 { paint.good(&line) } else { paint.bad(&line) });
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_is_unexplained() {
        let mut ledger = Ledger::new(100, "test", 90);
        ledger.drop("ring_full", 7);
        ledger.drop("crc", 0);
        assert_eq!(ledger.unexplained(), 3);
        assert_eq!(ledger.dropped.len(), 1);
        ledger.delivered = 95;
        assert_eq!(ledger.unexplained(), -2);
        assert!(ledger.render(Paint::PLAIN).lines().all(|l| l.chars().count() <= 80));
    }
}
