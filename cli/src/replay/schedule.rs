//! When each frame is due.

use crate::values::Speed;

/// Turns recorded timestamps into due times: ns after the first frame of the first pass, never
/// going back.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    speed: Speed,
    /// Due time of the current pass's first frame.
    base: u64,
    /// Recorded time of the current pass's first stamped frame.
    origin: Option<u64>,
    last_due: u64,
    total: u64,
    in_pass: u64,
    out_of_order: u64,
}

impl Schedule {
    pub(crate) fn new(speed: Speed) -> Self {
        Self { speed, base: 0, origin: None, last_due: 0, total: 0, in_pass: 0, out_of_order: 0 }
    }

    /// The due time of the next frame, recorded at `ts_ns`. A frame that was recorded before its
    /// predecessor in the file, or without a time, is due together with it.
    pub(crate) fn due(&mut self, ts_ns: Option<u64>) -> u64 {
        let wanted = match self.speed {
            Speed::Top => 0,
            // One product for each frame: nothing to add up.
            Speed::Pps(rate) => (self.total as f64 * 1e9 / rate) as u64,
            Speed::Recorded(factor) => match ts_ns {
                None => self.last_due,
                Some(ts) => {
                    let origin = *self.origin.get_or_insert(ts);
                    let passed = ts.saturating_sub(origin);
                    let due = if factor == 1.0 { passed } else { (passed as f64 / factor) as u64 };
                    let due = self.base.saturating_add(due);
                    if due < self.last_due || ts < origin {
                        self.out_of_order += 1;
                    }
                    due
                }
            },
        };
        self.last_due = self.last_due.max(wanted);
        self.total += 1;
        self.in_pass += 1;
        self.last_due
    }

    /// The file begins anew, one mean gap after its last frame.
    pub(crate) fn next_pass(&mut self) {
        let span = self.last_due - self.base;
        let gap = span / self.in_pass.saturating_sub(1).max(1);
        self.base = self.last_due.saturating_add(gap);
        self.origin = None;
        self.in_pass = 0;
    }

    /// Frames that were recorded before their predecessor.
    pub(crate) fn out_of_order(&self) -> u64 {
        self.out_of_order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(speed: Speed, stamps: &[u64]) -> Vec<u64> {
        let mut schedule = Schedule::new(speed);
        stamps.iter().map(|ts| schedule.due(Some(*ts))).collect()
    }

    #[test]
    fn due_times_follow_the_recording() {
        let t = 1_700_000_000_000_000_000;
        assert_eq!(dues(Speed::Recorded(1.0), &[t, t + 7, t + 1_000]), [0, 7, 1_000]);
        assert_eq!(dues(Speed::Recorded(2.0), &[t, t + 8, t + 1_000]), [0, 4, 500]);
        assert_eq!(
            dues(Speed::Pps(3.0), &[5, 5, 5, 5]),
            [0, 333_333_333, 666_666_666, 1_000_000_000]
        );
        assert_eq!(dues(Speed::Top, &[t, t + 7]), [0, 0]);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut schedule = Schedule::new(Speed::Recorded(1.0));
        let due: Vec<u64> =
            [100, 900, 125, 950, 50].iter().map(|ts| schedule.due(Some(*ts))).collect();
        assert_eq!(due, [0, 800, 800, 850, 850]);
        assert_eq!(schedule.out_of_order(), 2);
        assert_eq!(schedule.due(None), 850);
    }

    #[test]
    fn passes_join_without_a_jump() {
        let mut schedule = Schedule::new(Speed::Recorded(1.0));
        let mut all = Vec::new();
        for _ in 0..3 {
            all.extend([1_000, 1_200, 1_400].map(|ts| schedule.due(Some(ts))));
            schedule.next_pass();
        }
        assert_eq!(all, [0, 200, 400, 600, 800, 1_000, 1_200, 1_400, 1_600]);

        let mut schedule = Schedule::new(Speed::Pps(10.0));
        schedule.due(None);
        schedule.next_pass();
        assert_eq!(schedule.due(None), 100_000_000);
    }

    #[test]
    fn a_long_replay_does_not_drift() {
        let mut schedule = Schedule::new(Speed::Pps(30_000.0));
        let last = (0..3_000_001).map(|_| schedule.due(None)).last();
        assert_eq!(last, Some(100_000_000_000));
    }
}
