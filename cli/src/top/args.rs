//! The options of `top`.

use std::net::SocketAddr;

use clap::Args;
use linerate::loops::Strategy;

use crate::args::CaptureArgs;
use crate::metrics::parse_address;
use crate::sequence::SeqSpec;
use crate::values::parse_seconds;

/// Watch a port live: rates by flow, gaps, drops by name, frame sizes, and the loop's CPU.
///
/// Rows are the groups of -g, then the flows that are found in other frames: the 256 that were
/// heard of last; older ones go on as "other". With --json a line each second, on any output.
///
/// Keys: s next column to sort by, r reverse, f freeze, up and down scroll, q quit.
#[derive(Debug, Args)]
#[command(after_help = "\
Groups and flows are written as for `linerate capture`. Without any, every frame
of the interface is counted.

Examples:
  linerate top eth2
  linerate top eth2 -g 239.1.1.1:5000+64 --seq u64be@10
  linerate top eth2 --json -d 10
  linerate top afxdp:eth2?queue=0 -g 239.1.1.1:5000 --metrics 9898")]
pub(crate) struct TopArgs {
    /// Receive on this port.
    #[arg(value_name = "PORT")]
    pub(crate) port: String,
    /// Join and receive this multicast group; may be given many times.
    #[arg(short, long = "group", value_name = "GROUP:PORT")]
    groups: Vec<String>,
    /// Receive this flow; may be given many times.
    #[arg(short, long = "flow", value_name = "FLOW")]
    flows: Vec<String>,
    /// Where the groups' payload has its sequence number, to count gaps: u64be@10.
    #[arg(long, value_name = "FIELD", requires = "groups")]
    seq: Option<SeqSpec>,
    /// Stop after this many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<f64>,
    /// How to wait for frames: low-latency, throughput, blocking or adaptive.
    #[arg(long = "loop", value_name = "STRATEGY")]
    strategy: Option<Strategy>,
    /// Run the receive loop on this CPU.
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
    /// Take only frames that the card would take anyway (not promiscuous).
    #[arg(short = 'p', long)]
    no_promiscuous: bool,
    /// Serve the counters as Prometheus text at http://ADDR/metrics.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    metrics: Option<SocketAddr>,
}

impl TopArgs {
    /// The capture that it is a view of.
    pub(super) fn capture(&self) -> CaptureArgs {
        CaptureArgs {
            port: self.port.clone(),
            groups: self.groups.clone(),
            flows: self.flows.clone(),
            write: None,
            count: None,
            duration: self.duration,
            snaplen: None,
            strategy: self.strategy,
            cpu: self.cpu,
            rotate: None,
            files: None,
            seq: self.seq,
            buffer: 0,
            cached: false,
            sync: false,
            no_promiscuous: self.no_promiscuous,
            metrics: self.metrics,
        }
    }
}
