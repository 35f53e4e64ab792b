//! What a queue delivered and what it lost, each loss under its name.
//!
//! Every backend fills the same counters, and its documentation says from which counter of the
//! card or kernel each one comes. They only grow.

macro_rules! named_losses {
    ($($field:ident),+ $(,)?) => {
        /// Every loss by name, zeros included.
        pub fn losses(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
            [$((stringify!($field), self.$field)),+].into_iter()
        }

        /// All losses together.
        #[must_use]
        pub fn lost(&self) -> u64 {
            self.losses().map(|(_, n)| n).sum()
        }
    };
}

/// Receive counters since the queue was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RxStats {
    /// Frames delivered through a window.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Delivered frames that were flagged `BAD` or `TRUNCATED` (they count in `frames` too).
    pub flagged: u64,
    /// Lost: no buffer was posted when the frame came (fill ring or descriptors ran out).
    pub no_buffer: u64,
    /// Lost: the receive ring was full because this reader was slow.
    pub ring_full: u64,
    /// Lost: the card overwrote what this reader had not read. Where the card cannot say how
    /// many frames that were, each occurrence counts as one, a lower bound.
    pub ring_lapped: u64,
    /// Lost: the kernel dropped it before it reached the ring or socket buffer.
    pub kernel_drop: u64,
    /// Lost: the card dropped it for want of room or bus.
    pub card_drop: u64,
    /// Thrown away: wrong frame check sequence.
    pub crc: u64,
    /// Thrown away: longer than a buffer.
    pub truncated: u64,
    /// Thrown away: aborted by the sender, wrong length, wrong checksum or otherwise malformed.
    pub malformed: u64,
    /// Thrown away by a software filter that was asked for by name.
    pub filtered: u64,
}

impl RxStats {
    named_losses!(
        no_buffer,
        ring_full,
        ring_lapped,
        kernel_drop,
        card_drop,
        crc,
        truncated,
        malformed,
        filtered,
    );
}

/// Several queues as one.
impl std::ops::AddAssign for RxStats {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.flagged += other.flagged;
        self.no_buffer += other.no_buffer;
        self.ring_full += other.ring_full;
        self.ring_lapped += other.ring_lapped;
        self.kernel_drop += other.kernel_drop;
        self.card_drop += other.card_drop;
        self.crc += other.crc;
        self.truncated += other.truncated;
        self.malformed += other.malformed;
        self.filtered += other.filtered;
    }
}

/// Transmit counters since the queue was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxStats {
    /// Frames handed to the card or kernel.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Frames whose slot came back.
    pub completed: u64,
    /// Lost: the card or kernel reported an error for the frame.
    pub failed: u64,
    /// Lost: the kernel's or device's queue had no room for a frame already committed.
    pub queue_full: u64,
    /// Lost: the descriptor was refused as invalid.
    pub refused: u64,
}

impl TxStats {
    named_losses!(failed, queue_full, refused);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_has_its_name_and_counts_in_the_sum() {
        let s = RxStats { frames: 7, flagged: 1, kernel_drop: 3, crc: 2, ..RxStats::default() };
        assert_eq!(s.lost(), 5);
        assert!(s.losses().any(|l| l == ("kernel_drop", 3)));
        assert!(!s.losses().any(|(name, _)| name == "frames" || name == "flagged"));
    }

    #[test]
    fn counters_of_several_queues_add_up() {
        // Every field by its place in the list of fields, twice.
        let one = RxStats {
            frames: 1,
            bytes: 2,
            flagged: 3,
            no_buffer: 4,
            ring_full: 5,
            ring_lapped: 6,
            kernel_drop: 7,
            card_drop: 8,
            crc: 9,
            truncated: 10,
            malformed: 11,
            filtered: 12,
        };
        let mut sum = one;
        sum += one;
        assert_eq!((sum.frames, sum.bytes, sum.flagged), (2, 4, 6));
        let losses: Vec<u64> = sum.losses().map(|(_, n)| n).collect();
        assert_eq!(losses, [8, 10, 12, 14, 16, 18, 20, 22, 24]);
    }
}
