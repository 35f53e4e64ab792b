//! What is sent, how often, how long, and how the answers are waited for.

use linerate::loops::StrategyKind;

use crate::args::PingArgs;
use crate::failure::Failure;
use crate::ping::DEFAULT_COUNT;
use crate::probe::{Origin, Stencil};

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) stencils: Vec<Stencil>,
    pub(super) sizes: Vec<usize>,
    pub(super) warm_up: u64,
    pub(super) count: u64,
    pub(super) duration_ns: u64,
    /// `None`: back to back.
    pub(super) gap_ns: Option<f64>,
    pub(super) timeout_ns: u64,
    pub(super) sleeps: bool,
}

impl Plan {
    pub(crate) fn new(args: &PingArgs, origin: &Origin, src_port: u16) -> Result<Self, Failure> {
        let sizes = args.sizes.bytes.clone();
        let stencil = |len: &usize| Stencil::new(*len, origin, src_port, args.to, args.dst_mac);
        let default = if args.duration.is_some() { u64::MAX } else { DEFAULT_COUNT };
        Ok(Self {
            stencils: sizes.iter().map(stencil).collect::<Result<_, _>>()?,
            sizes,
            warm_up: args.warm_up,
            count: args.count.unwrap_or(default),
            duration_ns: args.duration.map_or(u64::MAX, |s| (s * 1e9) as u64),
            gap_ns: (!args.back_to_back).then(|| 1e9 / args.pps),
            timeout_ns: (args.timeout * 1e9) as u64,
            sleeps: args.strategy.kind() == StrategyKind::Blocking,
        })
    }
}
