//! `linerate ports`.

use linerate::{Interface, PortInfo, Verdict, ports};
use serde::Serialize;

use crate::choice;
use crate::output::{Output, Paint};

#[derive(Serialize)]
struct PortLine<'a> {
    interface: &'a str,
    driver: Option<&'a str>,
    speed_mbps: Option<u32>,
    numa_node: Option<u32>,
    mac: Option<String>,
    mtu: u32,
    up: bool,
    carrier: bool,
    addresses: Vec<String>,
    best: Option<&'static str>,
    backends: Vec<BackendLine<'a>>,
}

#[derive(Serialize)]
struct BackendLine<'a> {
    backend: &'static str,
    works: bool,
    reason: &'a str,
}

/// Runs the command.
pub(crate) fn run(out: &Output) {
    let list = ports();
    if out.is_json() {
        for port in &list {
            out.json(&line(port));
        }
        return;
    }
    out.text(&table(&list, out.paint()));
}

fn line(port: &PortInfo) -> PortLine<'_> {
    let i = &port.interface;
    let backends = port.backends.iter().map(|c| BackendLine {
        backend: c.backend.name(),
        works: c.verdict == Verdict::Works,
        reason: &c.reason,
    });
    PortLine {
        interface: &i.name,
        driver: i.driver.as_deref(),
        speed_mbps: i.speed_mbps,
        numa_node: i.numa_node,
        mac: i.mac.map(mac),
        mtu: i.mtu,
        up: i.up,
        carrier: i.carrier,
        addresses: i.addresses.iter().map(ToString::to_string).collect(),
        best: port.best().map(linerate::Backend::name),
        backends: backends.collect(),
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|b| format!("{b:02x}")).join(":")
}

/// One row an interface, then which backends work and why the others do not.
fn table(list: &[PortInfo], paint: Paint) -> String {
    let head = row("interface", "link", "speed", "mtu", "node", "driver", "best port");
    let mut text = vec![paint.bold(&head)];
    for port in list {
        let i = &port.interface;
        let best = port.best().map_or_else(|| "-".into(), |b| format!("{b}:{}", i.name));
        text.push(row(
            &i.name,
            link(i),
            &i.speed_mbps.map_or_else(|| "-".into(), speed),
            &i.mtu.to_string(),
            &i.numa_node.map_or_else(|| "-".into(), |n| n.to_string()),
            i.driver.as_deref().unwrap_or("-"),
            &best,
        ));
        text.extend(choice::lines(&port.backends, word, paint));
    }
    text.join("\n")
}

fn row(
    name: &str,
    link: &str,
    speed: &str,
    mtu: &str,
    node: &str,
    driver: &str,
    best: &str,
) -> String {
    let text = format!("{name:<15} {link:<5} {speed:>9} {mtu:>6} {node:>4}  {driver:<12} {best}");
    text.trim_end().to_owned()
}

fn word(verdict: Verdict) -> &'static str {
    if verdict == Verdict::Works { "yes" } else { "no" }
}

fn link(i: &Interface) -> &'static str {
    match (i.up, i.carrier) {
        (false, _) => "down",
        (true, false) => "none",
        (true, true) => "up",
    }
}

fn speed(mbps: u32) -> String {
    if mbps >= 1000 && mbps.is_multiple_of(1000) {
        format!("{} Gb/s", mbps / 1000)
    } else {
        format!("{mbps} Mb/s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_80_columns() {
        let text = table(&ports(), Paint::PLAIN);
        assert!(text.contains("lo"));
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    }
}
