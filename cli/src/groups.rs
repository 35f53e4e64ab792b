//! Counters per multicast group.

use std::net::{IpAddr, SocketAddr};

use linerate::packet::{Ethernet, Headers, Udp};
use linerate::{FlowKind, FlowSpec};

use crate::sequence::{SeqSpec, SeqTracker};

/// What came in on one group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupCount {
    /// Frames.
    pub(crate) frames: u64,
    /// Bytes of those frames.
    pub(crate) bytes: u64,
    /// Sequence numbers, where the place they stand at is known.
    pub(crate) sequence: SeqTracker,
}

/// Finds a frame's group among many.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    keys: Vec<Key>,
    counts: Vec<GroupCount>,
    /// Indices into `keys` by hash, with linear probing. `EMPTY` ends a probe.
    table: Vec<u16>,
    any_port: bool,
    seq: Option<SeqSpec>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    group: IpAddr,
    port: Option<u16>,
    source: Option<IpAddr>,
    vlan: Option<u16>,
}

const EMPTY: u16 = u16::MAX;

/// Most groups that one capture counts.
pub(crate) const MAX_GROUPS: usize = 8192;

impl Groups {
    /// Counters for those of the flows that are groups, in their order, at most [`MAX_GROUPS`].
    pub(crate) fn new(flows: &[FlowSpec], seq: Option<SeqSpec>) -> Self {
        let key = |flow: &FlowSpec| match flow.kind {
            FlowKind::Group { group, source, port } => {
                Some(Key { group, port, source, vlan: flow.vlan })
            }
            _ => None,
        };
        let keys: Vec<Key> = flows.iter().filter_map(key).take(MAX_GROUPS).collect();
        let mut table = vec![EMPTY; (keys.len() * 2).next_power_of_two()];
        // The more is asked for, the earlier a key is probed: a frame counts where it fits best.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|i| (keys[*i].source.is_none(), keys[*i].vlan.is_none()));
        for i in order {
            let mut slot = hash(keys[i].group, keys[i].port) & (table.len() - 1);
            while table[slot] != EMPTY {
                slot = (slot + 1) & (table.len() - 1);
            }
            table[slot] = i as u16; // MAX_GROUPS fits
        }
        let any_port = keys.iter().any(|key| key.port.is_none());
        Self { counts: vec![GroupCount::default(); keys.len()], keys, table, any_port, seq }
    }

    /// Are there any?
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The counters, in the order of the flows.
    pub(crate) fn counts(&self) -> &[GroupCount] {
        &self.counts
    }

    /// Counts a frame. `None`: it belongs to no group.
    #[inline]
    pub(crate) fn count(&mut self, frame: &[u8], wire_len: u64) -> Option<usize> {
        let headers = Headers::parse(frame)?;
        let (src, dst) = headers.addresses?;
        // A later fragment has no ports: it counts for its group if any port does.
        let port = headers.ports.map(|(_, to)| to);
        let find = |port| self.find(dst, port, src, headers.vlan);
        let i = port
            .and_then(|port| find(Some(port)))
            .or_else(|| if self.any_port { find(None) } else { None })?;
        let count = &mut self.counts[i];
        count.frames += 1;
        count.bytes += wire_len;
        if let Some(spec) = self.seq
            && let Some((seq, n)) = payload(frame).and_then(|payload| spec.read(payload))
        {
            count.sequence.see(seq, n);
        }
        Some(i)
    }

    #[inline]
    fn find(
        &self,
        group: IpAddr,
        port: Option<u16>,
        source: IpAddr,
        vlan: Option<u16>,
    ) -> Option<usize> {
        let mask = self.table.len() - 1;
        let mut slot = hash(group, port) & mask;
        while self.table[slot] != EMPTY {
            let i = usize::from(self.table[slot]);
            let key = &self.keys[i];
            let same = key.group == group && key.port == port;
            let from = key.source.is_none_or(|wanted| wanted == source);
            if same && from && (key.vlan.is_none() || key.vlan == vlan) {
                return Some(i);
            }
            slot = (slot + 1) & mask;
        }
        None
    }
}

/// The UDP payload of a frame, where it is a whole datagram.
#[inline]
pub(crate) fn payload(frame: &[u8]) -> Option<&[u8]> {
    let upper = Ethernet::parse(frame)?.ip()?.upper();
    Some(Udp::parse(upper.payload)?.payload())
}

#[inline]
fn hash(group: IpAddr, port: Option<u16>) -> usize {
    let address = match group {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            (bits >> 64) as u64 ^ bits as u64
        }
    };
    // Fibonacci hashing: consecutive groups and ports spread over the upper bits.
    let mixed = (address ^ u64::from(port.unwrap_or(0)) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize
}

/// A group as the user wrote it: `239.1.1.1:5000`, `10.0.0.7,239.1.1.1:5000`.
pub(crate) fn name(flow: &FlowSpec) -> String {
    let FlowKind::Group { group, source, port } = flow.kind else { return flow.to_string() };
    let place = match port {
        Some(port) => SocketAddr::new(group, port).to_string(),
        None => group.to_string(),
    };
    let from = source.map(|ip| format!("{ip},")).unwrap_or_default();
    let vlan = flow.vlan.map(|id| format!("vlan:{id},")).unwrap_or_default();
    format!("{vlan}{from}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate::packet::UdpTemplate;

    fn frame(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
        let template = UdpTemplate::new(src.parse().unwrap(), dst.parse().unwrap()).unwrap();
        let mut buf = vec![0; 2000];
        let len = template.write(&mut buf, payload).unwrap();
        buf.truncate(len);
        buf
    }

    fn groups(texts: &[&str], seq: Option<&str>) -> Groups {
        let flows: Vec<FlowSpec> =
            texts.iter().flat_map(|t| FlowSpec::parse_list(t).unwrap()).collect();
        Groups::new(&flows, seq.map(|s| s.parse().unwrap()))
    }

    #[test]
    fn each_of_many_groups_gets_its_frames() {
        let mut groups = groups(&["239.1.1.1:5000+128", "[ff05::1]:5000+128"], None);
        for n in 0..128_usize {
            let to = format!("239.1.1.{}:5000", n + 1);
            assert_eq!(groups.count(&frame("10.0.0.1:1", &to, b"x"), 43), Some(n));
            let to = format!("[ff05::{:x}]:5000", n + 1);
            assert_eq!(groups.count(&frame("[fe80::1]:1", &to, b"x"), 63), Some(128 + n));
        }
        assert!(groups.counts().iter().all(|c| c.frames == 1));
        assert_eq!(groups.count(&frame("10.0.0.1:1", "239.1.1.129:5000", b"x"), 43), None);
        assert_eq!(groups.count(&frame("10.0.0.1:1", "239.1.1.1:5001", b"x"), 43), None);
        assert_eq!(groups.count(&[0; 60], 60), None);
    }

    #[test]
    fn a_frame_counts_where_it_fits_best() {
        let mut groups =
            groups(&["239.1.1.1:5000", "10.0.0.7,239.1.1.1:5000", "239.1.1.1", "239.1.1.2"], None);
        assert_eq!(groups.count(&frame("10.0.0.7:1", "239.1.1.1:5000", b""), 42), Some(1));
        assert_eq!(groups.count(&frame("10.0.0.8:1", "239.1.1.1:5000", b""), 42), Some(0));
        assert_eq!(groups.count(&frame("10.0.0.8:1", "239.1.1.1:9", b""), 42), Some(2));
        assert_eq!(groups.count(&frame("10.0.0.8:1", "239.1.1.2:9", b""), 42), Some(3));
    }

    #[test]
    fn gaps_are_counted_by_group() {
        let mut groups = groups(&["239.1.1.1:5000+2"], Some("u32le@0"));
        for (group, seq) in [(1, 1_u32), (2, 1), (1, 2), (2, 5), (1, 3)] {
            let to = format!("239.1.1.{group}:5000");
            groups.count(&frame("10.0.0.1:1", &to, &seq.to_le_bytes()), 46);
        }
        assert_eq!(groups.counts()[0].sequence.gaps, 0);
        assert_eq!(groups.counts()[1].sequence.missing, 3);
    }
}
