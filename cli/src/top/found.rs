//! Flows that nobody named, found in the frames.
//!
//! The table is bounded and allocates once: 256 flows, and a frame of one more takes the place of
//! the flow that has been silent for longest, whose count goes on under `other`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use linerate::packet::Headers;
use linerate::{FlowKind, FlowSpec, Proto, RxFrame};

use crate::capture::{GroupLine, Inspect};
use crate::groups;

/// Flows that are told apart.
const FLOWS: usize = 256;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where frames go, as far as it tells flows apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    vlan: Option<u16>,
    to: To,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum To {
    Port(u8, IpAddr, u16),
    /// Neither UDP nor TCP, or a later fragment.
    Address(u8, IpAddr),
    /// Not IP.
    EtherType(u16),
    /// Too short, or tagged too often.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    key: Key,
    frames: u64,
    bytes: u64,
    /// Number of the frame that it was last seen in.
    last: u64,
}

/// The flows found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    flows: Vec<Flow>,
    /// Frames and bytes of flows that had to make room.
    other: (u64, u64),
}

/// Finds more of them.
#[derive(Debug)]
struct Table {
    found: Found,
    /// Places in `found.flows`.
    places: HashMap<Key, usize>,
    seen: u64,
}

impl Key {
    #[inline]
    fn of(frame: &[u8]) -> Self {
        let Some(headers) = Headers::parse(frame) else {
            return Self { vlan: None, to: To::Unknown };
        };
        let to = match (headers.addresses, headers.proto, headers.ports, headers.ethertype) {
            (Some((_, dst)), Some(proto), Some((_, port)), _) => To::Port(proto, dst, port),
            (Some((_, dst)), Some(proto), None, _) => To::Address(proto, dst),
            (_, _, _, Some(ethertype)) => To::EtherType(ethertype),
            _ => To::Unknown,
        };
        Self { vlan: headers.vlan, to }
    }

    /// As `-f` takes it, where there is such a flow.
    fn name(&self) -> String {
        let flow = match self.to {
            To::Port(UDP, ip, port) if ip.is_multicast() => FlowSpec::group(ip, port),
            To::Port(proto @ (UDP | TCP), ip, port) => {
                let proto = if proto == TCP { Proto::Tcp } else { Proto::Udp };
                FlowSpec::of(FlowKind::To { proto, dst: SocketAddr::new(ip, port) })
            }
            To::EtherType(ethertype) => FlowSpec::of(FlowKind::EtherType(ethertype)),
            To::Port(proto, ip, _) | To::Address(proto, ip) => {
                let vlan = self.vlan.map(|id| format!("vlan:{id},")).unwrap_or_default();
                return format!("{vlan}{ip}, protocol {proto}");
            }
            To::Unknown => return "no header that is known".into(),
        };
        groups::name(&FlowSpec { vlan: self.vlan, ..flow })
    }
}

impl Table {
    /// With room for all that it will hold.
    fn new() -> Self {
        let places = HashMap::with_capacity(2 * FLOWS);
        Self { found: Found::new(), places, seen: 0 }
    }

    #[inline]
    fn count(&mut self, frame: &[u8], wire_len: u64) {
        let key = Key::of(frame);
        self.seen += 1;
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None => self.place(key),
        };
        let flow = &mut self.found.flows[at];
        flow.frames += 1;
        flow.bytes += wire_len;
        flow.last = self.seen;
    }

    /// A place for a new flow.
    #[cold]
    fn place(&mut self, key: Key) -> usize {
        let new = Flow { key, frames: 0, bytes: 0, last: 0 };
        let Found { flows, other } = &mut self.found;
        let at = if flows.len() < FLOWS {
            flows.push(new);
            flows.len() - 1
        } else {
            let silent = flows.iter().enumerate().min_by_key(|(_, flow)| flow.last);
            let at = silent.map_or(0, |(at, _)| at);
            let gone = std::mem::replace(&mut flows[at], new);
            self.places.remove(&gone.key);
            other.0 += gone.frames;
            other.1 += gone.bytes;
            at
        };
        self.places.insert(key, at);
        at
    }
}

impl Found {
    fn new() -> Self {
        Self { flows: Vec::with_capacity(FLOWS), other: (0, 0) }
    }

    /// A copy, without an allocation.
    fn copy_from(&mut self, other: &Self) {
        self.flows.clone_from(&other.flows);
        self.other = other.other;
    }

    /// Each flow, then those that are not told apart any more.
    pub(crate) fn lines(&self) -> Vec<GroupLine> {
        let line = |group: String, frames: u64, bytes: u64| GroupLine {
            group,
            frames,
            bytes,
            gaps: 0,
            missing: 0,
            late: 0,
            sequenced: false,
        };
        let mut lines: Vec<_> =
            self.flows.iter().map(|flow| line(flow.key.name(), flow.frames, flow.bytes)).collect();
        if self.other.0 > 0 {
            lines.push(line("other".into(), self.other.0, self.other.1));
        }
        lines
    }
}

/// Finds flows on the receive loop's thread, and leaves a copy where the main thread reads it.
#[derive(Debug)]
pub(crate) struct Finder {
    table: Table,
    shown: Arc<Mutex<Found>>,
}

impl Finder {
    /// With the place where the copy will be.
    pub(crate) fn new() -> (Self, Arc<Mutex<Found>>) {
        let shown = Arc::new(Mutex::new(Found::new()));
        (Self { table: Table::new(), shown: Arc::clone(&shown) }, shown)
    }
}

impl Inspect for Finder {
    fn see(&mut self, _group: usize, _frame: &RxFrame<'_>) {}

    #[inline]
    fn see_other(&mut self, frame: &RxFrame<'_>) {
        self.table.count(frame.bytes, u64::from(frame.meta.wire_len));
    }

    fn report(&mut self) {
        if let Ok(mut shown) = self.shown.try_lock() {
            shown.copy_from(&self.table.found);
        }
    }
}

/// What the receive loop left last.
pub(crate) fn lines(shown: &Mutex<Found>) -> Vec<GroupLine> {
    shown.lock().unwrap_or_else(PoisonError::into_inner).lines()
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate::packet::UdpTemplate;

    fn frame(to: &str) -> Vec<u8> {
        let from = if to.starts_with('[') { "[fe80::1]:9" } else { "10.0.0.1:9" };
        let template = UdpTemplate::new(from.parse().unwrap(), to.parse().unwrap()).unwrap();
        let mut buf = vec![0; 200];
        let len = template.write(&mut buf, b"x").unwrap();
        buf.truncate(len);
        buf
    }

    #[test]
    fn flows_are_named_as_they_are_asked_for() {
        let mut found = Table::new();
        let mut tagged = frame("239.1.1.1:5000");
        tagged.splice(12..12, [0x81, 0, 0x03, 0x89]);
        let mut icmp = frame("10.0.0.2:53");
        icmp[23] = 1;
        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        let all = [
            (frame("239.1.1.1:5000"), "239.1.1.1:5000"),
            (frame("10.0.0.2:53"), "udp:10.0.0.2:53"),
            (frame("[ff05::1]:7"), "[ff05::1]:7"),
            (tagged, "vlan:905,239.1.1.1:5000"),
            (icmp, "10.0.0.2, protocol 1"),
            (arp, "ether:0x0806"),
            (vec![0; 4], "no header that is known"),
        ];
        for (frame, _) in &all {
            found.count(frame, 60);
            found.count(frame, 60);
        }
        let lines = found.found.lines();
        let seen: Vec<_> = lines.iter().map(|line| line.group.as_str()).collect();
        assert_eq!(seen, all.map(|(_, name)| name));
        assert!(lines.iter().all(|line| (line.frames, line.bytes) == (2, 120)));
        for name in seen.iter().filter(|name| !name.contains(' ')) {
            assert!(FlowSpec::parse_list(name).is_ok(), "{name} cannot be asked for");
        }
    }

    #[test]
    fn the_table_is_bounded_and_no_frame_is_forgotten() {
        let mut found = Table::new();
        let steady = frame("239.9.9.9:9");
        let room = (found.found.flows.capacity(), found.places.capacity());
        for n in 0..2_000_u32 {
            found.count(&frame(&format!("239.1.{}.{}:5000", n / 250, n % 250)), 100);
            found.count(&steady, 50);
        }
        let lines = found.found.lines();
        assert_eq!(lines.len(), FLOWS + 1);
        assert_eq!(lines.iter().map(|line| line.frames).sum::<u64>(), 4_000);
        assert_eq!(lines.iter().map(|line| line.bytes).sum::<u64>(), 300_000);
        let of = |name: &str| lines.iter().find(|line| line.group == name).map(|line| line.frames);
        assert_eq!(of("239.9.9.9:9"), Some(2_000), "who speaks on stays");
        assert_eq!((of("239.1.7.249:5000"), of("239.1.0.0:5000")), (Some(1), None));
        assert_eq!(of("other"), Some(2_000 - 255));
        assert_eq!((found.found.flows.capacity(), found.places.capacity()), room, "it has grown");
    }
}
