//! Every place where losses are counted, read once.

use std::collections::BTreeMap;
use std::fs;

use linerate::{PortInfo, xdp_sockets};

use super::layer::{Layer, Loss};
use crate::failure::Failure;
use crate::metrics;

/// A counter: where it is, what it is called, and of which layer.
type Key = (Layer, String, String, bool);

/// Every counter at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    counters: BTreeMap<Key, u64>,
    /// Frames that the interfaces took in.
    pub(super) received: u64,
    /// What could not be read, and why.
    pub(super) not_seen: Vec<String>,
}

impl Snapshot {
    fn add(&mut self, layer: Layer, place: &str, counter: &str, value: u64) {
        *self.counters.entry((layer, place.into(), counter.into(), false)).or_default() += value;
    }

    fn sign(&mut self, layer: Layer, place: &str, counter: &str, value: u64) {
        *self.counters.entry((layer, place.into(), counter.into(), true)).or_default() += value;
    }

    /// How many counters there are.
    pub(super) fn counters(&self) -> usize {
        self.counters.len()
    }

    /// What grew. A counter that was not there before (a new socket) began at 0.
    pub(super) fn since(&self, before: &Self) -> Vec<Loss> {
        let grown = self.counters.iter().filter_map(|(key, now)| {
            let frames = now.saturating_sub(before.counters.get(key).copied().unwrap_or(0));
            let (layer, place, counter, only_a_sign) = key.clone();
            (frames > 0).then_some(Loss { layer, counter, place, frames, only_a_sign })
        });
        grown.collect()
    }
}

/// Reads everything. At first a linerate that was named must answer; later it may have ended.
pub(super) fn read(
    ports: &[PortInfo],
    endpoints: &[String],
    first: bool,
) -> Result<Snapshot, Failure> {
    let mut all = Snapshot::default();
    for port in ports {
        interface(&mut all, port);
    }
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    softnet(&mut all, &text("/proc/net/softnet_stat"));
    for file in ["udp", "udp6"] {
        udp_sockets(&mut all, &text(&format!("/proc/net/{file}")));
    }
    match xdp_sockets() {
        Some(sockets) => {
            for socket in sockets {
                let place = format!("socket {} queue {}", socket.inode, socket.queue);
                all.add(Layer::AfXdp, &place, "rx_dropped", socket.rx_dropped);
                all.add(Layer::AfXdp, &place, "rx_ring_full", socket.rx_ring_full);
                all.add(Layer::AfXdp, &place, "fill_ring_empty", socket.fill_ring_empty);
            }
        }
        None => {
            all.not_seen.push("AF_XDP sockets: this kernel does not list them (xsk_diag)".into())
        }
    }
    let packet = text("/proc/net/packet").lines().count() > 1;
    if packet && endpoints.is_empty() {
        let what = "AF_PACKET rings: only their owners can read their losses; run linerate with \
                    --metrics and name it here";
        all.not_seen.push(what.into());
    }
    for address in endpoints {
        match metrics::fetch(address) {
            Ok(page) => ours(&mut all, address, &page),
            Err(e) if first => return Err(e),
            Err(e) => all.not_seen.push(format!("the end of linerate at {address}: {e}")),
        }
    }
    Ok(all)
}

fn interface(all: &mut Snapshot, port: &PortInfo) {
    let name = &port.interface.name;
    for (counter, value) in port.interface.driver_counters() {
        if let Some(layer) = Layer::of_driver_counter(&counter) {
            all.add(layer, name, &counter, value);
        }
    }
    let of = |counter: &str| -> Option<u64> {
        let path = format!("/sys/class/net/{name}/statistics/{counter}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    all.received += of("rx_packets").unwrap_or(0);
    for (counter, layer) in [
        ("rx_crc_errors", Layer::Wire),
        ("rx_frame_errors", Layer::Wire),
        ("rx_over_errors", Layer::Card),
        ("rx_fifo_errors", Layer::Ring),
        ("rx_missed_errors", Layer::Ring),
    ] {
        if let Some(value) = of(counter) {
            all.add(layer, name, counter, value);
        }
    }
    // Also frames that nobody here wanted: unknown protocols, other VLANs, spanning tree.
    for counter in ["rx_dropped", "rx_nohandler"] {
        if let Some(value) = of(counter) {
            all.sign(Layer::Driver, name, counter, value);
        }
    }
}

/// A row for each CPU: frames, dropped, time_squeeze, … in hexadecimal.
fn softnet(all: &mut Snapshot, table: &str) {
    for (cpu, row) in table.lines().enumerate() {
        let column = |n: usize| {
            let word = row.split_whitespace().nth(n).unwrap_or("0");
            u64::from_str_radix(word, 16).unwrap_or(0)
        };
        // The last but two columns have the CPU's number where some CPUs are missing.
        let place = format!("cpu row {cpu}");
        all.add(Layer::Softirq, &place, "softnet dropped", column(1));
        all.sign(Layer::Softirq, &place, "softnet time_squeeze", column(2));
    }
}

/// `sl local rem st queues timer retrnsmt uid timeout inode ref pointer drops`.
fn udp_sockets(all: &mut Snapshot, table: &str) {
    for row in table.lines().skip(1) {
        let words: Vec<&str> = row.split_whitespace().collect();
        let (Some(local), Some(inode), Some(drops)) = (words.get(1), words.get(9), words.last())
        else {
            continue;
        };
        let port = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
        let place = format!("port {}, inode {inode}", port.unwrap_or(0));
        all.add(Layer::UdpSocket, &place, "drops", drops.parse().unwrap_or(0));
    }
}

/// Losses by reason, as a linerate serves them.
fn ours(all: &mut Snapshot, address: &str, page: &str) {
    for (reason, queue, value) in metrics::losses(page) {
        let place = format!("linerate at {address}, queue {queue}");
        all.add(Layer::of_reason(&reason), &place, &reason, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(before: impl Fn(&mut Snapshot), after: impl Fn(&mut Snapshot)) -> Vec<Loss> {
        let (mut then, mut now) = (Snapshot::default(), Snapshot::default());
        before(&mut then);
        after(&mut now);
        now.since(&then)
    }

    #[test]
    fn a_tiny_softirq_budget_shows() {
        let row = |dropped: u32, squeezed: u32| {
            format!("0000ffff {dropped:08x} {squeezed:08x} 00000000 00000000\n")
        };
        let table = |dropped| format!("{}{}", row(0, 0), row(dropped, dropped * 2));
        let found = losses(|s| softnet(s, &table(10)), |s| softnet(s, &table(27)));
        let seen: Vec<_> =
            found.iter().map(|l| (l.place.as_str(), l.frames, l.is_loss())).collect();
        assert_eq!(seen, [("cpu row 1", 17, true), ("cpu row 1", 34, false)]);
        assert!(found.iter().all(|l| l.layer == Layer::Softirq));
    }

    #[test]
    fn a_small_socket_buffer_shows() {
        let table = |drops| {
            format!(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                 timeout inode ref pointer drops\n  7: 00000000:1388 00000000:0000 07 \
                 00000000:00000000 00:00000000 00000000     0        0 4711 2 00000000 {drops}\n"
            )
        };
        let found = losses(|s| udp_sockets(s, &table(3)), |s| udp_sockets(s, &table(8)));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].layer, found[0].frames), (Layer::UdpSocket, 5));
        assert_eq!(found[0].place, "port 5000, inode 4711");
    }
}
