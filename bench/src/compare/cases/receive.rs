//! Receiving as much as there is.

use std::time::Duration;

use crate::compare::lab::{LOAD_CPU, MEASURED_CPU, Side, VA, VB, ip_text, mac_text};
use crate::compare::peers;
use crate::compare::program::{Program, number_after, pause, words};
use crate::compare::xdp::Counter;
use crate::compare::{
    Case, Class, Column, Contender, Ground, Load, Rule, Sample, Target, frame_loads,
};

const TEXT: &str = "Frames come from live-frame test runs of an XDP program in the kernel, on CPU 0, \
where the kernel's receive path runs too; the receiver spins on CPU 1. `Mpps` is what reached the \
program, over the time from the first to the last frame sent; `lost` the share that did not. \
`ns/frame` is the time (TSC) of those turns of the receiver's loop that brought frames, by their frames: \
from the call into the library to the end of the handler, which reads length and first word: what the \
frame in the middle cost, and `mean` of all of them, with what interrupts and the host took of the CPU in \
between. testpmd tells the mean only, and is compared by that.";

/// Frames to whoever runs in namespace B, to a port where nobody listens unless it is a socket's.
pub(super) const PORT: u16 = 9000;

pub(super) fn cases() -> Vec<Case> {
    vec![afxdp(), afpacket(), udp()]
}

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::new("mpps", "Mpps", 2),
        Column::new("lost", "lost %", 1),
        Column::new("ns", "ns/frame", 1),
        Column::new("mean", "mean", 1),
    ]
}

/// The generator's own limit: frames dropped by an XDP program at once.
fn bound() -> Contender {
    Contender::new("XDP_DROP in the kernel", Class::Bound, |ground, load| {
        let counter = ground.lab.inside(Side::B, || Counter::attach(VB.interface))?;
        let sent = generate(ground, load, "other")?;
        let got = counter.read().map_err(|e| e.to_string())?.0 as f64;
        let mut sample = rates(&sent, got);
        sample.insert("offered", sent["mpps"]);
        Ok(sample)
    })
}

/// Runs the generator for the time of a load.
///
/// Frames go to `vb`'s own address, or to another station's: those the kernel's stack drops at
/// once after the packet sockets have seen them.
pub(super) fn generate(
    ground: &Ground<'_>,
    load: &Load,
    to: &str,
) -> Result<std::collections::BTreeMap<String, f64>, String> {
    generate_at(ground, load, to, None)
}

/// As [`generate`], at a rate.
pub(super) fn generate_at(
    ground: &Ground<'_>,
    load: &Load,
    to: &str,
    pps: Option<f64>,
) -> Result<std::collections::BTreeMap<String, f64>, String> {
    let mac = if to == "vb" { mac_text(VB.mac) } else { "02:00:00:00:20:00".into() };
    let seconds = ground.time.as_secs_f64().to_string();
    let program = peers::ours("generate")?;
    let mut words_of = vec![program, VA.interface.into(), mac, load.word(), seconds];
    words_of.extend(pps.map(|pps| pps.to_string()));
    let said =
        Program::new(Side::A, LOAD_CPU, words_of).says_nothing().start(ground.lab)?.wait()?;
    let all = words(&said).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let all: std::collections::BTreeMap<String, f64> = all;
    // Its clock is read every 4096th frame.
    if all.get("frames").is_none_or(|frames| *frames < 16384.0) {
        return Err(format!("the generator could hardly send: {}", said.trim()));
    }
    Ok(all)
}

/// Rate and loss of a receiver that got so many of what was sent.
fn rates(sent: &std::collections::BTreeMap<String, f64>, got: f64) -> Sample {
    Sample::from([
        ("mpps", got / sent["seconds"] / 1e6),
        ("lost", (1.0 - got / sent["frames"]).max(0.0) * 100.0),
    ])
}

/// A receiver that says `ready`, and at its end `frames=` and `frame_ns=`.
fn loop_of(
    name: &'static str,
    class: Class,
    to: &'static str,
    words_of: impl Fn() -> Result<Vec<String>, String> + 'static,
) -> Contender {
    Contender::new(name, class, move |ground, load| {
        let receiver = Program::new(Side::B, MEASURED_CPU, words_of()?).start(ground.lab)?;
        let sent = generate(ground, load, to)?;
        pause(Duration::from_millis(30))?;
        let said = receiver.stop()?;
        let got = words(&said);
        let frames = *got.get("frames").ok_or_else(|| format!("no result: {said}"))?;
        let mut sample = rates(&sent, frames);
        let costs = [("ns", "frame_ns"), ("mean", "mean_ns")];
        sample.extend(costs.into_iter().filter_map(|(key, word)| Some((key, *got.get(word)?))));
        Ok(sample)
    })
}

/// Our own loop on a port.
pub(super) fn ours(name: &'static str, to: &'static str, uri: &'static str) -> Contender {
    loop_of(name, Class::Ours, to, move || {
        Ok(vec![peers::ours("loops")?, "receive".into(), uri.into()])
    })
}

/// A loop in C.
fn twin(name: &'static str, to: &'static str, words_of: &'static [&'static str]) -> Contender {
    loop_of(name, Class::Twin, to, move || {
        let mut all = vec![peers::twin(words_of[0])?, "receive".into()];
        all.extend(words_of[1..].iter().map(|&word| word.into()));
        Ok(all)
    })
}

/// A loop on somebody else's crate.
fn rust_peer(name: &'static str, program: &'static str) -> Contender {
    loop_of(name, Class::Peer, "other", move || {
        Ok(vec![peers::rust_peer(program)?, "receive".into(), VB.interface.into()])
    })
}

/// DPDK's testpmd, which counts its own cycles.
fn testpmd(name: &'static str, device: &'static str) -> Contender {
    Contender::new(name, Class::Peer, move |ground, load| {
        let mut receiver = super::testpmd(&[device], "rxonly")?.start(ground.lab)?;
        receiver.tell("start")?;
        pause(Duration::from_millis(100))?;
        let sent = generate(ground, load, "other")?;
        pause(Duration::from_millis(30))?;
        receiver.tell("stop")?;
        let said = receiver.stop()?;
        let frames = number_after(&said, "RX-packets").ok_or("no count of frames")?;
        let mut sample = rates(&sent, frames);
        let cycles = number_after(&said, "CPU cycles/packet");
        if let Some((cycles, mhz)) = cycles.zip(number_after(&said, ") at ")) {
            sample.insert("mean", cycles * 1e3 / mhz);
        }
        Ok(sample)
    })
}

fn afxdp() -> Case {
    const OURS: &str = "linerate afxdp";
    const TWIN: &str = "C loop, AF_XDP";
    const RIVALS: [&str; 4] = [TWIN, "xdpilone", "xsk-rs", "testpmd net_af_xdp"];
    Case {
        name: "receive-afxdp",
        title: "Receiving by AF_XDP",
        text: TEXT,
        columns: columns(),
        loads: frame_loads(),
        contenders: vec![
            bound(),
            ours(OURS, "other", "afxdp:vb?mode=native&stamps=off&marks=off"),
            twin(TWIN, "other", &["afxdp", "vb", "native"]),
            rust_peer("xdpilone", "xdpilone"),
            rust_peer("xsk-rs", "xsk_rs"),
            testpmd("testpmd net_af_xdp", "net_af_xdp0,iface=vb"),
            ours("linerate afxdp, defaults", "other", "afxdp:vb"),
            ours("linerate afxdp, generic", "other", "afxdp:vb?mode=generic&stamps=off&marks=off"),
            twin("C loop, AF_XDP generic", "other", &["afxdp", "vb", "generic"]),
        ],
        targets: vec![
            Target::new(
                "rate at or above the best peer's",
                OURS,
                &RIVALS,
                "mpps",
                Rule::AtLeast(1.0),
            ),
            Target::new(
                "CPU a frame at most 1.02 × the C loop's",
                OURS,
                &[TWIN],
                "ns",
                Rule::AtMost(1.02),
            ),
            Target::new(
                "CPU a frame at most 0.9 × xsk-rs's",
                OURS,
                &["xsk-rs"],
                "ns",
                Rule::AtMost(0.9),
            ),
            Target::new(
                "CPU a frame (mean) at most 0.9 × testpmd's",
                OURS,
                &["testpmd net_af_xdp"],
                "mean",
                Rule::AtMost(0.9),
            ),
            Target::new(
                "generic mode: rate at or above the C loop's",
                "linerate afxdp, generic",
                &["C loop, AF_XDP generic"],
                "mpps",
                Rule::AtLeast(1.0),
            ),
        ],
    }
}

fn afpacket() -> Case {
    const OURS: &str = "linerate afpacket";
    const RINGS: [&str; 4] = ["C loop, TPACKET_V3", "libpcap", "pnet", "testpmd net_af_packet"];
    Case {
        name: "receive-afpacket",
        title: "Receiving by AF_PACKET",
        text: "As above; the frames are another station's, which the kernel's stack drops after the \
               packet socket has seen them. For programs without a ring `ns/frame` includes their \
               system calls, which copy the frame.",
        columns: columns(),
        loads: frame_loads(),
        contenders: vec![
            bound(),
            ours(OURS, "other", "afpacket:vb"),
            ours("linerate afpacket, ring=frames", "other", "afpacket:vb?ring=frames"),
            twin("C loop, TPACKET_V3", "other", &["afpacket", "vb", "ring"]),
            twin("C loop, recvmmsg", "other", &["afpacket", "vb", "recvmmsg"]),
            loop_of("libpcap", Class::Peer, "other", || {
                Ok(vec![peers::twin("pcap")?, "receive".into(), VB.interface.into()])
            }),
            rust_peer("pnet", "pnet"),
            testpmd("testpmd net_af_packet", super::AF_PACKET_VB),
        ],
        targets: vec![Target::new(
            "1.2 × the rate of the best peer with a ring",
            OURS,
            &RINGS,
            "mpps",
            Rule::AtLeast(1.2),
        )],
    }
}

fn udp() -> Case {
    const OURS: &str = "linerate udp";
    const LEAN: &str = "linerate udp, stamps=off";
    const TWIN: &str = "C loop, recvmmsg";
    let ours = |name, uri: &'static str| {
        loop_of(name, Class::Ours, "vb", move || {
            let flow = format!("udp:{}:{PORT}", ip_text(VB.ip));
            Ok(vec![peers::ours("loops")?, "receive".into(), uri.into(), flow])
        })
    };
    let target = |ours, text: &str| Target::new(text, ours, &[TWIN], "mpps", Rule::AtLeast(1.0));
    Case {
        name: "receive-udp",
        title: "Receiving by UDP sockets",
        text: "As above, to a socket; `ns/frame` includes the system calls. The C loop asks for payloads \
               alone. linerate also shows who sent each datagram, when it came and what was lost \
               before it; the row with `stamps=off` does without the time. All have 32 MiB to receive into.",
        columns: columns(),
        loads: frame_loads(),
        contenders: vec![
            bound(),
            ours(OURS, "udp:vb?rcvbuf=33554432"),
            ours(LEAN, "udp:vb?stamps=off&rcvbuf=33554432"),
            twin(TWIN, "vb", &["udp", "10.98.1.2", "9000"]),
        ],
        targets: vec![
            target(OURS, "rate at or above the recvmmsg loop's"),
            target(LEAN, "without stamps: rate at or above the recvmmsg loop's"),
        ],
    }
}
