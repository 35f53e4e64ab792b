//! The command lines of the instruments that send and receive test frames.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use linerate::loops::Strategy;

use crate::sizes::Sizes;
use crate::values::{Mac, parse_count, parse_rate, parse_seconds};

/// Measure frame round trips to a `linerate pong`.
///
/// Frames go out on a schedule and round trips count from the time a frame was due, so that a
/// slow answer cannot hide the wait of those behind it. A frame without an answer counts as lost,
/// and the run goes on. Both ends check the content of every frame.
#[derive(Debug, Args)]
#[command(after_help = "\
SIZE is in bytes, check sequence not counted: 60, a list 60,512,1514, or a
range 64:1500:256 (both ends included).
How a card sends is said in the port's name: efvi:eth2?path=ctpio,
verbs:eth2?inline=128, exanic:eth2, afxdp:eth2?mode=zerocopy.

Examples:
  linerate pong afpacket:eth3 --cpu 2          (on the other machine)
  linerate ping afpacket:eth2 --cpu 2
  linerate ping eth2 --size 64:1500:256 -c 100000 --pps 20000 --cpu 2
  linerate ping udp:eth2 --back-to-back -d 10 --plot rtt.svg --log rtt.hlog
  linerate ping eth2 --to 10.0.0.2:7007 --dst-mac 02:00:00:00:00:02 --json")]
pub(crate) struct PingArgs {
    /// Send and receive on this port.
    #[arg(value_name = "PORT")]
    pub(crate) port: String,
    /// Frame sizes, one run each.
    #[arg(short, long = "size", value_name = "SIZE", default_value = "60")]
    pub(crate) sizes: Sizes,
    /// Measure this many frames of each size [default: 50000, unless -d].
    #[arg(short, long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) count: Option<u64>,
    /// Measure each size for this long.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) duration: Option<f64>,
    /// Frames before those that count, for each size.
    #[arg(long, value_name = "COUNT", default_value = "5000")]
    pub(crate) warm_up: u64,
    /// Send this many frames a second.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse_rate)]
    pub(crate) pps: f64,
    /// Send each frame when the one before has come back, or is lost.
    #[arg(long, conflicts_with = "pps")]
    pub(crate) back_to_back: bool,
    /// A frame is lost after this time.
    #[arg(long, value_name = "SECONDS", default_value = "0.1", value_parser = parse_seconds)]
    pub(crate) timeout: f64,
    /// Where pong listens: a multicast group or an address.
    #[arg(long, value_name = "ADDR:PORT", default_value = DEFAULT_PING)]
    pub(crate) to: SocketAddr,
    /// Where answers come to [default: for a group the next address, otherwise this port's own
    /// address]. Give pong the same.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) reply: Option<SocketAddr>,
    /// Destination MAC address [default: the group's, or broadcast].
    #[arg(long, value_name = "MAC")]
    pub(crate) dst_mac: Option<Mac>,
    /// How to wait for answers: low-latency or blocking.
    #[arg(long = "loop", value_name = "STRATEGY", default_value = "low-latency")]
    pub(crate) strategy: Strategy,
    /// Run on this CPU.
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<u32>,
    /// Write the round trips of every second to this HdrHistogram log.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Draw percentiles and the course of time into this SVG file.
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

/// Where pings go unless told otherwise.
const DEFAULT_PING: &str = "239.255.7.7:7007";

/// Answer the frames of `linerate ping`, from any number of clients, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  linerate pong eth2 --cpu 2
  linerate pong afpacket:eth2 -d 60 --json
  linerate pong udp:eth2 --loop blocking
  linerate pong afxdp:eth2 --on 10.0.0.2:7007")]
pub(crate) struct PongArgs {
    /// Receive and send on this port.
    #[arg(value_name = "PORT")]
    pub(crate) port: String,
    /// Listen here: a multicast group or an address.
    #[arg(long, value_name = "ADDR:PORT", default_value = DEFAULT_PING)]
    pub(crate) on: SocketAddr,
    /// Send answers here [default: for a group the next address, otherwise back to the sender].
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) reply: Option<SocketAddr>,
    /// How to wait for frames: low-latency, throughput, blocking or adaptive.
    #[arg(long = "loop", value_name = "STRATEGY", default_value = "low-latency")]
    pub(crate) strategy: Strategy,
    /// Run on this CPU.
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<u32>,
    /// Stop after this many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) duration: Option<f64>,
}
