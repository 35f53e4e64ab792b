//! A generated market-data feed: what a real one looks like, without being one.
//!
//! The shape follows a recorded CME MDP 3.0 session: mostly small frames with a tail of large
//! ones, silence broken by bursts whose frames are some µs apart, and every message on two lines
//! that take turns in being first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};

use linerate::FlowSpec;
use linerate::packet::UdpTemplate;

/// Channels, each with its own sequence.
pub(crate) const CHANNELS: usize = 4;
/// Number of every channel's first message.
pub(crate) const FIRST_SEQ: u32 = 1;
/// Mean time between the beginnings of bursts, over all channels.
const BURST_EVERY_NS: f64 = 2_000_000.0;
/// Longest burst in messages.
const LONGEST_BURST: f64 = 160.0;
/// One message in this many is withheld from one line, as a lossy line would.
const WITHHOLD: u64 = 1500;
/// What every datagram begins with, lest other programs take it for one of theirs.
const MAGIC: [u8; 4] = *b"LRDF";
/// Bytes of a message before its filler: magic, sequence number, time of sending.
const HEAD: usize = 16;

/// One datagram to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    /// ns after the beginning.
    pub(crate) due_ns: u64,
    /// 0 is A, 1 is B.
    pub(crate) line: u8,
    pub(crate) channel: u8,
    pub(crate) seq: u32,
    /// Bytes of payload.
    pub(crate) len: u16,
}

/// Produces events in order of time, without an end.
#[derive(Debug)]
pub(crate) struct Feed {
    random: Random,
    /// The next message, not yet on either line.
    at_ns: u64,
    left_in_burst: u32,
    channel: u8,
    next_seq: [u32; CHANNELS],
    /// Time of the last message by line.
    last_ns: [u64; 2],
    waiting: BinaryHeap<Reverse<Event>>,
    /// Messages withheld by line.
    pub(crate) withheld: [u64; 2],
}

impl Feed {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed | 1),
            at_ns: 0,
            left_in_burst: 0,
            channel: 0,
            next_seq: [FIRST_SEQ; CHANNELS],
            last_ns: [0; 2],
            waiting: BinaryHeap::new(),
            withheld: [0; 2],
        }
    }

    /// The next datagram.
    pub(crate) fn next(&mut self) -> Event {
        loop {
            // Messages are made in order of time: none that is still to come is due before.
            if let Some(Reverse(event)) = self.waiting.peek()
                && event.due_ns <= self.at_ns
            {
                let event = *event;
                self.waiting.pop();
                return event;
            }
            self.publish();
        }
    }

    /// Number of the last message of each channel that was put on a line.
    pub(crate) fn last_seq(&self) -> [u32; CHANNELS] {
        self.next_seq.map(|next| next - 1)
    }

    /// The second copies that are still to be sent.
    pub(crate) fn rest(&mut self) -> Option<Event> {
        self.waiting.pop().map(|Reverse(event)| event)
    }

    /// Puts one message on both lines.
    fn publish(&mut self) {
        if self.left_in_burst == 0 {
            self.at_ns += self.random.exponential(BURST_EVERY_NS) as u64;
            // Pareto: most bursts are a message or two, a few are very long.
            let length = self.random.unit().powf(-1.0 / 0.9);
            self.left_in_burst = length.min(LONGEST_BURST) as u32;
            self.channel = (self.random.next() % CHANNELS as u64) as u8;
        } else {
            // Evenly spread in orders of magnitude from 0.13 µs to 40 µs.
            self.at_ns += (130.0 * (5.7 * self.random.unit()).exp()) as u64;
        }
        self.left_in_burst = self.left_in_burst.saturating_sub(1);

        let seq = &mut self.next_seq[usize::from(self.channel)];
        let len = match self.random.unit() {
            u if u < 0.75 => 92,
            u if u < 0.98 => 92 + (140.0 * self.random.unit()) as u16,
            _ => 300 + (1112.0 * self.random.unit()) as u16,
        };
        let event = Event { due_ns: self.at_ns, line: 0, channel: self.channel, seq: *seq, len };
        *seq += 1;
        let first = (self.random.next() >> 32 & 1) as u8;
        let skew_ns = self.random.exponential(900.0) as u64;
        let withheld = match self.random.next() % (2 * WITHHOLD) {
            draw @ 0..2 => Some(draw as u8),
            _ => None,
        };
        for (line, due_ns) in [(first, self.at_ns), (1 - first, self.at_ns + skew_ns)] {
            // A line keeps the order of its messages, whatever the skew.
            let last_ns = &mut self.last_ns[usize::from(line)];
            *last_ns = due_ns.max(*last_ns);
            let due_ns = *last_ns;
            if withheld == Some(line) {
                self.withheld[usize::from(line)] += 1;
            } else {
                self.waiting.push(Reverse(Event { line, due_ns, ..event }));
            }
        }
    }
}

/// Where the feed goes: four groups for line A, four for line B.
#[derive(Debug)]
pub(crate) struct Addresses {
    templates: Vec<UdpTemplate>,
    /// In the order of [`group_index`].
    pub(crate) flows: Vec<FlowSpec>,
}

/// Index of a line's channel among the groups.
pub(crate) fn group_index(line: u8, channel: u8) -> usize {
    usize::from(line) * CHANNELS + usize::from(channel)
}

/// Line and channel of a group.
pub(crate) fn of_group(index: usize) -> (usize, usize) {
    (index / CHANNELS, index % CHANNELS)
}

impl Addresses {
    /// Groups of the administratively scoped range that no other demo on this machine uses at
    /// the same time: they are made from the process id.
    pub(crate) fn new(process: u32) -> Self {
        let base = u32::from(Ipv4Addr::new(239, 128, 0, 0)) + (process % (1 << 18)) * 16;
        let mut templates = Vec::new();
        let mut flows = Vec::new();
        for line in 0..2_u32 {
            for channel in 0..CHANNELS as u32 {
                let group = Ipv4Addr::from(base + line * CHANNELS as u32 + channel + 1);
                let port = if line == 0 { 14_340 } else { 15_340 };
                let src = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000));
                let made = UdpTemplate::new(src, SocketAddr::from((group, port)));
                templates.extend(made);
                flows.push(FlowSpec::group(group.into(), port));
            }
        }
        Self { templates, flows }
    }

    /// Longest frame that [`write`](Self::write) makes.
    pub(crate) const MAX_FRAME: usize = 42 + 300 + 1112;

    /// Writes the event's frame, stamped `now_ns`, into `buf` and returns its length.
    pub(crate) fn write(&self, event: &Event, now_ns: u64, buf: &mut [u8]) -> Option<usize> {
        let template = self.templates.get(group_index(event.line, event.channel))?;
        let len = template.header_len() + usize::from(event.len);
        let (headers, payload) = buf.get_mut(..len)?.split_at_mut(template.header_len());
        payload[..4].copy_from_slice(&MAGIC);
        payload[4..8].copy_from_slice(&event.seq.to_le_bytes());
        payload[8..HEAD].copy_from_slice(&now_ns.to_le_bytes());
        payload[HEAD..].fill(b'.');
        template.write_headers(headers, payload)?;
        Some(len)
    }
}

/// Sequence number and time of sending of a datagram of the feed.
pub(crate) fn read(payload: &[u8]) -> Option<(u32, u64)> {
    let head: &[u8; HEAD] = payload.first_chunk()?;
    let (magic, rest) = head.split_first_chunk()?;
    let (seq, sent_ns) = rest.split_first_chunk()?;
    if *magic != MAGIC {
        return None;
    }
    let (seq, sent_ns) = (u32::from_le_bytes(*seq), u64::from_le_bytes(*sent_ns.first_chunk()?));
    Some((seq, sent_ns))
}

/// xorshift64*: enough for traffic, and the same everywhere.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::payload;

    #[test]
    fn the_feed_has_the_shape_of_a_market() {
        let mut feed = Feed::new(7);
        let events: Vec<Event> = (0..40_000).map(|_| feed.next()).collect();
        assert!(events.is_sorted_by_key(|e| e.due_ns), "it is in order of time");
        for group in 0..2 * CHANNELS {
            let mine = events.iter().filter(|e| group_index(e.line, e.channel) == group);
            assert!(mine.is_sorted_by_key(|e| e.seq), "each line is in order of sequence");
        }
        let seconds = events.last().unwrap().due_ns as f64 / 1e9;
        let rate = 40_000.0 / seconds;
        assert!((3_000.0..20_000.0).contains(&rate), "{rate} frames/s");
        let small = events.iter().filter(|e| e.len == 92).count();
        assert!((0.7..0.8).contains(&(small as f64 / 40_000.0)));
        assert!(events.iter().all(|e| 42 + usize::from(e.len) <= Addresses::MAX_FRAME));
        let busiest = events.chunk_by(|a, b| a.due_ns / 10_000_000 == b.due_ns / 10_000_000);
        let busiest = busiest.map(<[Event]>::len).max().unwrap();
        assert!((200..1_000).contains(&busiest), "{busiest} frames in 10 ms");
    }

    #[test]
    fn no_message_is_withheld_from_both_lines() {
        let mut feed = Feed::new(3);
        let mut copies = vec![[0_u32; 2]; CHANNELS * 20_000];
        let mut note = |e: Event| {
            copies[usize::from(e.channel) * 20_000 + e.seq as usize][usize::from(e.line)] += 1;
        };
        for _ in 0..30_000 {
            note(feed.next());
        }
        while let Some(event) = feed.rest() {
            note(event);
        }
        let mut single = 0;
        for (channel, last) in feed.last_seq().into_iter().enumerate() {
            for seq in FIRST_SEQ..=last {
                let [a, b] = copies[channel * 20_000 + seq as usize];
                assert!(a <= 1 && b <= 1 && a + b >= 1);
                single += u64::from(a + b == 1);
            }
        }
        assert_eq!(single, feed.withheld.iter().sum::<u64>());
        assert!(single > 0);
    }

    #[test]
    fn a_frame_carries_its_number_and_time_to_its_group() {
        let addresses = Addresses::new(4711);
        let event = Event { due_ns: 0, line: 1, channel: 2, seq: 77, len: 92 };
        let mut buf = [0; Addresses::MAX_FRAME];
        let len = addresses.write(&event, 123_456, &mut buf).unwrap();
        let frame = &buf[..len];
        assert_eq!(len, 134);
        assert_eq!(read(payload(frame).unwrap()), Some((77, 123_456)));
        let matching: Vec<usize> = (0..8).filter(|i| addresses.flows[*i].matches(frame)).collect();
        assert_eq!(matching, [group_index(1, 2)]);
        assert_eq!(of_group(matching[0]), (1, 2));
    }
}
