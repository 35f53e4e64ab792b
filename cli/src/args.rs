//! The command line.

mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use linerate::loops::Strategy;

use crate::doctor::DoctorArgs;
use crate::failure::Failure;
use crate::metrics::parse_address;
use crate::sequence::SeqSpec;
use crate::top::TopArgs;
use crate::values::{
    Mac, Speed, parse_count, parse_megabytes, parse_seconds, parse_snaplen, parse_times,
};

pub(crate) use traffic::{BlastArgs, ForwardArgs, PingArgs, PongArgs, RateArgs, SinkArgs, TxPath};

/// Frames off a network card: capture, replay and a demo, on every backend.
#[derive(Debug, Parser)]
#[command(
    name = "linerate",
    version,
    max_term_width = 80,
    subcommand_required = true,
    after_help = "A PORT is an interface (eth2) or BACKEND:INTERFACE (afpacket:eth2, udp:lo);\n\
`linerate ports` lists both.\n\
Exit status: 0 done (also after Ctrl-C), 1 a port, file or disk failed,\n\
2 wrong arguments.\n\n\
Examples:\n  linerate demo\n  linerate capture -i eth2 -g 239.1.1.1:5000 -w feed.pcapng\n  \
linerate replay feed.pcapng -o afpacket:eth3 --speed x2"
)]
pub(crate) struct Cli {
    /// Print JSON lines: one object a second while running and a final one.
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,
    /// Print errors only.
    #[arg(short, long, global = true, display_order = 901, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print details.
    #[arg(short, long, global = true, display_order = 902)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Ports(PortsArgs),
    Capture(Box<CaptureArgs>),
    Replay(ReplayArgs),
    Ping(Box<PingArgs>),
    Pong(Box<PongArgs>),
    Selftest(SelftestArgs),
    Blast(Box<BlastArgs>),
    Sink(Box<SinkArgs>),
    Rate(Box<RateArgs>),
    Forward(Box<ForwardArgs>),
    Doctor(Box<DoctorArgs>),
    Top(Box<TopArgs>),
}

/// Publish a market-data feed on this machine, capture it, and report.
///
/// Needs no rights, no hardware and no arguments. A generated feed of two redundant lines (A and
/// B) goes out on multicast groups of the loopback interface; the best backend that works for
/// this user captures it into a pcapng file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  linerate demo
  linerate demo -d 20 -w /tmp/feed.pcapng
  linerate demo -i udp:lo --json")]
pub(crate) struct DemoArgs {
    /// Write the captured frames to this pcapng file.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Run for this long.
    #[arg(short, long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    pub(crate) duration: f64,
    /// Capture on this port of the loopback interface instead of the best one.
    #[arg(short = 'i', long = "port", value_name = "PORT")]
    pub(crate) port: Option<String>,
}

/// List the interfaces and the backends that would work on them, and why others would not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  linerate ports
  linerate ports --json")]
pub(crate) struct PortsArgs {}

/// Receive frames, count them, and write them to a pcapng file.
///
/// Groups are joined as long as the capture runs. Without -g and -f every frame of the interface
/// is taken.
#[derive(Debug, Args)]
#[command(after_help = "\
GROUP:PORT may name several groups (GROUP:PORT+N, counting the group up) and
one sender (SOURCE,GROUP:PORT). FLOW is a group as above, or one of: all,
udp:ADDR:PORT, tcp:ADDR:PORT, tcp:ADDR:PORT,SOURCE:PORT, vlan:ID,
vlan:ID,FLOW, mac:ADDR, ether:TYPE.

Examples:
  linerate capture -i eth2 -g 239.1.1.1:5000 -w feed.pcapng
  linerate capture -i eth2 -g 239.1.1.1:5000+64 -d 10 --json
  linerate capture -i udp:eth2 -g 10.0.0.7,232.1.1.1:5000 --seq u64be@10
  linerate capture -i afpacket:eth2 -f vlan:905 -c 1000 -w - | tshark -r -
  linerate capture -i eth2 -w day.pcapng -C 1000 -W 24 --loop throughput --cpu 3")]
pub(crate) struct CaptureArgs {
    /// Receive on this port.
    #[arg(short = 'i', long = "port", value_name = "PORT")]
    pub(crate) port: String,
    /// Join and receive this multicast group; may be given many times.
    #[arg(short, long = "group", value_name = "GROUP:PORT", allow_hyphen_values = false)]
    pub(crate) groups: Vec<String>,
    /// Receive this flow; may be given many times.
    #[arg(short, long = "flow", value_name = "FLOW")]
    pub(crate) flows: Vec<String>,
    /// Write pcapng with ns stamps to this file (mode 0600, overwritten), or to stdout for "-".
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Stop after this many frames.
    #[arg(short, long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) count: Option<u64>,
    /// Stop after this many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) duration: Option<f64>,
    /// Keep at most this many bytes of each frame.
    #[arg(short, long, value_name = "SNAPLEN", value_parser = parse_snaplen)]
    pub(crate) snaplen: Option<u32>,
    /// How to wait for frames: low-latency, throughput, blocking or adaptive. By default
    /// adaptive, or throughput where a queue cannot be slept on. low-latency also asks the
    /// backend for it.
    #[arg(long = "loop", value_name = "STRATEGY")]
    pub(crate) strategy: Option<Strategy>,
    /// Run the receive loop on this CPU.
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<u32>,
    /// Begin a new file (FILE_00001, FILE_00002 …) after this many million bytes.
    #[arg(short = 'C', long, value_name = "MB", value_parser = parse_megabytes, requires = "write")]
    pub(crate) rotate: Option<u64>,
    /// Keep only the newest FILES of a rotation.
    #[arg(short = 'W', long, value_name = "FILES", value_parser = parse_count, requires = "rotate")]
    pub(crate) files: Option<u64>,
    /// Where the groups' payload has its sequence number, to count gaps: u64be@10 (MoldUDP64),
    /// u32le@0 (CME MDP 3.0). +FIELD adds a message count: u64be@10+u16be@18.
    #[arg(long, value_name = "FIELD", requires = "groups")]
    pub(crate) seq: Option<SeqSpec>,
    /// Room between receive loop and writer, in million bytes.
    #[arg(long, value_name = "MB", default_value = "64", value_parser = parse_megabytes)]
    pub(crate) buffer: u64,
    /// Write through the page cache, for those who read the file at once. By default files go
    /// past it, straight to the disk (O_DIRECT).
    #[arg(long, requires = "write")]
    pub(crate) cached: bool,
    /// See once a second, and at the end of each file, that the disk has everything (fdatasync).
    #[arg(long, requires = "write")]
    pub(crate) sync: bool,
    /// Take only frames that the card would take anyway (not promiscuous).
    #[arg(short = 'p', long)]
    pub(crate) no_promiscuous: bool,
    /// Serve the counters as Prometheus text at http://ADDR/metrics; a port alone (9898) is
    /// reachable from this machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Send the frames of a capture file on the schedule of their timestamps.
///
/// FILE is pcap (µs or ns, either byte order) or pcapng, gzipped or not. Every frame is due at a
/// fixed time after the first one, so errors do not add up; the report says how late frames were.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  linerate replay feed.pcapng -o eth3
  linerate replay feed.pcap.gz -o afpacket:eth3 --speed x10 --times 3
  linerate replay feed.pcapng -o afpacket:eth3 --speed pps=100000 --json
  linerate replay feed.pcapng -o udp:lo --speed top")]
pub(crate) struct ReplayArgs {
    /// The capture to send.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Send on this port.
    #[arg(short = 'o', long = "port", value_name = "PORT")]
    pub(crate) port: String,
    /// recorded, xN (N times faster), pps=N (evenly), or top (as fast as the port takes them).
    #[arg(long, value_name = "SPEED", default_value = "recorded")]
    pub(crate) speed: Speed,
    /// Send the file this many times in a row.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_times)]
    pub(crate) times: u32,
    /// Replace every frame's destination MAC address.
    #[arg(long, value_name = "MAC")]
    pub(crate) rewrite_dst: Option<Mac>,
    /// Send from this CPU.
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<u32>,
    /// Serve the counters as Prometheus text at http://ADDR/metrics; a port alone (9898) is
    /// reachable from this machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Prove that a port keeps every rule of linerate, and write a report to send back.
///
/// The checks of the backend and the rules of the traits run on the real card and driver, with
/// frames of an experimental ethertype (or of one test group, where a port knows UDP only) and no
/// others. With a peer that the port is cabled to, both directions are tried; one port alone does
/// what it can.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 nothing failed, 1 something failed or the port cannot be opened.

Examples:
  linerate selftest afpacket:eth2
  linerate selftest efvi:eth2 --peer afpacket:eth3
  linerate selftest verbs:mlx5_0/1 --peer verbs:mlx5_1/1 -w report.txt
  linerate selftest sim:efvi?peer=loop")]
pub(crate) struct SelftestArgs {
    /// Test this port.
    #[arg(value_name = "PORT")]
    pub(crate) port: String,
    /// The port at the other end of its cable, in this machine.
    #[arg(long, value_name = "PORT")]
    pub(crate) peer: Option<String>,
    /// Write the report to this file instead of linerate-selftest-PORT.txt.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

/// What clap found wrong, in one line with the way to help.
pub(crate) fn one_line(error: &clap::Error) -> Failure {
    let command = std::env::args()
        .nth(1)
        .filter(|word| Cli::command().get_subcommands().any(|known| known.get_name() == word));
    let help = match command {
        Some(command) => format!("linerate {command} --help"),
        None => "linerate --help".into(),
    };
    let what = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let words: Vec<String> =
                Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
            format!("say what to do: {}", words.join(", "))
        }
        _ => {
            // Everything up to the usage or the hint at --help, as one sentence.
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|line| {
                !line.starts_with("Usage:") && !line.starts_with("For more information")
            });
            let words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
            words.join(" ").trim_start_matches("error: ").to_owned()
        }
    };
    Failure::usage(what).remedy(format!("see {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |line: &str| Cli::try_parse_from(line.split(' ')).is_err();
        for line in [
            "linerate",
            "linerate capture",
            "linerate capture -i lo -c 0",
            "linerate capture -i lo -d 0",
            "linerate capture -i lo -d -1",
            "linerate capture -i lo -d nan",
            "linerate capture -i lo -s 0",
            "linerate capture -i lo -C 5",
            "linerate capture -i lo -w f -W 3",
            "linerate capture -i lo -w f -C 0",
            "linerate capture -i lo --loop fast",
            "linerate capture -i lo --seq u32le@0",
            "linerate replay f -o lo --speed x0",
            "linerate replay f -o lo --speed pps=0",
            "linerate replay f -o lo --speed warp",
            "linerate replay f -o lo --times 0",
            "linerate replay f -o lo --rewrite-dst 1:2:3",
            "linerate demo -d 0",
        ] {
            assert!(refused(line), "accepted: {line}");
        }
        assert!(!refused("linerate capture -i lo -c 1 -d 0.5 -s 64 -w - --json"));
    }
}
