//! What a test frame's payload begins with.
//!
//! 18 bytes, so that it fits the shortest IPv4 frame, in network byte order: magic, kind, stream,
//! number, time, CRC-32 of the whole payload without the CRC itself. Number and time are cut to
//! 32 and 48 bits; who reads them knows them roughly and completes them.

use linerate::packet::{Ethernet, Udp};

/// Bytes that a mark takes.
pub(crate) const MARK_BYTES: usize = 18;
/// Where the CRC stands: last.
const CRC_AT: usize = 14;
const MAGIC: u16 = 0x6c72;
const TIME_MASK: u64 = (1 << 48) - 1;

/// What a test frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To be answered.
    Ping,
    /// The answer.
    Pong,
    /// To be counted.
    Load,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Ping, Self::Pong, Self::Load];

    fn code(self) -> u8 {
        match self {
            Self::Ping => 1,
            Self::Pong => 2,
            Self::Load => 3,
        }
    }
}

/// Which frame of which sender this is, and when it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) kind: Kind,
    /// Tells senders and runs apart.
    pub(crate) stream: u8,
    /// Counts the frames of a stream (of a group, where there are several) and wraps.
    pub(crate) seq: u32,
    /// When it was due, in ns since the UNIX epoch.
    pub(crate) time_ns: u64,
}

/// Why a frame has no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmarked {
    /// No frame of ours.
    Foreign,
    /// Ours, but not as it was sent.
    Damaged,
}

impl Mark {
    /// Writes the mark to the front of a payload whose rest is in place already. The payload is
    /// at least [`MARK_BYTES`] long.
    #[inline]
    pub(crate) fn write(&self, payload: &mut [u8]) {
        let Some((head, rest)) = payload.split_first_chunk_mut::<MARK_BYTES>() else { return };
        head[..2].copy_from_slice(&MAGIC.to_be_bytes());
        head[2] = self.kind.code();
        head[3] = self.stream;
        head[4..8].copy_from_slice(&self.seq.to_be_bytes());
        head[8..CRC_AT].copy_from_slice(&self.time_ns.to_be_bytes()[2..]);
        let crc = crc(&head[..CRC_AT], rest);
        head[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    }

    /// Reads and checks the mark of a frame. `now_ns` completes the time: it must be within 39
    /// hours of it.
    ///
    /// # Errors
    ///
    /// The frame is not ours, or damaged.
    #[inline]
    pub(crate) fn of_frame(frame: &[u8], now_ns: u64) -> Result<Self, Unmarked> {
        let upper = Ethernet::parse(frame).and_then(|e| e.ip()).ok_or(Unmarked::Foreign)?.upper();
        let udp = Udp::parse(upper.payload).ok_or(Unmarked::Foreign)?;
        // A datagram that is shorter than its header says lost its end.
        let whole = upper.payload.len() >= usize::from(udp.length());
        match Self::read(udp.payload(), now_ns) {
            Ok(mark) if whole => Ok(mark),
            Ok(_) => Err(Unmarked::Damaged),
            Err(why) => Err(why),
        }
    }

    /// Reads and checks the mark of a payload.
    #[inline]
    fn read(payload: &[u8], now_ns: u64) -> Result<Self, Unmarked> {
        let Some((head, rest)) = payload.split_first_chunk::<MARK_BYTES>() else {
            return Err(Unmarked::Foreign);
        };
        if head[..2] != MAGIC.to_be_bytes() {
            return Err(Unmarked::Foreign);
        }
        let number = |from: usize, to: usize| {
            head[from..to].iter().fold(0, |n: u64, byte| n << 8 | u64::from(*byte))
        };
        if u64::from(crc(&head[..CRC_AT], rest)) != number(CRC_AT, MARK_BYTES) {
            return Err(Unmarked::Damaged);
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.code() == head[2]);
        Ok(Self {
            kind: kind.ok_or(Unmarked::Foreign)?,
            stream: head[3],
            seq: number(4, 8) as u32,
            time_ns: nearest(number(8, CRC_AT), now_ns),
        })
    }
}

#[inline]
fn crc(head: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(rest);
    hasher.finalize()
}

/// The number with these lower 48 bits that is nearest to `near`.
#[inline]
fn nearest(low: u64, near: u64) -> u64 {
    let ahead = low.wrapping_sub(near) & TIME_MASK;
    if ahead <= TIME_MASK / 2 {
        near.wrapping_add(ahead)
    } else {
        near.wrapping_sub(TIME_MASK + 1 - ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_123_456_789;

    fn marked(len: usize) -> Vec<u8> {
        let mut payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        Mark { kind: Kind::Load, stream: 7, seq: u32::MAX, time_ns: NOW }.write(&mut payload);
        payload
    }

    #[test]
    fn a_mark_reads_back_a_day_before_and_after() {
        for len in [MARK_BYTES, MARK_BYTES + 1, 1_472] {
            for now in [NOW, NOW - 86_400_000_000_000, NOW + 86_400_000_000_000] {
                let mark = Mark::read(&marked(len), now).unwrap();
                assert_eq!(mark, Mark { kind: Kind::Load, stream: 7, seq: u32::MAX, time_ns: NOW });
            }
        }
    }

    #[test]
    fn any_changed_byte_is_found() {
        let payload = marked(64);
        for i in 0..payload.len() {
            let mut bent = payload.clone();
            bent[i] ^= 0x40;
            let expected = if i < 2 { Unmarked::Foreign } else { Unmarked::Damaged };
            assert_eq!(Mark::read(&bent, NOW), Err(expected), "byte {i}");
        }
        assert_eq!(Mark::read(&payload[..63], NOW), Err(Unmarked::Damaged));
        assert_eq!(Mark::read(&payload[..MARK_BYTES - 1], NOW), Err(Unmarked::Foreign));
    }
}
