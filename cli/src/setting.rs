//! What a measurement was made on: everything that is known to change the numbers.

use std::fs;

use linerate::loops::Strategy;
use linerate::{AnyRx, ClockDomain, Clocked, Interface, Port};
use serde::Serialize;

use crate::format::bps;
use crate::output::Paint;

/// The machine, the port and the thread, as JSON and as a header of the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Setting {
    version: &'static str,
    /// Was the command itself built without optimisation?
    debug_build: bool,
    kernel: String,
    cpu_model: String,
    cpus: usize,
    virtual_machine: bool,
    clocksource: String,
    /// The CPU of the measuring thread; null: wherever the scheduler puts it.
    cpu: Option<u32>,
    cpu_isolated: bool,
    cpu_numa_node: Option<u32>,
    governor: Option<String>,
    r#loop: &'static str,
    interface: Option<String>,
    driver: Option<String>,
    bus: Option<String>,
    speed_mbps: Option<u32>,
    mtu: Option<u32>,
    numa_node: Option<u32>,
    stamps: &'static str,
    stamps_synced: Option<bool>,
}

impl Setting {
    /// As things are now.
    pub(crate) fn of(
        port: &Port,
        interface: Option<&Interface>,
        cpu: Option<u32>,
        strategy: Strategy,
    ) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        let flags = field("flags").unwrap_or_default();
        let of_cpu = cpu.unwrap_or(0);
        let clock = port.rx.first().map(AnyRx::clock);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
            cpu_model: field("model name").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            virtual_machine: flags.split_whitespace().any(|flag| flag == "hypervisor"),
            clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .unwrap_or_default(),
            cpu,
            cpu_isolated: cpu.is_some_and(is_isolated),
            cpu_numa_node: cpu.and_then(node_of),
            governor: line(&format!(
                "/sys/devices/system/cpu/cpu{of_cpu}/cpufreq/scaling_governor"
            )),
            r#loop: strategy.kind().name(),
            interface: interface.map(|i| i.name.clone()),
            driver: interface.and_then(|i| i.driver.clone()),
            bus: interface.and_then(|i| i.bus.clone()),
            speed_mbps: interface.and_then(|i| i.speed_mbps),
            mtu: interface.map(|i| i.mtu),
            numa_node: interface.and_then(|i| i.numa_node),
            stamps: clock.map_or("none", |clock| match clock.domain {
                ClockDomain::None => "none",
                ClockDomain::Realtime => "kernel",
                ClockDomain::Phc(_) => "card, UTC",
                ClockDomain::PhcTai(_) => "card, TAI",
                ClockDomain::Card => "card",
                ClockDomain::Recorded => "recorded",
                _ => "unknown",
            }),
            stamps_synced: clock.and_then(|clock| clock.synced),
        }
    }

    /// The most important of it, for a drawing.
    pub(crate) fn in_one_line(&self) -> String {
        let cpu = self.cpu.map_or("not pinned".to_owned(), |cpu| format!("CPU {cpu}"));
        let debug = if self.debug_build { ", DEBUG BUILD" } else { "" };
        let driver = self.driver.as_deref().unwrap_or("no driver");
        format!(
            "Linux {}, {}, {cpu}, {} loop, {driver}, linerate {}{debug}",
            self.kernel, self.cpu_model, self.r#loop, self.version
        )
    }

    /// As lines of at most 80 columns.
    pub(crate) fn render(&self, uri: &str, paint: Paint) -> String {
        let mut port = vec![uri.to_owned()];
        port.extend(self.driver.as_ref().map(|driver| format!("driver {driver}")));
        port.extend(self.speed_mbps.map(|mbps| bps(f64::from(mbps) * 1e6)));
        port.extend(self.mtu.map(|mtu| format!("MTU {mtu}")));
        port.extend(self.numa_node.map(|node| format!("node {node}")));
        let mut host = vec![format!("Linux {}", self.kernel), self.cpu_model.clone()];
        host.push(format!("{} CPUs", self.cpus));
        if self.virtual_machine {
            host.push("virtual machine".into());
        }
        host.push(format!("clocksource {}", self.clocksource));
        let mut thread = vec![match self.cpu {
            Some(cpu) if self.cpu_isolated => format!("CPU {cpu} (isolated)"),
            Some(cpu) => format!("CPU {cpu} (not isolated)"),
            None => "not pinned: see --cpu".into(),
        }];
        thread.extend(self.cpu_numa_node.map(|node| format!("node {node}")));
        thread.push(format!("governor {}", self.governor.as_deref().unwrap_or("unknown")));
        thread.push(format!("{} loop", self.r#loop));
        if self.debug_build {
            thread.push("DEBUG BUILD".into());
        }
        let synced = match self.stamps_synced {
            Some(true) => ", synchronised",
            Some(false) => ", NOT synchronised",
            None => "",
        };
        let stamps = vec![format!("{}{synced}", self.stamps)];
        let row = |name: &str, words: Vec<String>| {
            let words: Vec<String> = words.into_iter().filter(|w| !w.is_empty()).collect();
            wrap(&paint.bold(&format!("{name:<7}")), &words)
        };
        [row("port", port), row("host", host), row("thread", thread), row("stamps", stamps)]
            .join("\n")
    }
}

/// Words after a name of 7 columns, separated by commas, continued on the next line where they
/// would pass column 80.
fn wrap(name: &str, words: &[String]) -> String {
    let mut text = format!("{name} ");
    let mut used = 8;
    for (i, word) in words.iter().enumerate() {
        let comma = if i + 1 < words.len() { "," } else { "" };
        let columns = word.chars().count() + comma.len() + 1;
        if used + columns > 80 && used > 8 {
            text.push_str(&format!("\n{:8}", ""));
            used = 8;
        }
        text.push_str(&format!("{word}{comma} "));
        used += columns;
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// The interface behind a port: its own, or the one that a simulated card is plugged into.
pub(crate) fn interface_of(port: &Port) -> Option<Interface> {
    let peer = port.uri().split_once('?').and_then(|(_, options)| {
        options.split('&').find_map(|option| option.strip_prefix("peer=").map(str::to_owned))
    });
    let name = peer.unwrap_or_else(|| port.name().to_owned());
    linerate::ports().into_iter().map(|info| info.interface).find(|i| i.name == name)
}

fn line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Is this CPU kept free of other tasks (`isolcpus`)?
fn is_isolated(cpu: u32) -> bool {
    let list = line("/sys/devices/system/cpu/isolated").unwrap_or_default();
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(a), Ok(b)) if (a..=b).contains(&cpu))
    })
}

fn node_of(cpu: u32) -> Option<u32> {
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.into_iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_rows_go_on_below() {
        let words: Vec<String> = (0..12).map(|i| format!("word number {i}")).collect();
        let text = wrap("name   ", &words);
        assert!(
            text.lines().count() > 1 && text.lines().all(|l| l.chars().count() <= 80),
            "{text}"
        );
        assert!(text.lines().skip(1).all(|l| l.starts_with("        word")), "{text}");
    }
}
