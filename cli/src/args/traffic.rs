//! The command lines of the instruments that send and receive test frames.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use linerate::loops::Strategy;

use crate::metrics::parse_address;
use crate::sizes::Sizes;
use crate::values::{
    Mac, parse_count, parse_percent, parse_percent_or_0, parse_rate, parse_seconds, parse_times,
};

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
    /// How frames are handed over: through the transmit queue, or written ahead of time and
    /// fired by one call (in the card on exanic and efvi, in memory elsewhere).
    #[arg(long, value_enum, value_name = "PATH", default_value = "queue")]
    pub(crate) tx: TxPath,
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
    /// Draw percentiles and the course of time into this file, SVG or PNG by its name.
    #[arg(long, value_name = "FILE.svg|png")]
    pub(crate) plot: Option<PathBuf>,
    /// Serve the counters as Prometheus text at http://ADDR/metrics; a port alone (9898) is
    /// reachable from this machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// How pings leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TxPath {
    /// Through the transmit queue.
    Queue,
    /// From slots that were loaded ahead of time.
    Preload,
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
    /// Serve the counters as Prometheus text at http://ADDR/metrics; a port alone (9898) is
    /// reachable from this machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Send test frames: sizes, groups, rate; numbered and stamped, for `linerate sink`.
///
/// Frames go out on a schedule with one fixed anchor; each carries its number within its group
/// and the time it was due. Frames that find no room go out late and are never skipped.
#[derive(Debug, Args)]
#[command(after_help = "\
SIZE is in bytes, check sequence not counted: 60, a list 60,512,1514 (in turn),
a range 64:1500:256, or imix (7 of 60, 4 of 566, 1 of 1514 bytes).
GROUP:PORT+N is N groups, counting the group up; udp:ADDR:PORT is an address.

Examples:
  linerate blast afpacket:eth2 --pps 100000 -d 10
  linerate blast afxdp:eth2 --top --size imix -c 1000000
  linerate blast eth2 -g 239.1.1.1:5000+200 --gbps 4 --burst 16 --size 1514
  linerate blast udp:lo --pps 1000 --json")]
pub(crate) struct BlastArgs {
    /// Send on this port.
    #[arg(value_name = "PORT")]
    pub(crate) port: String,
    /// Send to these groups, in turn; may be given many times [default: 239.255.7.1:7001].
    #[arg(short, long = "group", value_name = "GROUP:PORT")]
    pub(crate) groups: Vec<String>,
    /// Frame sizes.
    #[arg(short, long = "size", value_name = "SIZE", default_value = "60")]
    pub(crate) sizes: Sizes,
    /// Send this many frames a second [default: 10000].
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub(crate) pps: Option<f64>,
    /// Send this many Gb/s, as counted on the wire (24 bytes more for each frame).
    #[arg(long, value_name = "N", value_parser = parse_rate, conflicts_with = "pps")]
    pub(crate) gbps: Option<f64>,
    /// Send as fast as the port takes frames.
    #[arg(long, conflicts_with_all = ["pps", "gbps"])]
    pub(crate) top: bool,
    /// Hand this many frames over at once, with one kick [default: 1, with --top 64].
    #[arg(long, value_name = "N", value_parser = parse_times)]
    pub(crate) burst: Option<u32>,
    /// Stop after this many frames.
    #[arg(short, long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) count: Option<u64>,
    /// Stop after this many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) duration: Option<f64>,
    /// Destination MAC address [default: the group's, or broadcast].
    #[arg(long, value_name = "MAC")]
    pub(crate) dst_mac: Option<Mac>,
    /// Run on this CPU.
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<u32>,
    /// Serve the counters as Prometheus text at http://ADDR/metrics; a port alone (9898) is
    /// reachable from this machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Receive the frames of `linerate blast` and account for each number.
///
/// Counts what is missing, late (reordered), doubled and damaged, for each group, and how long
/// frames took where sender and receiver share a clock.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  linerate sink afpacket:eth2
  linerate sink eth2 -g 239.1.1.1:5000+200 --loop throughput --cpu 3
  linerate sink udp:eth2 -d 10 --json")]
pub(crate) struct SinkArgs {
    /// Receive on this port.
    #[arg(value_name = "PORT")]
    pub(crate) port: String,
    /// Receive these groups; may be given many times [default: 239.255.7.1:7001].
    #[arg(short, long = "group", value_name = "GROUP:PORT")]
    pub(crate) groups: Vec<String>,
    /// Stop after this many frames.
    #[arg(short, long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) count: Option<u64>,
    /// Stop after this many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) duration: Option<f64>,
    /// How to wait for frames: low-latency, throughput, blocking or adaptive. By default
    /// adaptive, or throughput where a queue cannot be slept on.
    #[arg(long = "loop", value_name = "STRATEGY")]
    pub(crate) strategy: Option<Strategy>,
    /// Run on this CPU.
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<u32>,
    /// Serve the counters as Prometheus text at http://ADDR/metrics; a port alone (9898) is
    /// reachable from this machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Find the highest rate without loss between two ports of this machine (RFC 2544).
///
/// For each frame size: a try at full speed, then a binary search. A rate passes when it was kept
/// up for the whole trial and no more than the tolerated share of frames was lost.
#[derive(Debug, Args)]
#[command(after_help = "\
The two ports are connected by a cable or through the device under test.
Sizes are in bytes without check sequence: RFC 2544's 64 is 60 here.

Examples:
  linerate rate afpacket:eth2 afpacket:eth3
  linerate rate afxdp:eth2 afxdp:eth3 -d 10 --cpus 2,3 --plot rate.png
  linerate rate efvi:eth2 efvi:eth3 --size 60,1514 --loss 0.001 --json
  linerate rate 'sim:verbs?cable=x' 'sim:verbs?cable=x' --size 60 -d 0.5")]
pub(crate) struct RateArgs {
    /// Send on this port.
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// Receive on this port.
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// Frame sizes, one search each.
    #[arg(
        short,
        long = "size",
        value_name = "SIZE",
        default_value = "60,124,252,508,1020,1276,1514"
    )]
    pub(crate) sizes: Sizes,
    /// Length of a trial. RFC 2544 asks for 60.
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    pub(crate) duration: f64,
    /// Search below this many frames a second [default: what the port sends at full speed].
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub(crate) max_pps: Option<f64>,
    /// Stop searching when the answer is known to this many percent.
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = parse_percent)]
    pub(crate) resolution: f64,
    /// Tolerate the loss of this many percent of the frames.
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = parse_percent_or_0)]
    pub(crate) loss: f64,
    /// A rate has failed when this many trials of it have failed.
    #[arg(long, value_name = "N", default_value = "2", value_parser = parse_times)]
    pub(crate) tries: u32,
    /// Hand this many frames over at once, with one kick.
    #[arg(long, value_name = "N", default_value = "32", value_parser = parse_times)]
    pub(crate) burst: u32,
    /// Send to this group, in between the ports.
    #[arg(short, long, value_name = "GROUP:PORT", default_value = "239.255.7.1:7001")]
    pub(crate) group: SocketAddr,
    /// Destination MAC address [default: the group's, or broadcast].
    #[arg(long, value_name = "MAC")]
    pub(crate) dst_mac: Option<Mac>,
    /// Send and receive on these CPUs.
    #[arg(long, value_name = "TX,RX", value_delimiter = ',', num_args = 1)]
    pub(crate) cpus: Vec<u32>,
    /// Draw rates and latencies into this file, SVG or PNG by its name.
    #[arg(long, value_name = "FILE.svg|png")]
    pub(crate) plot: Option<PathBuf>,
    /// Serve the counters as Prometheus text at http://ADDR/metrics; a port alone (9898) is
    /// reachable from this machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Pass frames on between two ports, in both directions.
///
/// Without a copy where both ports work with buffers of one pool (afxdp, efvi, verbs), otherwise
/// with one.
#[derive(Debug, Args)]
#[command(after_help = "\
FLOW is one of: all, 239.1.1.1:5000 (a group; +N for several), udp:ADDR:PORT,
tcp:ADDR:PORT, vlan:ID, vlan:ID,FLOW, mac:ADDR, ether:TYPE.

Examples:
  linerate forward afxdp:eth2 afxdp:eth3 --cpus 2,3
  linerate forward afpacket:eth2 afpacket:eth3 --one-way
  linerate forward udp:eth2 udp:eth3 -f 239.1.1.1:5000+8 --one-way
  linerate forward eth2 eth3 -f vlan:905 --json")]
pub(crate) struct ForwardArgs {
    /// One port.
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// The other.
    #[arg(value_name = "B")]
    pub(crate) b: String,
    /// Pass on these flows only; may be given many times.
    #[arg(short, long = "flow", value_name = "FLOW")]
    pub(crate) flows: Vec<String>,
    /// From A to B only.
    #[arg(long)]
    pub(crate) one_way: bool,
    /// How to wait for frames: low-latency (a core for each direction) or adaptive.
    #[arg(long = "loop", value_name = "STRATEGY", default_value = "adaptive")]
    pub(crate) strategy: Strategy,
    /// Stop after this many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) duration: Option<f64>,
    /// Run the two directions on these CPUs.
    #[arg(long, value_name = "A-TO-B,B-TO-A", value_delimiter = ',', num_args = 1)]
    pub(crate) cpus: Vec<u32>,
    /// Serve the counters as Prometheus text at http://ADDR/metrics; a port alone (9898) is
    /// reachable from this machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}
