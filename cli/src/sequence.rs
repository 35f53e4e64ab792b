//! Sequence numbers of a feed: where they are in the payload, and what is missing.

use std::str::FromStr;

/// An unsigned integer at a fixed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    offset: usize,
    width: usize,
    big_endian: bool,
}

impl Field {
    #[inline]
    fn read(self, payload: &[u8]) -> Option<u64> {
        let bytes = payload.get(self.offset..self.offset.checked_add(self.width)?)?;
        let add = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
        Some(if self.big_endian {
            bytes.iter().fold(0, add)
        } else {
            bytes.iter().rev().fold(0, add)
        })
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: use TYPE@OFFSET as u64be@10, u32le@0 or u16be@18");
        let (kind, offset) = text.split_once('@').ok_or_else(wrong)?;
        let (width, big_endian) = match kind {
            "u8" => (1, true),
            "u16be" => (2, true),
            "u32be" => (4, true),
            "u64be" => (8, true),
            "u16le" => (2, false),
            "u32le" => (4, false),
            "u64le" => (8, false),
            _ => return Err(wrong()),
        };
        let offset = offset.parse().ok().filter(|o| *o <= 65_535).ok_or_else(wrong)?;
        Ok(Self { offset, width, big_endian })
    }
}

/// Where a datagram says which messages it carries: the first number, and how many follow on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeqSpec {
    first: Field,
    count: Option<Field>,
}

impl SeqSpec {
    /// First sequence number and number of messages of a datagram. `None`: too short to tell.
    #[inline]
    pub(crate) fn read(&self, payload: &[u8]) -> Option<(u64, u64)> {
        let count = match self.count {
            Some(field) => field.read(payload)?,
            None => 1,
        };
        Some((self.first.read(payload)?, count))
    }
}

impl FromStr for SeqSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('+') {
            Some((first, count)) => Self { first: first.parse()?, count: Some(count.parse()?) },
            None => Self { first: text.parse()?, count: None },
        })
    }
}

/// A number this far behind the expected one is a restart of the feed, not a late frame.
const RESTART: u64 = 1_000_000;

/// Follows one line of a feed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SeqTracker {
    next: Option<u64>,
    /// Times the numbers jumped ahead.
    pub(crate) gaps: u64,
    /// Numbers that were jumped over.
    pub(crate) missing: u64,
    /// Datagrams whose number was behind the expected one.
    pub(crate) late: u64,
}

impl SeqTracker {
    /// Takes note of a datagram with `count` messages from number `seq` on.
    #[inline]
    pub(crate) fn see(&mut self, seq: u64, count: u64) {
        let after = seq.saturating_add(count);
        match self.next {
            Some(next) if seq > next => {
                self.gaps += 1;
                // Numbers are a stranger's: two jumps may add up to more than fits.
                self.missing = self.missing.saturating_add(seq - next);
            }
            Some(next) if seq < next && next - seq <= RESTART => {
                self.late += 1;
                return;
            }
            _ => {}
        }
        self.next = Some(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> SeqSpec {
        text.parse().unwrap()
    }

    #[test]
    fn fields_are_read_in_either_byte_order() {
        let payload: Vec<u8> = (0..32).collect();
        assert_eq!(spec("u32le@0").read(&payload), Some((0x0302_0100, 1)));
        assert_eq!(spec("u64be@10+u16be@18").read(&payload), Some((0x0a0b_0c0d_0e0f_1011, 0x1213)));
        assert_eq!(spec("u64be@25").read(&payload), None);
        assert_eq!(spec("u64be@24+u8@32").read(&payload), None);
    }

    #[test]
    fn nonsense_fields_are_refused() {
        for text in ["", "u64be", "u64@0", "u32be@", "u32be@-1", "u32be@70000", "u8@1+"] {
            assert!(text.parse::<SeqSpec>().is_err(), "accepted: {text}");
        }
    }

    #[test]
    fn gaps_and_late_frames_are_told_apart() {
        let mut line = SeqTracker::default();
        for seq in [7, 8, 11, 9, 12, 12] {
            line.see(seq, 1);
        }
        assert_eq!((line.gaps, line.missing, line.late), (1, 2, 2));
    }

    #[test]
    fn a_count_moves_the_next_number() {
        let mut line = SeqTracker::default();
        line.see(100, 3);
        line.see(103, 0); // a heartbeat announces the next number
        line.see(103, 2);
        assert_eq!((line.gaps, line.late), (0, 0));
        line.see(106, 1);
        assert_eq!((line.gaps, line.missing), (1, 1));
    }

    #[test]
    fn a_restart_is_no_late_frame() {
        let mut line = SeqTracker::default();
        line.see(5_000_000, 1);
        line.see(1, 1);
        line.see(2, 1);
        assert_eq!((line.gaps, line.late), (0, 0));
    }
}
