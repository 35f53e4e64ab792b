//! The CPUs that receive and send.

use linerate::Interface;

use super::args::{Profile, list};
use super::finding::{Finding, Verdict};
use super::machine::Machine;

const CPUS: &str = "/sys/devices/system/cpu";
/// Waking up from anything deeper than this takes longer than a frame of 1500 bytes at 1 Gb/s.
const SHALLOW_US: u64 = 10;

/// Every check of one CPU of those `chosen`. `cards`: the interfaces that they serve.
pub(super) fn look(
    machine: &Machine,
    cpu: u32,
    chosen: &[u32],
    profile: Profile,
    cards: &[Interface],
) -> Vec<Finding> {
    let area = format!("cpu {cpu}");
    let dir = format!("{CPUS}/cpu{cpu}");
    let online = machine.text(&format!("{CPUS}/online")).and_then(|text| list(&text));
    if online.is_some_and(|online| !online.contains(&cpu)) {
        let finding = Finding::new(area, "online", "nothing runs here", format!("{CPUS}/online"));
        return vec![
            finding
                .seen(Verdict::Fail, "no such CPU, or offline")
                .fix(format!("echo 1 > {dir}/online")),
        ];
    }
    let latency = profile == Profile::Latency;
    let severe = if latency { Verdict::Fail } else { Verdict::Warn };
    let mut all = vec![governor(machine, &area, &dir), idle_states(machine, &area, &dir, severe)];
    all.extend(siblings(machine, &area, &dir, cpu, latency));
    all.extend(isolation(machine, &area, cpu, chosen, latency));
    all.push(interrupts(machine, &area, cpu, chosen, severe));
    for card in cards {
        all.extend(node(machine, &area, cpu, card));
    }
    all
}

fn governor(machine: &Machine, area: &str, dir: &str) -> Finding {
    let at = format!("{dir}/cpufreq/scaling_governor");
    let why = "a CPU that saves power takes ms to speed up when frames come";
    let finding = Finding::new(area, "governor", why, &at);
    match machine.text(&at) {
        Some(governor) if governor == "performance" => finding.seen(Verdict::Ok, governor),
        Some(governor) => {
            finding.seen(Verdict::Warn, governor).fix(format!("echo performance > {at}"))
        }
        None => finding.seen(Verdict::Ok, "no frequency scaling here"),
    }
}

fn idle_states(machine: &Machine, area: &str, dir: &str, severe: Verdict) -> Finding {
    let at = format!("{dir}/cpuidle");
    let finding = Finding::new(area, "c_states", "a sleeping CPU wakes up this late", &at);
    let states = machine.names(&at);
    let enabled = states.iter().filter_map(|state| {
        let of = |file: &str| machine.text(&format!("{at}/{state}/{file}"));
        let us = of("latency")?.parse::<u64>().ok()?;
        (of("disable").as_deref() != Some("1")).then(|| (us, of("name").unwrap_or_default()))
    });
    match enabled.max() {
        Some((us, name)) if us > SHALLOW_US => finding
            .seen(severe, format!("{name} takes {us} µs to leave"))
            .fix(format!("cpupower idle-set -D {SHALLOW_US}")),
        Some((us, name)) => finding.seen(Verdict::Ok, format!("{name}, {us} µs")),
        None => finding.seen(Verdict::Ok, "none that the kernel knows of"),
    }
}

fn siblings(machine: &Machine, area: &str, dir: &str, cpu: u32, latency: bool) -> Option<Finding> {
    let at = format!("{dir}/topology/thread_siblings_list");
    let others: Vec<u32> =
        list(&machine.text(&at)?)?.into_iter().filter(|other| *other != cpu).collect();
    let finding = Finding::new(area, "smt", "a hyperthread beside it takes half of the core", at);
    let Some(other) = others.first() else {
        return Some(finding.seen(Verdict::Ok, "has its core to itself"));
    };
    let verdict = if latency { Verdict::Warn } else { Verdict::Ok };
    Some(
        finding
            .seen(verdict, format!("shares its core with CPU {other}"))
            .fix(format!("echo 0 > {CPUS}/cpu{other}/online")),
    )
}

fn isolation(
    machine: &Machine,
    area: &str,
    cpu: u32,
    chosen: &[u32],
    latency: bool,
) -> Vec<Finding> {
    let verdict = |inside: bool| match (inside, latency) {
        (true, _) => Verdict::Ok,
        (false, true) => Verdict::Warn,
        (false, false) => Verdict::Ok,
    };
    let within = |text: Option<String>| {
        // An isolcpus list may begin with words: domain,managed_irq,3.
        let text = text.unwrap_or_default();
        let numbers: Vec<_> =
            text.split(',').filter(|part| part.starts_with(|c: char| c.is_ascii_digit())).collect();
        list(&numbers.join(",")).is_some_and(|cpus| cpus.contains(&cpu))
    };
    // One command for all of them: the last of two settings on the line would win.
    let all = chosen.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let boot = format!(
        "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&isolcpus={all} nohz_full={all} rcu_nocbs={all} /' \
         /etc/default/grub && update-grub # and boot"
    );
    let isolated = format!("{CPUS}/isolated");
    let ticks = format!("{CPUS}/nohz_full");
    let line = "/proc/cmdline".to_owned();
    [
        ("isolcpus", within(machine.text(&isolated)), isolated, "other programs run here too"),
        (
            "nohz_full",
            within(machine.text(&ticks)),
            ticks,
            "the timer interrupts it up to 1000 times a second",
        ),
        (
            "rcu_nocbs",
            within(machine.boot_option("rcu_nocbs")),
            line,
            "the kernel frees its memory here",
        ),
    ]
    .into_iter()
    .map(|(check, inside, at, why)| {
        let finding = Finding::new(area, check, why, at);
        finding.seen(verdict(inside), if inside { "yes" } else { "no" }).fix(boot.clone())
    })
    .collect()
}

/// Interrupts that may be served here.
fn interrupts(machine: &Machine, area: &str, cpu: u32, chosen: &[u32], severe: Verdict) -> Finding {
    const AT: &str = "/proc/irq";
    let finding = Finding::new(
        area,
        "irqs",
        "each interrupt takes the CPU away from the loop for some µs",
        "/proc/irq/*/smp_affinity_list",
    );
    let table = machine.text("/proc/interrupts").unwrap_or_default();
    let used = |irq: &str| {
        let row = table.lines().find(|line| line.trim_start().starts_with(&format!("{irq}:")));
        // A column of counts for each CPU, then what the interrupt is of.
        row.is_some_and(|row| {
            row.split_whitespace().skip(1).any(|word| word.parse::<u64>().is_ok_and(|n| n > 0))
        })
    };
    let numbers = machine.names(AT).into_iter().filter(|name| name.parse::<u32>().is_ok());
    let mut denied = false;
    let here: Vec<String> = numbers
        .filter(|irq| {
            let text = match machine.read(&format!("{AT}/{irq}/smp_affinity_list")) {
                super::machine::Read::Text(text) => text,
                super::machine::Read::Denied => {
                    denied = true;
                    return false;
                }
                super::machine::Read::Missing => return false,
            };
            list(&text).is_some_and(|cpus| cpus.contains(&cpu)) && used(irq)
        })
        .collect();
    if denied && here.is_empty() {
        return finding.seen(Verdict::Unknown, "needs root");
    }
    if here.is_empty() {
        return finding.seen(Verdict::Ok, "none may run here");
    }
    let first: Vec<&str> = here.iter().take(4).map(String::as_str).collect();
    let more = if here.len() > 4 { ", …" } else { "" };
    let others = machine.text(&format!("{CPUS}/online")).and_then(|text| list(&text));
    let others: Vec<String> = others
        .unwrap_or_default()
        .iter()
        .filter(|n| !chosen.contains(n))
        .map(u32::to_string)
        .collect();
    let seen = format!("{} in use may run here ({}{more})", here.len(), first.join(", "));
    if others.is_empty() {
        return finding.seen(Verdict::Warn, format!("{seen}; every CPU is chosen"));
    }
    let verdict = if severe == Verdict::Fail { Verdict::Warn } else { Verdict::Ok };
    finding.seen(verdict, seen).fix(format!(
        "for i in {}; do echo {} > /proc/irq/$i/smp_affinity_list; done",
        here.join(" "),
        others.join(",")
    ))
}

fn node(machine: &Machine, area: &str, cpu: u32, card: &Interface) -> Option<Finding> {
    let wanted = card.numa_node?;
    let at = format!("/sys/devices/system/node/node{wanted}/cpulist");
    let near = list(&machine.text(&at)?)?.contains(&cpu);
    let finding = Finding::new(area, "numa", "every frame crosses from socket to socket", &at);
    let (name, verdict) = (&card.name, if near { Verdict::Ok } else { Verdict::Fail });
    let seen = format!("{} node {wanted} of {name}", if near { "on" } else { "not on" });
    Some(finding.seen(verdict, seen).fix(format!("cat {at} # choose one of these CPUs")))
}

#[cfg(test)]
mod tests {
    use super::super::machine::Copy;
    use super::*;

    fn verdicts(copy: &Copy, cpu: u32, profile: Profile) -> Vec<(String, Verdict, String)> {
        let found = look(&Machine::at(&copy.0), cpu, &[cpu], profile, &[]);
        let row = |f: Finding| {
            (f.check().to_owned(), f.verdict, f.command().unwrap_or_default().to_owned())
        };
        found.into_iter().map(row).collect()
    }

    fn of<'v>(all: &'v [(String, Verdict, String)], check: &str) -> &'v (String, Verdict, String) {
        all.iter().find(|(name, ..)| name == check).unwrap()
    }

    #[test]
    fn a_cpu_out_of_the_box_is_called_so() {
        let copy = Copy::new(
            "plain",
            &[
                ("/sys/devices/system/cpu/online", "0-3"),
                ("/sys/devices/system/cpu/isolated", ""),
                ("/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave"),
                ("/sys/devices/system/cpu/cpu3/cpuidle/state0/latency", "0"),
                ("/sys/devices/system/cpu/cpu3/cpuidle/state0/name", "POLL"),
                ("/sys/devices/system/cpu/cpu3/cpuidle/state1/latency", "133"),
                ("/sys/devices/system/cpu/cpu3/cpuidle/state1/name", "C6"),
                ("/sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "1,3"),
                ("/proc/irq/143/smp_affinity_list", "0-3"),
                ("/proc/irq/144/smp_affinity_list", "0"),
                ("/proc/irq/145/smp_affinity_list", "0-3"),
                (
                    "/proc/interrupts",
                    "      CPU0 CPU3\n 143:  5  0 eth2-3\n 144: 1 0 x\n 145: 0 0 y",
                ),
                ("/proc/cmdline", "quiet"),
            ],
        );
        let all = verdicts(&copy, 3, Profile::Latency);
        assert_eq!(of(&all, "governor").1, Verdict::Warn);
        assert_eq!(of(&all, "c_states").1, Verdict::Fail);
        assert!(of(&all, "smt").2.contains("cpu1/online"), "{all:?}");
        assert_eq!(of(&all, "isolcpus").1, Verdict::Warn);
        let irqs = of(&all, "irqs");
        assert_eq!(irqs.1, Verdict::Warn);
        assert!(irqs.2.starts_with("for i in 143; do echo 0,1,2 >"), "{irqs:?}");
        // What makes frames late does not lose them.
        let all = verdicts(&copy, 3, Profile::Capture);
        assert_eq!(of(&all, "smt").1, Verdict::Ok);
        assert_eq!(of(&all, "c_states").1, Verdict::Warn);
        assert_eq!(verdicts(&copy, 9, Profile::Capture)[0].1, Verdict::Fail, "there is no CPU 9");
    }

    #[test]
    fn a_cpu_that_was_set_apart_passes() {
        let copy = Copy::new(
            "tuned",
            &[
                ("/sys/devices/system/cpu/online", "0-3"),
                ("/sys/devices/system/cpu/isolated", "2-3"),
                ("/sys/devices/system/cpu/nohz_full", "2-3"),
                ("/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
                ("/sys/devices/system/cpu/cpu3/cpuidle/state1/latency", "133"),
                ("/sys/devices/system/cpu/cpu3/cpuidle/state1/disable", "1"),
                ("/sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3"),
                ("/proc/irq/143/smp_affinity_list", "0"),
                ("/proc/interrupts", " 143: 5 0 eth2-3"),
                ("/proc/cmdline", "quiet isolcpus=2-3 rcu_nocbs=2-3"),
            ],
        );
        let all = verdicts(&copy, 3, Profile::Latency);
        assert!(all.iter().all(|(_, verdict, _)| *verdict == Verdict::Ok), "{all:?}");
    }
}
