//! What holds for the whole machine: its kernel and its memory.

use super::args::Profile;
use super::finding::{Finding, Verdict};
use super::machine::{Machine, Read};

/// A number under /proc/sys that should be at least so much.
struct AtLeast {
    check: &'static str,
    key: &'static str,
    least: u64,
    /// For whom it matters; `None`: everybody.
    only: Option<Profile>,
    why: &'static str,
}

const NUMBERS: &[AtLeast] = &[
    AtLeast {
        check: "rmem_max",
        key: "net.core.rmem_max",
        least: 8 << 20,
        only: None,
        why: "the largest buffer that a UDP socket may ask for rides out a pause of the reader",
    },
    AtLeast {
        check: "netdev_budget",
        key: "net.core.netdev_budget",
        least: 300,
        only: Some(Profile::Capture),
        why: "frames that one turn of the softirq may take; a smaller one leaves the ring full",
    },
    AtLeast {
        check: "netdev_max_backlog",
        key: "net.core.netdev_max_backlog",
        least: 1000,
        only: Some(Profile::Capture),
        why: "frames that wait for a CPU (RPS, veth); more are dropped",
    },
    AtLeast {
        check: "busy_poll",
        key: "net.core.busy_poll",
        least: 1,
        only: Some(Profile::Latency),
        why: "without it a sleeping UDP or AF_XDP reader waits for the interrupt",
    },
    AtLeast {
        check: "bpf_jit",
        key: "net.core.bpf_jit_enable",
        least: 1,
        only: None,
        why: "XDP programs and packet filters are interpreted without it",
    },
    AtLeast {
        check: "stat_interval",
        key: "vm.stat_interval",
        least: 10,
        only: Some(Profile::Latency),
        why: "every so many seconds each CPU is interrupted to count its memory",
    },
];

/// A switch under /proc/sys that should be off.
const OFF: &[(&str, &str, Profile, &str)] = &[
    ("nmi_watchdog", "kernel.nmi_watchdog", Profile::Latency, "interrupts every CPU"),
    ("numa_balancing", "kernel.numa_balancing", Profile::Latency, "takes pages away to move them"),
    ("timer_migration", "kernel.timer_migration", Profile::Latency, "moves timers between CPUs"),
];

fn path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}

/// `warn` for the profile it matters to, fine for the other.
fn warn_if(bad: bool, matters: bool) -> Verdict {
    if bad && matters { Verdict::Warn } else { Verdict::Ok }
}

pub(super) fn look(machine: &Machine, profile: Profile) -> Vec<Finding> {
    let mut all = vec![clocksource(machine)];
    for AtLeast { check, key, least, only, why } in NUMBERS {
        let finding = Finding::new("kernel", check, why, path(key));
        all.push(match machine.read(&path(key)) {
            Read::Text(text) => {
                let n = text.parse::<u64>().unwrap_or(0);
                let matters = only.is_none_or(|only| only == profile);
                let wanted = (*least).max(if *key == "net.core.busy_poll" { 50 } else { 0 });
                finding
                    .seen(warn_if(n < *least, matters), text)
                    .fix(format!("sysctl -w {key}={wanted}"))
            }
            Read::Denied => finding.seen(Verdict::Unknown, "needs root"),
            Read::Missing => finding.seen(Verdict::Ok, "not in this kernel or network namespace"),
        });
    }
    for (check, key, only, why) in OFF {
        let finding = Finding::new("kernel", check, why, path(key));
        let Some(n) = machine.number(&path(key)) else { continue };
        let on = if n > 0 { "on" } else { "off" };
        all.push(
            finding.seen(warn_if(n > 0, *only == profile), on).fix(format!("sysctl -w {key}=0")),
        );
    }
    all.extend(igmp(machine));
    all.push(taint(machine));
    all.push(softnet(machine));
    all.push(mitigations(machine, profile));
    all.push(balancer(machine));
    all.extend(memory(machine, profile));
    all
}

fn clocksource(machine: &Machine) -> Finding {
    const AT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let finding = Finding::new(
        "kernel",
        "clocksource",
        "reading any other clock costs about a microsecond and may be a system call",
        AT,
    );
    match machine.text(AT) {
        // In a virtual machine the paravirtual clock is the right one.
        Some(clock) if clock == "tsc" || clock == "kvm-clock" || clock.starts_with("hyperv") => {
            finding.seen(Verdict::Ok, clock)
        }
        Some(clock) => finding.seen(Verdict::Warn, clock).fix(format!("echo tsc > {AT}")),
        None => finding,
    }
}

/// Limits that linerate lives with: it spreads its joins over sockets. Other programs may not.
fn igmp(machine: &Machine) -> Vec<Finding> {
    const LIMITS: [(&str, &str); 2] = [
        ("igmp_max_memberships", "joins that one socket may hold; linerate uses several sockets"),
        ("igmp_max_msf", "senders that one socket may name for a group; linerate uses several"),
    ];
    let limit = |(check, why)| {
        let at = path(&format!("net.ipv4.{check}"));
        let n = machine.number(&at)?;
        Some(Finding::new("kernel", check, why, at).seen(Verdict::Ok, n.to_string()))
    };
    LIMITS.into_iter().filter_map(limit).collect()
}

/// Signs that this kernel is not quite itself.
fn taint(machine: &Machine) -> Finding {
    const AT: &str = "/proc/sys/kernel/tainted";
    /// Bits, what they mean, and whether the kernel is damaged.
    const FLAGS: [(u32, &str, bool); 9] = [
        (0, "proprietary module", false),
        (1, "module forced in", true),
        (4, "machine check", true),
        (5, "bad page", true),
        (7, "it died once (oops)", true),
        (9, "kernel warning", true),
        (12, "out-of-tree module", false),
        (13, "unsigned module", false),
        (14, "soft lockup", true),
    ];
    let why = "after an oops or a lockup no measurement means much; vendors ask for it, too";
    let finding = Finding::new("kernel", "taint", why, AT);
    let Some(bits) = machine.number(AT) else { return finding };
    let set: Vec<_> = FLAGS.into_iter().filter(|(bit, ..)| bits >> bit & 1 == 1).collect();
    let names: Vec<_> = set.iter().map(|(_, name, _)| *name).collect();
    let seen = match (bits, names.as_slice()) {
        (0, _) => "none".to_owned(),
        (_, []) => format!("{bits}"),
        (_, names) => format!("{bits}: {}", names.join(", ")),
    };
    let damaged = set.iter().any(|(.., damaged)| *damaged);
    finding
        .seen(if damaged { Verdict::Warn } else { Verdict::Ok }, seen)
        .fix("dmesg --level=emerg,alert,crit,err,warn # then update and reboot")
}

/// Losses in the backlog since boot.
fn softnet(machine: &Machine) -> Finding {
    const AT: &str = "/proc/net/softnet_stat";
    let finding = Finding::new(
        "kernel",
        "softnet",
        "frames dropped before any socket saw them, and softirq turns that ran out of budget",
        AT,
    );
    let Some(text) = machine.text(AT) else { return finding };
    let sum = |column: usize| -> u64 {
        let rows = text.lines().filter_map(|line| line.split_whitespace().nth(column));
        rows.filter_map(|word| u64::from_str_radix(word, 16).ok()).sum()
    };
    let (dropped, squeezed) = (sum(1), sum(2));
    let seen = format!("{dropped} dropped, {squeezed} turns cut short since boot");
    finding
        .seen(if dropped > 0 { Verdict::Warn } else { Verdict::Ok }, seen)
        .fix("sysctl -w net.core.netdev_max_backlog=10000 net.core.netdev_budget=600")
}

fn mitigations(machine: &Machine, profile: Profile) -> Finding {
    const AT: &str = "/sys/devices/system/cpu/vulnerabilities";
    let why = "each one makes system calls and interrupts dearer; kernel bypass hardly notices";
    let active = machine.names(AT).into_iter().filter(|name| {
        machine.text(&format!("{AT}/{name}")).is_some_and(|text| text.starts_with("Mitigation"))
    });
    let n = active.count();
    let off = machine.boot_option("mitigations").as_deref() == Some("off");
    // Whether to do without is for the owner to decide: never a failure, never a command.
    let verdict =
        if profile == Profile::Latency && n > 0 && !off { Verdict::Warn } else { Verdict::Ok };
    Finding::new("kernel", "mitigations", why, AT).seen(verdict, format!("{n} active"))
}

fn balancer(machine: &Machine) -> Finding {
    let on = machine.runs("irqbalance");
    Finding::new(
        "kernel",
        "irqbalance",
        "moves interrupts onto the CPUs that receive",
        "/proc/*/comm",
    )
    .seen(warn_if(on, true), if on { "running" } else { "not running" })
    .fix("systemctl disable --now irqbalance")
}

fn memory(machine: &Machine, profile: Profile) -> Vec<Finding> {
    let mut all = hugepages(machine);
    all.push(memlock(machine));
    const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    if let Some(mode) = machine.chosen(THP) {
        let bad = mode == "always";
        all.push(
            Finding::new(
                "memory",
                "thp",
                "the kernel stops programs to make hugepages of theirs",
                THP,
            )
            .seen(warn_if(bad, profile == Profile::Latency), mode)
            .fix(format!("echo madvise > {THP}")),
        );
    }
    let swaps =
        machine.text("/proc/swaps").map_or(0, |text| text.lines().count().saturating_sub(1));
    all.push(
        Finding::new(
            "memory",
            "swap",
            "a page that was swapped out stops its reader for ms",
            "/proc/swaps",
        )
        .seen(
            warn_if(swaps > 0, true),
            if swaps == 0 { "none".into() } else { format!("{swaps} areas") },
        )
        .fix("swapoff -a"),
    );
    const KSM: &str = "/sys/kernel/mm/ksm/run";
    if let Some(n) = machine.number(KSM) {
        all.push(
            Finding::new("memory", "ksm", "scans and unshares pages behind programs' backs", KSM)
                .seen(warn_if(n == 1, true), if n == 1 { "on" } else { "off" })
                .fix(format!("echo 2 > {KSM}")),
        );
    }
    all
}

fn hugepages(machine: &Machine) -> Vec<Finding> {
    const NODES: &str = "/sys/devices/system/node";
    let why = "ports keep frames in 2 MiB pages of the card's node; 4 KiB pages cost TLB misses";
    let nodes = machine
        .names(NODES)
        .into_iter()
        .filter(|name| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok()));
    let one = |place: &str, dir: String| {
        let finding = Finding::new("memory", "hugepages", why, format!("{dir}/free_hugepages"));
        match machine.number(&format!("{dir}/free_hugepages")) {
            Some(free) => finding
                .seen(warn_if(free == 0, true), format!("{free} of 2 MiB free {place}"))
                .fix(format!("echo 512 > {dir}/nr_hugepages")),
            None => finding.seen(Verdict::Unknown, format!("no 2 MiB pages {place}")),
        }
    };
    let all: Vec<_> = nodes
        .map(|node| {
            one(&format!("on {node}"), format!("{NODES}/{node}/hugepages/hugepages-2048kB"))
        })
        .collect();
    if all.is_empty() {
        vec![one("here", "/sys/kernel/mm/hugepages/hugepages-2048kB".into())]
    } else {
        all
    }
}

fn memlock(machine: &Machine) -> Finding {
    const AT: &str = "/proc/self/limits";
    let finding =
        Finding::new("memory", "memlock", "buffers that a card writes to must be locked", AT);
    let Some(text) = machine.text(AT) else { return finding };
    let line = text.lines().find(|line| line.starts_with("Max locked memory"));
    let Some(limit) = line.and_then(|line| line.split_whitespace().nth(3)) else { return finding };
    let bytes = limit.parse::<u64>().unwrap_or(u64::MAX);
    if bytes < 64 << 20 && may_lock(machine) {
        return finding.seen(Verdict::Ok, "no limit for this user (CAP_IPC_LOCK)");
    }
    let seen = if bytes == u64::MAX { "unlimited".into() } else { format!("{} kB", bytes >> 10) };
    finding
        .seen(warn_if(bytes < 64 << 20, true), seen)
        .fix("echo '* - memlock unlimited' >> /etc/security/limits.conf # and log in again")
}

/// Does the limit not hold for this process?
fn may_lock(machine: &Machine) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = machine.text("/proc/self/status").unwrap_or_default();
    let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let caps = caps.and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok()).unwrap_or(0);
    caps >> CAP_IPC_LOCK & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::super::machine::Copy;
    use super::*;

    #[test]
    fn limits_intervals_and_taint_are_read() {
        let copy = |taint: &str, name: &str| {
            let files = [
                ("/proc/sys/kernel/tainted", taint),
                ("/proc/sys/vm/stat_interval", "1"),
                ("/proc/sys/net/ipv4/igmp_max_memberships", "20"),
                ("/proc/sys/net/ipv4/igmp_max_msf", "10"),
            ];
            Copy::new(name, &files)
        };
        let found = |copy: &Copy, check: &str, profile| {
            let all = look(&Machine::at(&copy.0), profile);
            all.into_iter().find(|f| f.check() == check).unwrap()
        };
        let clean = copy("0", "clean");
        assert_eq!(found(&clean, "taint", Profile::Capture).verdict, Verdict::Ok);
        assert!(found(&clean, "igmp_max_msf", Profile::Capture).title().ends_with(" 10"));
        assert_eq!(found(&clean, "stat_interval", Profile::Capture).verdict, Verdict::Ok);
        let late = found(&clean, "stat_interval", Profile::Latency);
        assert_eq!(late.verdict, Verdict::Warn);
        assert_eq!(late.command(), Some("sysctl -w vm.stat_interval=10"));
        // A vendor's module alone does no harm, an oops does.
        let vendor = found(&copy("12288", "vendor"), "taint", Profile::Capture);
        assert!(vendor.verdict == Verdict::Ok && vendor.title().contains("unsigned"), "{vendor:?}");
        let died = found(&copy("4224", "died"), "taint", Profile::Capture);
        assert!(died.verdict == Verdict::Warn && died.title().contains("oops"), "{died:?}");
    }
}
