//! The rules of one port, and what the program must know about them.

use linerate_common::{FlowSpec, SetupError};

use super::key::{Compiled, compile};
use super::layout::{All, KEY_BYTES, Key, MAX_SHAPES, Shape, rule_bytes};
use super::{Action, Rule};

/// One rule in place.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: u32,
    pub(super) slot: u32,
    pub(super) flow: FlowSpec,
    pub(super) action: Action,
    rank: u64,
    compiled: Compiled,
    key: [u8; KEY_BYTES],
}

/// What to write into the map of rules after a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing: another rule for the same frames comes first.
    None,
    Set {
        key: [u8; KEY_BYTES],
        rule: [u8; 24],
    },
    Delete {
        key: [u8; KEY_BYTES],
    },
}

/// The rules of one port, first to match first.
#[derive(Debug)]
pub(super) struct Table {
    port: u8,
    entries: Vec<Entry>,
}

impl Table {
    pub(super) fn new(port: u8) -> Self {
        Self { port, entries: Vec::new() }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn find(&self, id: u32) -> Option<&Entry> {
        self.entries.iter().find(|e| e.id == id)
    }

    /// # Errors
    ///
    /// The flow cannot be a rule.
    pub(super) fn add(&mut self, rule: &Rule, id: u32, slot: u32) -> Result<Change, SetupError> {
        let compiled = compile(&rule.flow)?;
        let key = Key { port: self.port, shape: compiled.shape, ..compiled.key }.bytes();
        // Ids grow, so among rules of one order the older comes first.
        let rank = u64::from(rule.order) << 32 | u64::from(id);
        let entry = Entry { id, slot, flow: rule.flow, action: rule.action, rank, compiled, key };
        let place = self.entries.partition_point(|e| e.rank < rank);
        self.entries.insert(place, entry);
        Ok(self.first_with(&key))
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<(Entry, Change)> {
        let place = self.entries.iter().position(|e| e.id == id)?;
        let first = self.entries.iter().position(|e| e.key == self.entries[place].key);
        let entry = self.entries.remove(place);
        let change = if first == Some(place) { self.first_with(&entry.key) } else { Change::None };
        Some((entry, change))
    }

    /// The map holds one rule for each key: the first of them.
    fn first_with(&self, key: &[u8; KEY_BYTES]) -> Change {
        match self.entries.iter().find(|e| e.key == *key) {
            None => Change::Delete { key: *key },
            Some(e) => Change::Set {
                key: *key,
                rule: rule_bytes(e.rank, e.slot, e.action == Action::Drop, e.id),
            },
        }
    }

    /// The first rule, if there is no frame that it does not match.
    pub(super) fn all(&self) -> Option<All> {
        let first = self.entries.first()?;
        let any = first.compiled.needs == 0 && first.compiled.mask == [0; KEY_BYTES];
        any.then_some(All { slot: first.slot, drops: first.action == Action::Drop, mark: first.id })
    }

    /// The shapes in use, by the rank of their first rule.
    pub(super) fn shapes(&self) -> Vec<Shape> {
        let mut seen = [false; MAX_SHAPES];
        let mut shapes = Vec::new();
        for e in &self.entries {
            if std::mem::replace(&mut seen[usize::from(e.compiled.shape)], true) {
                continue;
            }
            shapes.push(Shape {
                mask: e.compiled.mask,
                id: Key { port: self.port, shape: e.compiled.shape, ..Key::default() },
                first_rank: e.rank,
                needs: e.compiled.needs,
            });
        }
        shapes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        Rule::deliver(text.parse().unwrap())
    }

    #[test]
    fn of_equal_flows_the_first_counts_until_it_goes() {
        let mut table = Table::new(1);
        let flow = rule("udp:239.1.1.1:5000");
        let Change::Set { key, rule: first } = table.add(&flow, 1, 10).unwrap() else { panic!() };
        // The same frames in other words, and later: the first stays.
        let same = table.add(&rule("239.1.1.1:5000"), 2, 11).unwrap();
        assert_eq!(same, Change::Set { key, rule: first });
        // A drop comes before.
        let drop = Rule::drop(flow.flow);
        let Change::Set { rule: third, .. } = table.add(&drop, 3, 12).unwrap() else { panic!() };
        assert_ne!(third, first);
        assert_eq!(table.remove(2).unwrap().1, Change::None);
        assert_eq!(table.remove(3).unwrap().1, Change::Set { key, rule: first });
        assert_eq!(table.remove(1).unwrap().1, Change::Delete { key });
        assert!(table.remove(1).is_none() && table.shapes().is_empty());
    }

    #[test]
    fn only_a_first_rule_for_every_frame_takes_all() {
        let mut table = Table::new(1);
        assert_eq!(table.all(), None);
        table.add(&rule("all"), 1, 10).unwrap();
        assert_eq!(table.all(), Some(All { slot: 10, drops: false, mark: 1 }));
        // A rule that comes first may want a frame for itself.
        table.add(&rule("239.1.1.1:5").order(1), 2, 11).unwrap();
        assert_eq!(table.all(), None);
        let all = "all".parse().unwrap();
        table.add(&Rule::drop(all).order(0), 3, 12).unwrap();
        assert_eq!(table.all(), Some(All { slot: 12, drops: true, mark: 3 }));
        let mut tagged = Table::new(1);
        tagged.add(&rule("vlan:5"), 1, 10).unwrap();
        assert_eq!(tagged.all(), None);
    }

    #[test]
    fn shapes_come_once_and_in_order_of_their_first_rule() {
        let mut table = Table::new(1);
        for (id, text) in ["all", "239.1.1.1:1", "vlan:5", "239.1.1.2:1"].iter().enumerate() {
            table.add(&rule(text), id as u32, id as u32).unwrap();
        }
        table.add(&rule("mac:02:00:00:00:00:01").order(1), 9, 9).unwrap();
        let ids: Vec<u8> = table.shapes().iter().map(|s| s.id.shape).collect();
        assert_eq!(ids, [2, 0, 10, 1]);
        assert!(table.shapes().is_sorted_by_key(|s| s.first_rank));
    }
}
