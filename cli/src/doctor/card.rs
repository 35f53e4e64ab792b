//! Network cards: their drivers' settings, their clocks, and which backends they allow.

use linerate::clock::kernel_clock;
use linerate::{Interface, PortInfo, Verdict as Fit};

use super::args::Profile;
use super::finding::{Finding, Verdict};
use super::machine::Machine;
use super::phc;

/// Every check of one card.
pub(super) fn look(machine: &Machine, port: &PortInfo, profile: Profile) -> Vec<Finding> {
    let card = &port.interface;
    let mut all = vec![link(card)];
    all.extend(settings(card, profile));
    all.extend(card.driver_settings().ptp_clock.map(|n| {
        let tai_s = kernel_clock().map_or(0, |clock| clock.tai_offset_s);
        phc::look(&card.name, n, tai_s)
    }));
    all.extend(bus(machine, card));
    all.extend(reverse_path(machine, card));
    all.push(losses(machine, card));
    all.extend(port.backends.iter().map(|candidate| {
        let why = "what linerate can do with this interface";
        let finding = Finding::new(&card.name, "backend", why, "linerate ports");
        let word = if candidate.verdict == Fit::Works { "yes" } else { "no" };
        // What does not fit here is no fault of the machine; the remedy is in the reason.
        let verdict =
            if candidate.reason.starts_with("needs CAP") { Verdict::Unknown } else { Verdict::Ok };
        finding.seen(verdict, format!("{}: {word}, {}", candidate.backend, candidate.reason))
    }));
    all
}

fn link(card: &Interface) -> Finding {
    let why = "nothing arrives without a link";
    let finding = Finding::new(&card.name, "link", why, format!("/sys/class/net/{}", card.name));
    let speed = card.speed_mbps.map_or(String::new(), |mbps| format!(", {mbps} Mb/s"));
    let driver = card.driver.as_deref().unwrap_or("no driver");
    match (card.up, card.carrier) {
        (true, true) => finding.seen(Verdict::Ok, format!("up{speed}, MTU {}, {driver}", card.mtu)),
        (true, false) => finding.seen(Verdict::Fail, "no carrier: check the cable and the switch"),
        (false, _) => {
            finding.seen(Verdict::Fail, "down").fix(format!("ip link set {} up", card.name))
        }
    }
}

fn settings(card: &Interface, profile: Profile) -> Vec<Finding> {
    let name = &card.name;
    let set = card.driver_settings();
    let latency = profile == Profile::Latency;
    let mut all = Vec::new();
    let of =
        |check, why, letter| Finding::new(name, check, why, format!("ethtool {letter} {name}"));
    if let Some((now, most)) = set.rx_ring {
        let verdict = if now < most && !latency { Verdict::Warn } else { Verdict::Ok };
        all.push(
            of("rx_ring", "a larger ring rides out a longer pause of the kernel", "-g")
                .seen(verdict, format!("{now} of {most}"))
                .fix(format!("ethtool -G {name} rx {most}")),
        );
    }
    if let Some(us) = set.rx_coalesce_us {
        let adaptive = set.adaptive_coalescing == Some(true);
        let verdict = if latency && (us > 0 || adaptive) { Verdict::Warn } else { Verdict::Ok };
        let word = if adaptive { ", adaptive" } else { "" };
        all.push(
            of("coalescing", "the interrupt waits this long for more frames", "-c")
                .seen(verdict, format!("{us} µs{word}"))
                .fix(format!("ethtool -C {name} adaptive-rx off rx-usecs 0")),
        );
    }
    if let Some((rx, tx)) = set.pause {
        let on = |on| if on { "on" } else { "off" };
        all.push(
            of(
                "pause",
                "pause frames move the loss to the switch, where no counter here sees it",
                "-a",
            )
            .seen(
                if tx { Verdict::Warn } else { Verdict::Ok },
                format!("rx {}, tx {}", on(rx), on(tx)),
            )
            .fix(format!("ethtool -A {name} autoneg off rx off tx off")),
        );
    }
    for (check, on, verdict, flag) in
        [("lro", set.lro, Verdict::Fail, "lro"), ("gro", set.gro, Verdict::Warn, "gro")]
    {
        let Some(on) = on else { continue };
        all.push(
            of(check, "merged frames are not what was on the wire, nor when", "-k")
                .seen(if on { verdict } else { Verdict::Ok }, if on { "on" } else { "off" })
                .fix(format!("ethtool -K {name} {flag} off")),
        );
    }
    if let Some((now, most)) = set.rx_queues {
        let why = "flows spread over this many queues; AF_XDP serves them one by one";
        all.push(of("queues", why, "-l").seen(Verdict::Ok, format!("{now} of {most}")));
    }
    if let Some(on) = set.ntuple {
        let why = "rules that steer a flow to a queue in the card";
        all.push(of("ntuple", why, "-k").seen(Verdict::Ok, if on { "on" } else { "off" }));
    }
    if set.driver_version.is_some() || set.firmware.is_some() {
        let version = set.driver_version.as_deref().unwrap_or("unknown");
        let firmware = set.firmware.as_deref().unwrap_or("unknown");
        let why = "the first thing that a vendor's support asks for";
        all.push(
            of("driver", why, "-i")
                .seen(Verdict::Ok, format!("version {version}, firmware {firmware}")),
        );
    }
    if let Some(able) = set.hardware_stamps {
        let clock = set.ptp_clock.map_or("no clock".into(), |n| format!("/dev/ptp{n}"));
        let word = if able { "can" } else { "cannot" };
        let why = "stamps of the kernel tell when it looked, not when the frame came";
        all.push(
            of("stamps", why, "-T").seen(Verdict::Ok, format!("the card {word} stamp, {clock}")),
        );
    }
    all
}

fn bus(machine: &Machine, card: &Interface) -> Option<Finding> {
    let dir = format!("/sys/class/net/{}/device", card.name);
    let of = |file: &str| machine.text(&format!("{dir}/{file}"));
    let (speed, width) = (of("current_link_speed")?, of("current_link_width")?);
    let (most_speed, most_width) = (of("max_link_speed")?, of("max_link_width")?);
    let less = speed != most_speed || width != most_width;
    let why = "a slower slot than the card could use drops frames at full rate";
    let seen = format!("x{width} at {speed} of x{most_width} at {most_speed}");
    let finding = Finding::new(&card.name, "pcie", why, format!("{dir}/current_link_*"));
    Some(finding.seen(if less { Verdict::Warn } else { Verdict::Ok }, seen))
}

fn reverse_path(machine: &Machine, card: &Interface) -> Option<Finding> {
    let key = |name: &str| format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
    let at = key(&card.name);
    let n = machine.number(&at)?.max(machine.number(&key("all")).unwrap_or(0));
    let why = "strict: multicast is dropped from senders that are routed over another interface";
    Some(
        Finding::new(&card.name, "rp_filter", why, at)
            .seen(
                if n == 1 { Verdict::Warn } else { Verdict::Ok },
                match n {
                    0 => "off",
                    1 => "strict",
                    _ => "loose",
                },
            )
            // The larger of the two counts.
            .fix(format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", card.name)),
    )
}

/// What it has lost since it was made.
fn losses(machine: &Machine, card: &Interface) -> Finding {
    const COUNTERS: [&str; 5] =
        ["rx_missed_errors", "rx_fifo_errors", "rx_over_errors", "rx_crc_errors", "tx_errors"];
    let dir = format!("/sys/class/net/{}/statistics", card.name);
    let lost: Vec<String> = COUNTERS
        .iter()
        .filter_map(|name| Some((name, machine.number(&format!("{dir}/{name}"))?)))
        .filter(|(_, n)| *n > 0)
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    let why = "frames lost since the interface came up; `doctor --watch 10s` says if it goes on";
    let finding = Finding::new(&card.name, "losses", why, dir);
    if lost.is_empty() {
        finding.seen(Verdict::Ok, "none counted")
    } else {
        finding.seen(Verdict::Warn, lost.join(", "))
    }
}

/// The host's clock, which kernel stamps are read from.
pub(super) fn clock(machine: &Machine) -> Vec<Finding> {
    let keepers: Vec<&str> = ["chronyd", "ntpd", "ntpsec", "systemd-timesyn", "ptp4l", "phc2sys"]
        .into_iter()
        .filter(|program| machine.runs(program))
        .collect();
    let by = if keepers.is_empty() { "nobody seen".into() } else { keepers.join(", ") };
    let synced = Finding::new(
        "clock",
        "synchronised",
        "stamps of two machines cannot be compared",
        "adjtimex",
    );
    let tai = Finding::new(
        "clock",
        "tai_offset",
        "cards on PTP count TAI: without the offset their stamps are 37 s off",
        "adjtimex",
    );
    let Some(clock) = kernel_clock() else {
        return vec![synced.seen(Verdict::Unknown, "the kernel does not say")];
    };
    let word = if clock.synced { "yes" } else { "no" };
    let off = if clock.synced {
        format!(", at most {} µs off", clock.max_error_us)
    } else {
        String::new()
    };
    let hardware = keepers.iter().any(|keeper| matches!(*keeper, "ptp4l" | "phc2sys"));
    vec![
        synced
            .seen(
                if clock.synced { Verdict::Ok } else { Verdict::Warn },
                format!("{word}{off}, kept by {by}"),
            )
            .fix("apt install chrony # or ptp4l and phc2sys, where the network has PTP"),
        tai.seen(
            if hardware && clock.tai_offset_s == 0 { Verdict::Warn } else { Verdict::Ok },
            format!("{} s", clock.tai_offset_s),
        ),
    ]
}
