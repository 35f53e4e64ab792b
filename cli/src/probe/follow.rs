//! Following a stream's numbers: what is missing, doubled, or out of order.

/// Numbers behind the highest one that are remembered, to tell a late frame from a second copy.
const WINDOW: u64 = 4096;
const WORDS: usize = (WINDOW / 64) as usize;
/// A jump back this far is a new beginning of the sender, not a late frame.
const RESTART: u64 = 1 << 24;

/// The numbers of one stream (one sender's frames to one group).
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    stream: Option<u8>,
    first: u64,
    /// Highest number seen, plus one.
    next: u64,
    /// Numbers of the current stream that came, each counted once.
    unique: u64,
    /// Bit `n % WINDOW` of number `n`: has it come?
    seen: [u64; WORDS],
    /// Of streams that have ended.
    missing_before: u64,
    /// Times the numbers jumped ahead.
    pub(crate) gaps: u64,
    /// Frames that came after a higher number.
    pub(crate) reordered: u64,
    /// Second copies, and frames too far behind to tell.
    pub(crate) duplicates: u64,
}

impl Default for Follow {
    fn default() -> Self {
        Self {
            stream: None,
            first: 0,
            next: 0,
            unique: 0,
            seen: [0; WORDS],
            missing_before: 0,
            gaps: 0,
            reordered: 0,
            duplicates: 0,
        }
    }
}

impl Follow {
    /// The stream whose numbers these are.
    pub(crate) fn stream(&self) -> Option<u8> {
        self.stream
    }

    /// Numbers that have been jumped over and have not come since.
    pub(crate) fn missing(&self) -> u64 {
        self.missing_before + (self.next - self.first).saturating_sub(self.unique)
    }

    /// Takes note of a frame. `true`: its number had not come before.
    #[inline]
    pub(crate) fn see(&mut self, stream: u8, low: u32) -> bool {
        if self.stream != Some(stream) {
            self.begin(stream, low);
        }
        let seq = complete(low, self.next);
        if seq >= self.next {
            let jumped = seq - self.next;
            if jumped > 0 {
                self.gaps += 1;
            }
            if jumped >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                (self.next..seq).for_each(|n| self.clear(n));
            }
            self.set(seq);
            self.next = seq + 1;
            self.unique += 1;
            return true;
        }
        if self.next - seq > RESTART {
            self.begin(stream, low);
            return self.see(stream, low);
        }
        // Frames from before the first one that we saw count, too: they move the beginning.
        if self.next - seq > WINDOW || self.is_set(seq) {
            self.duplicates += 1;
            return false;
        }
        self.first = self.first.min(seq);
        self.set(seq);
        self.unique += 1;
        self.reordered += 1;
        true
    }

    fn begin(&mut self, stream: u8, low: u32) {
        self.missing_before = self.missing();
        self.stream = Some(stream);
        // Room below, so that numbers before the first do not wrap.
        self.first = u64::from(low) + (1 << 32);
        self.next = self.first;
        self.unique = 0;
        self.seen = [0; WORDS];
    }

    #[inline]
    fn set(&mut self, n: u64) {
        self.seen[(n % WINDOW / 64) as usize] |= 1 << (n % 64);
    }

    #[inline]
    fn clear(&mut self, n: u64) {
        self.seen[(n % WINDOW / 64) as usize] &= !(1 << (n % 64));
    }

    #[inline]
    fn is_set(&self, n: u64) -> bool {
        self.seen[(n % WINDOW / 64) as usize] & 1 << (n % 64) != 0
    }
}

/// The number with these lower 32 bits that is nearest to `near`.
#[inline]
fn complete(low: u32, near: u64) -> u64 {
    let ahead = low.wrapping_sub(near as u32);
    near.wrapping_add_signed(i64::from(ahead as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(numbers: &[u32]) -> Follow {
        let mut follow = Follow::default();
        for n in numbers {
            follow.see(1, *n);
        }
        follow
    }

    fn counts(f: &Follow) -> (u64, u64, u64, u64) {
        (f.missing(), f.gaps, f.reordered, f.duplicates)
    }

    #[test]
    fn gaps_late_frames_and_copies_are_told_apart() {
        assert_eq!(counts(&follow(&[5, 6, 7])), (0, 0, 0, 0));
        assert_eq!(counts(&follow(&[5, 8, 9])), (2, 1, 0, 0));
        assert_eq!(counts(&follow(&[5, 8, 7, 6])), (0, 1, 2, 0));
        assert_eq!(counts(&follow(&[5, 6, 6, 5])), (0, 0, 0, 2));
        // The first frame to arrive need not be the first that was sent.
        assert_eq!(counts(&follow(&[1, 0, 2])), (0, 0, 1, 0));
    }

    #[test]
    fn numbers_wrap_without_a_gap() {
        assert_eq!(counts(&follow(&[u32::MAX - 1, u32::MAX, 0, 1])), (0, 0, 0, 0));
        assert_eq!(counts(&follow(&[u32::MAX, 1, 0])), (0, 1, 1, 0));
    }

    #[test]
    fn every_number_of_a_long_run_is_accounted_for() {
        let mut follow = Follow::default();
        let mut lost = 0;
        for n in 0..200_000_u32 {
            if n % 7 == 3 || (50_000..59_000).contains(&n) {
                lost += 1;
            } else {
                assert!(follow.see(1, n));
            }
        }
        assert_eq!((follow.missing(), follow.duplicates, follow.reordered), (lost, 0, 0));
    }

    #[test]
    fn another_stream_begins_anew_and_keeps_what_was_lost() {
        let mut follow = follow(&[1, 2, 5]);
        follow.see(2, 77);
        follow.see(2, 79);
        assert_eq!(counts(&follow), (3, 2, 0, 0));
    }

    #[test]
    fn a_sender_that_starts_over_is_no_loss() {
        let mut follow = follow(&[100_000_000]);
        follow.see(1, 0);
        follow.see(1, 1);
        assert_eq!(counts(&follow), (0, 0, 0, 0));
    }
}
