//! What this machine's interfaces are, asked of the kernel without rights and without effect.

mod settings;
mod sys;
mod xdp;

use std::fs;
use std::net::IpAddr;
use std::path::Path;

pub use settings::DriverSettings;
pub(crate) use sys::may_open_packet_socket;
pub use xdp::{XdpSocket, xdp_sockets};

/// One network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Name: `eth2`.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// Driver: `mlx5_core`, `sfc`, `veth`. `None` where there is none (loopback).
    pub driver: Option<String>,
    /// PCI address or the driver's other word for where the card is.
    pub bus: Option<String>,
    /// Link speed in Mb/s, where the driver says and the link is up.
    pub speed_mbps: Option<u32>,
    /// NUMA node of the card, on machines that have several.
    pub numa_node: Option<u32>,
    /// Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Is it administratively up?
    pub up: bool,
    /// Is there a link?
    pub carrier: bool,
    /// Is it the loopback interface?
    pub loopback: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Every interface of this network namespace, by index.
pub(crate) fn all() -> Vec<Interface> {
    let addresses = sys::addresses();
    let socket = sys::Control::open();
    let mut list: Vec<_> = sys::names()
        .into_iter()
        .map(|(index, name)| describe(socket.as_ref(), index, name, &addresses))
        .collect();
    list.sort_by_key(|i| i.index);
    list
}

/// The interface of this name.
pub(crate) fn named(name: &str) -> Option<Interface> {
    all().into_iter().find(|i| i.name == name)
}

fn describe(
    socket: Option<&sys::Control>,
    index: u32,
    name: String,
    addresses: &[(String, IpAddr)],
) -> Interface {
    let flags = socket.and_then(|s| s.flags(&name)).unwrap_or(0);
    let info = socket.and_then(|s| s.driver(&name));
    let (driver, bus) = info.unwrap_or((None, None));
    let running = flags & libc::IFF_RUNNING != 0;
    Interface {
        index,
        driver,
        bus,
        speed_mbps: if running { socket.and_then(|s| s.speed_mbps(&name)) } else { None },
        numa_node: numa_node(&name, index),
        mac: socket.and_then(|s| s.mac(&name)),
        mtu: socket.and_then(|s| s.mtu(&name)).unwrap_or(0),
        up: flags & libc::IFF_UP != 0,
        carrier: running,
        loopback: flags & libc::IFF_LOOPBACK != 0,
        addresses: addresses.iter().filter(|(n, _)| *n == name).map(|(_, ip)| *ip).collect(),
        name,
    }
}

/// From sysfs, if what is mounted there is this namespace's: it shows the same index.
fn numa_node(name: &str, index: u32) -> Option<u32> {
    let dir = Path::new("/sys/class/net").join(name);
    let read = |file: &str| fs::read_to_string(dir.join(file)).ok();
    if read("ifindex")?.trim().parse() != Ok(index) {
        return None;
    }
    // -1: the machine has one node, or the bus does not say.
    read("device/numa_node")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_described_without_rights() {
        let lo = named("lo").expect("every machine has lo");
        assert!(lo.loopback && lo.index > 0);
        assert_eq!(lo.mac, None);
        assert!(lo.mtu > 0);
    }

    #[test]
    fn a_veth_shows_its_driver_speed_and_addresses() {
        let lab = linerate_lab::lab_or_skip!();
        let v0 = lab.in_a(|| named("v0")).expect("the lab has v0");
        assert_eq!(v0.driver.as_deref(), Some("veth"));
        assert_eq!(v0.speed_mbps, Some(10_000));
        assert!(v0.up && v0.carrier && !v0.loopback);
        assert_eq!(v0.mtu, 1500);
        assert!(v0.mac.is_some_and(|mac| mac != [0; 6]));
        assert!(v0.addresses.contains(&"10.99.0.1".parse().unwrap()), "{:?}", v0.addresses);
        assert!(v0.addresses.contains(&"fd99::1".parse().unwrap()));
        lab.ip_a(&["link", "set", "v0", "down"]).unwrap();
        let v0 = lab.in_a(|| named("v0")).expect("the lab has v0");
        assert!(!v0.up && !v0.carrier);
        assert_eq!(v0.speed_mbps, None);
        assert!(lab.in_a(|| named("v1")).is_none());
    }
}
