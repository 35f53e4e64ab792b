//! Sending as much as there is room for.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::compare::lab::{MEASURED_CPU, Side, VA, VB};
use crate::compare::peers;
use crate::compare::program::{Program, Quit, pause};
use crate::compare::xdp::{Bytes, Counter, IMIX};
use crate::compare::{
    Case, Class, Column, Contender, Ground, Load, Rule, Sample, Target, frame_loads,
};
use crate::frames::udp_frame;

const TEXT: &str = "The sender runs on CPU 1 as fast as it can; an XDP program at the far end counts \
frames and drops them, and the kernel runs it on the sender's CPU. Senders which can make frames \
write each anew. Nothing but the sender is the limit here.";

pub(super) fn cases() -> Vec<Case> {
    vec![afxdp(), afpacket(), udp()]
}

/// Frames a second at the far end while a program runs.
fn sender(
    name: &'static str,
    class: Class,
    program: impl Fn(&Load) -> Result<Program, String> + 'static,
) -> Contender {
    Contender::new(name, class, move |ground, load| {
        let program = program(load)?;
        let counter = ground.lab.inside(Side::B, || Counter::attach(VB.interface))?;
        let sender = program.start(ground.lab)?;
        pause(Duration::from_millis(50))?;
        let sample = rate(ground, &counter)?;
        sender.stop()?;
        Ok(sample)
    })
}

/// What a counter counts in the time of a load.
fn rate(ground: &Ground<'_>, counter: &Counter) -> Result<Sample, String> {
    let read = || counter.read().map(|(frames, _)| frames as f64).map_err(|e| e.to_string());
    let (start, before) = (Instant::now(), read()?);
    pause(ground.time)?;
    let (frames, time) = (read()? - before, start.elapsed());
    if frames == 0.0 {
        return Err("no frame arrived".into());
    }
    Ok(Sample::from([("mpps", frames / time.as_secs_f64() / 1e6)]))
}

fn program(words: impl IntoIterator<Item = impl Into<String>>) -> Program {
    Program::new(Side::A, MEASURED_CPU, words)
}

pub(super) fn ours(name: &'static str, uri: &'static str) -> Contender {
    sender(name, Class::Ours, move |load| {
        let loops = peers::ours("loops")?;
        Ok(program([loops, "send".into(), uri.into(), load.word()]))
    })
}

fn twin(name: &'static str, words: &'static [&'static str]) -> Contender {
    sender(name, Class::Twin, move |load| {
        let mut all = vec![peers::twin(words[0])?, "send".into()];
        all.extend(words[1..].iter().map(|&word| word.into()));
        all.push(load.word());
        Ok(program(all))
    })
}

fn rust_peer(name: &'static str, bin: &'static str) -> Contender {
    sender(name, Class::Peer, move |load| {
        let peer = peers::rust_peer(bin)?;
        Ok(program([peer, "send".into(), VA.interface.into(), load.word()]))
    })
}

fn testpmd(name: &'static str, device: &'static str) -> Contender {
    Contender::new(name, Class::Peer, move |ground, load| {
        let Bytes::Each(bytes) = load.bytes else {
            return Err("testpmd sends one length".into());
        };
        let counter = ground.lab.inside(Side::B, || Counter::attach(VB.interface))?;
        let program = super::testpmd(&[device], "txonly")?.with_side(Side::A);
        let mut sender = program.with(["--txpkts", &bytes.to_string()]).start(ground.lab)?;
        sender.tell("start")?;
        pause(Duration::from_millis(100))?;
        let sample = rate(ground, &counter)?;
        sender.stop()?;
        Ok(sample)
    })
}

/// Lengths of the frames, one after another.
fn lengths(load: &Load) -> Vec<usize> {
    match load.bytes {
        Bytes::Each(bytes) => vec![bytes],
        Bytes::Mix => {
            IMIX.iter().flat_map(|(times, bytes)| vec![*bytes; *times as usize]).collect()
        }
    }
}

/// A file for this process, in the directory for such.
fn scratch(name: &str, content: &[u8]) -> Result<String, String> {
    let dir: PathBuf = std::env::temp_dir();
    let path = dir.join(format!("linerate-bench-{}-{name}", std::process::id()));
    fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

/// Removes a [`scratch`] file at the end of a run.
struct Gone(String);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn with_file(
    name: &'static str,
    command: &'static str,
    content: fn(&Load) -> Vec<u8>,
    words: &'static [&'static str],
) -> Contender {
    Contender::new(name, Class::Peer, move |ground, load| {
        if !peers::has(command) {
            return Err(format!("{command} is not installed"));
        }
        let file = Gone(scratch(command, &content(load))?);
        let counter = ground.lab.inside(Side::B, || Counter::attach(VB.interface))?;
        let sender = program(words.iter().copied().chain([&*file.0]))
            .says_nothing()
            .quit_by(Quit::Signal(libc::SIGINT));
        let sender = sender.start(ground.lab)?;
        // They need a moment to start; the first frame shows that they have.
        let started = Instant::now();
        while counter.read().map_err(|e| e.to_string())?.0 == 0 {
            if started.elapsed() > Duration::from_secs(5) {
                return Err(sender.stop().err().unwrap_or_else(|| "no frame arrived".into()));
            }
            pause(Duration::from_millis(20))?;
        }
        pause(Duration::from_millis(100))?;
        let sample = rate(ground, &counter)?;
        // How it ends is its own matter: it was measured.
        let _ = sender.stop();
        Ok(sample)
    })
}

/// A capture file of frames as all send them.
fn pcap(load: &Load) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for bytes in lengths(load).into_iter().cycle().take(1200) {
        for word in [0, 0, bytes as u32, bytes as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(udp_frame(bytes, VA, (VB.mac, VB.ip), super::receive::PORT));
    }
    file
}

/// The same for trafgen.
fn trafgen(load: &Load) -> Vec<u8> {
    let mut text = String::new();
    for bytes in lengths(load) {
        let frame = udp_frame(bytes, VA, (VB.mac, VB.ip), super::receive::PORT);
        let head: Vec<String> = frame[..42].iter().map(|byte| format!("0x{byte:02x}")).collect();
        text.push_str(&format!("{{ {}, fill(0x00, {}) }}\n", head.join(", "), bytes - 42));
    }
    text.into_bytes()
}

fn case(
    name: &'static str,
    title: &'static str,
    contenders: Vec<Contender>,
    ours: &str,
    rivals: &[&str],
) -> Case {
    let text = "rate at or above the best peer's";
    Case {
        name,
        title,
        text: TEXT,
        columns: vec![Column::new("mpps", "Mpps", 3)],
        loads: frame_loads(),
        contenders,
        targets: vec![Target::new(text, ours, rivals, "mpps", Rule::AtLeast(1.0))],
    }
}

fn afxdp() -> Case {
    let contenders = vec![
        ours("linerate afxdp", "afxdp:va"),
        twin("C loop, AF_XDP", &["afxdp", "va"]),
        rust_peer("xdpilone", "xdpilone"),
        rust_peer("xsk-rs", "xsk_rs"),
        testpmd("testpmd net_af_xdp", "net_af_xdp0,iface=va"),
    ];
    let rivals = ["C loop, AF_XDP", "xdpilone", "xsk-rs", "testpmd net_af_xdp"];
    case("transmit-afxdp", "Sending by AF_XDP", contenders, "linerate afxdp", &rivals)
}

fn afpacket() -> Case {
    const TCPREPLAY: [&str; 7] =
        ["tcpreplay", "-q", "--topspeed", "--preload-pcap", "--loop=0", "-i", "va"];
    const TRAFGEN: [&str; 7] = ["trafgen", "-q", "-P", "1", "-o", "va", "-i"];
    let contenders = vec![
        ours("linerate afpacket", "afpacket:va"),
        twin("C loop, sendmmsg", &["afpacket", "va"]),
        with_file("tcpreplay", "tcpreplay", pcap, &TCPREPLAY),
        with_file("trafgen", "trafgen", trafgen, &TRAFGEN),
        testpmd("testpmd net_af_packet", super::AF_PACKET_VA),
        rust_peer("pnet", "pnet"),
    ];
    let rivals = ["C loop, sendmmsg", "tcpreplay", "trafgen", "testpmd net_af_packet", "pnet"];
    case("transmit-afpacket", "Sending by AF_PACKET", contenders, "linerate afpacket", &rivals)
}

fn udp() -> Case {
    let contenders = vec![
        ours("linerate udp", "udp:va"),
        ours("linerate udp, gso=on", "udp:va?gso=on"),
        twin("C loop, sendmmsg", &["udp"]),
    ];
    case(
        "transmit-udp",
        "Sending by UDP sockets",
        contenders,
        "linerate udp",
        &["C loop, sendmmsg"],
    )
}
