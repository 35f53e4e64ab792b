//! The machine, the card and its driver, for whoever reads a report elsewhere.

use std::fs;
use std::path::Path;

use linerate::{Clocked, Port};

use crate::link::Interface;

/// Kernel modules of the cards that linerate drives, and of their libraries.
const MODULES: [&str; 9] = [
    "sfc",
    "sfc_char",
    "onload",
    "mlx5_core",
    "mlx5_ib",
    "mlx4_core",
    "ib_uverbs",
    "exanic",
    "xdp",
];
/// Variables that change what vendors' libraries do.
const VARIABLES: [&str; 5] = ["EF_", "EXANIC", "EXASOCK", "MLX5_", "IBV_"];

/// Name and value each, in the order in which to print them.
pub(super) fn gather(port: &Port, interface: Option<&Interface>) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: String| facts.push((name.to_owned(), value));
    add("linerate", env!("CARGO_PKG_VERSION").to_owned());
    add("kernel", read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()));
    add("machine", format!("{} {}", std::env::consts::ARCH, cpu_model().unwrap_or_default()));
    add("port", port.uri().to_owned());
    for candidate in port.choice() {
        add(
            "choice",
            format!("{}: {}, {}", candidate.backend, candidate.verdict, candidate.reason),
        );
    }
    if let Some(rx) = port.rx.first() {
        add("clock", format!("{:?}", rx.clock()));
    }
    if let Some(i) = interface {
        add("interface", format!("{} (index {})", i.name, i.index));
        add("driver", i.driver.clone().unwrap_or_else(|| "none".into()));
        add("bus", i.bus.clone().unwrap_or_else(|| "none".into()));
        add("mtu", i.mtu.to_string());
        add(
            "link",
            match (i.carrier, i.speed_mbps) {
                (true, Some(speed)) => format!("up, {speed} Mb/s"),
                (true, None) => "up".into(),
                (false, _) => "down".into(),
            },
        );
        if let Some(node) = i.numa_node {
            add("numa node", node.to_string());
        }
    }
    for module in MODULES {
        let dir = Path::new("/sys/module").join(module);
        if dir.exists() {
            let version = read(dir.join("version")).unwrap_or_else(|| "loaded".into());
            add("module", format!("{module} {version}"));
        }
    }
    for (name, value) in std::env::vars() {
        if VARIABLES.iter().any(|prefix| name.starts_with(prefix)) {
            add("environment", format!("{name}={value}"));
        }
    }
    for notice in port.notices() {
        add("notice", notice.clone());
    }
    facts
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn cpu_model() -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}
