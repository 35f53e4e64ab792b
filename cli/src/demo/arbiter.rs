//! Two lines into one: the first copy of a message counts, the second is a duplicate.

/// Numbers that may be outstanding at once.
const WINDOW: u32 = 4096;

/// Merges two lines of one channel by sequence number.
#[derive(Debug, Clone)]
pub(crate) struct Arbiter {
    /// Everything below has been seen on a line or is given up.
    next: u32,
    /// One more than the highest number seen.
    end: u32,
    seen: Vec<u64>,
    /// Messages seen at least once.
    pub(crate) unique: u64,
    /// Copies of messages seen before.
    pub(crate) duplicates: u64,
    /// First copies by line.
    pub(crate) wins: [u64; 2],
    missing: u64,
}

impl Arbiter {
    /// A channel whose first message has the number `first`.
    pub(crate) fn new(first: u32) -> Self {
        Self {
            next: first,
            end: first,
            seen: vec![0; WINDOW as usize / 64],
            unique: 0,
            duplicates: 0,
            wins: [0; 2],
            missing: 0,
        }
    }

    /// Message `seq` came on line 0 or 1.
    pub(crate) fn see(&mut self, line: usize, seq: u32) {
        let behind = seq.saturating_sub(self.next);
        if behind >= WINDOW {
            // Too far behind to wait for. Beyond the window none has been seen: a number is a
            // stranger's, and costs no more steps for being high.
            let given_up = behind - WINDOW + 1;
            for _ in 0..given_up.min(WINDOW) {
                if !self.take(self.next) {
                    self.missing += 1;
                }
                self.next += 1;
            }
            let rest = given_up.saturating_sub(WINDOW);
            self.missing += u64::from(rest);
            self.next += rest;
        }
        if seq < self.next || self.bit(seq) {
            self.duplicates += 1;
            return;
        }
        self.seen[Self::word(seq)] |= 1 << (seq % 64);
        self.end = self.end.max(seq.saturating_add(1));
        self.unique += 1;
        self.wins[line & 1] += 1;
        while self.next < self.end && self.take(self.next) {
            self.next += 1;
        }
    }

    /// Messages up to `last` that came on neither line.
    pub(crate) fn missing(&self, last: u32) -> u64 {
        let open = (self.next..=last).filter(|seq| *seq >= self.end || !self.bit(*seq)).count();
        self.missing + open as u64
    }

    fn word(seq: u32) -> usize {
        (seq % WINDOW / 64) as usize
    }

    fn bit(&self, seq: u32) -> bool {
        self.seen[Self::word(seq)] >> (seq % 64) & 1 == 1
    }

    /// Clears the bit of `seq` and says what it was.
    fn take(&mut self, seq: u32) -> bool {
        let was = self.bit(seq);
        self.seen[Self::word(seq)] &= !(1 << (seq % 64));
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_fills_the_gaps_of_the_other() {
        let mut a = Arbiter::new(1);
        for seq in [1, 2, 4, 5] {
            a.see(0, seq);
        }
        for seq in [1, 2, 3, 4] {
            a.see(1, seq);
        }
        assert_eq!((a.unique, a.duplicates, a.wins), (5, 3, [4, 1]));
        assert_eq!((a.missing(5), a.missing(7)), (0, 2));
    }

    #[test]
    fn what_neither_line_brings_is_missing() {
        let mut a = Arbiter::new(1);
        for seq in (1..20_000).filter(|seq| seq % 1000 != 0) {
            a.see((seq % 2) as usize, seq);
            a.see((seq % 2) as usize ^ 1, seq);
        }
        assert_eq!(a.unique, a.duplicates);
        assert_eq!(a.missing(19_999), 19);
    }
}
