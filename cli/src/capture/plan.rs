//! What a capture is asked to do, checked.

use std::path::Path;
use std::time::Duration;

use linerate::loops::{Strategy, StrategyKind};
use linerate::{AnyRx, FlowKind, FlowSpec};

use crate::args::CaptureArgs;
use crate::failure::Failure;
use crate::groups::MAX_GROUPS;
use crate::recorder::{Habit, Target};
use crate::sequence::SeqSpec;

/// The command line of `capture`, understood.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) port: String,
    pub(crate) flows: Vec<FlowSpec>,
    pub(crate) target: Option<Target>,
    pub(crate) count: Option<u64>,
    pub(crate) duration: Option<Duration>,
    pub(crate) snaplen: Option<u32>,
    strategy: Option<Strategy>,
    pub(crate) cpu: Option<u32>,
    pub(crate) seq: Option<SeqSpec>,
    pub(crate) buffer_bytes: u64,
    pub(crate) promiscuous: bool,
    pub(crate) habit: Habit,
}

impl Plan {
    /// Checks what the command line's grammar cannot.
    pub(crate) fn new(args: &CaptureArgs) -> Result<Self, Failure> {
        let mut flows = Vec::new();
        for text in &args.groups {
            let groups = FlowSpec::parse_list(text).map_err(Failure::usage)?;
            if groups.iter().any(|flow| !super::is_group(flow.kind)) {
                return Err(Failure::usage(format!("-g {text} is no multicast group"))
                    .remedy(format!("use -f {text}, or a group as -g 239.1.1.1:5000")));
            }
            flows.extend(groups);
        }
        for text in &args.flows {
            flows.extend(FlowSpec::parse_list(text).map_err(Failure::usage)?);
        }
        if flows.len() > MAX_GROUPS {
            return Err(Failure::usage(format!("{} flows are too many", flows.len()))
                .remedy(format!("use at most {MAX_GROUPS}, or -f all")));
        }
        if let Some(twice) = first_double(&flows) {
            return Err(
                Failure::usage(format!("{twice} is asked for twice")).remedy("name each flow once")
            );
        }
        Ok(Self {
            port: args.port.clone(),
            promiscuous: takes_all(&flows) && !args.no_promiscuous,
            flows,
            target: target(args)?,
            count: args.count,
            duration: args.duration.map(Duration::from_secs_f64),
            snaplen: args.snaplen,
            strategy: args.strategy,
            cpu: args.cpu,
            seq: args.seq,
            buffer_bytes: args.buffer,
            habit: Habit { direct: !args.cached, sync: args.sync },
        })
    }

    /// A capture of these groups, for a program of its own.
    pub(crate) fn of_groups(port: &str, flows: Vec<FlowSpec>, seq: SeqSpec) -> Self {
        Self {
            port: port.to_owned(),
            flows,
            target: None,
            count: None,
            duration: None,
            snaplen: None,
            strategy: None,
            cpu: None,
            seq: Some(seq),
            buffer_bytes: 16_000_000,
            promiscuous: false,
            habit: Habit::USUAL,
        }
    }

    /// How to run the loop over these queues.
    pub(crate) fn strategy(&self, queues: &mut [AnyRx]) -> Strategy {
        let default = Strategy::adaptive();
        let fits = queues.iter_mut().all(|queue| default.check(queue).is_ok());
        self.strategy.unwrap_or(if fits { default } else { Strategy::throughput() })
    }

    /// Should the port trade throughput for latency as well?
    pub(crate) fn wants_low_latency(&self) -> bool {
        self.strategy.is_some_and(|s| s.kind() == StrategyKind::LowLatency)
    }

    /// Can the loop run over these queues? Asked before a file is touched.
    pub(crate) fn check_queues(&self, queues: &mut [AnyRx]) -> Result<(), Failure> {
        let strategy = self.strategy(queues);
        queues.iter_mut().try_for_each(|q| strategy.check(q)).map_err(Failure::usage)
    }

    /// Does stdout belong to the capture?
    pub(crate) fn to_stdout(&self) -> bool {
        self.target == Some(Target::Stdout)
    }

    /// Is any of the flows a group?
    pub(crate) fn has_groups(&self) -> bool {
        self.flows.iter().any(|flow| super::is_group(flow.kind))
    }

    /// Should everything that comes in on the interface come in here, so that the interface's
    /// counters can be held against ours? That takes a backend that sees them all, too, and after
    /// COUNT frames the rest is not looked at.
    pub(crate) fn whole_interface(&self) -> bool {
        takes_all(&self.flows) && self.count.is_none()
    }

    /// The interface's name, as far as the port's name tells it.
    pub(crate) fn interface(&self) -> &str {
        let target = self.port.split_once(':').map_or(self.port.as_str(), |(_, rest)| rest);
        target.split_once('?').map_or(target, |(interface, _)| interface)
    }
}

fn takes_all(flows: &[FlowSpec]) -> bool {
    let all = |flow: &FlowSpec| flow.kind == FlowKind::All && flow.vlan.is_none();
    flows.is_empty() || flows.iter().any(all)
}

fn first_double(flows: &[FlowSpec]) -> Option<&FlowSpec> {
    let mut seen = std::collections::HashSet::with_capacity(flows.len());
    flows.iter().find(|flow| !seen.insert(**flow))
}

fn target(args: &CaptureArgs) -> Result<Option<Target>, Failure> {
    let Some(path) = &args.write else { return Ok(None) };
    let stdout = path == Path::new("-");
    match args.rotate {
        Some(_) if stdout => Err(Failure::usage("-C cannot rotate stdout")
            .remedy("leave -C out, or write to a file with -w")),
        Some(after_bytes) => {
            Ok(Some(Target::Rotation { path: path.clone(), after_bytes, keep: args.files }))
        }
        None if stdout => Ok(Some(Target::Stdout)),
        None => Ok(Some(Target::File(path.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn plan(line: &str) -> Result<Plan, Failure> {
        let cli = Cli::try_parse_from(format!("linerate capture {line}").split(' ')).unwrap();
        let Command::Capture(args) = cli.command else { panic!("another command") };
        Plan::new(&args)
    }

    #[test]
    fn groups_add_up_and_doubles_are_refused() {
        let p = plan("-i udp:lo -g 239.1.1.1:5000+127 -g 10.0.0.7,239.1.1.1:5000").unwrap();
        assert_eq!(p.flows.len(), 128);
        assert!(p.has_groups() && !p.promiscuous && !p.whole_interface());
        for (line, word) in [
            ("-i lo -g 10.0.0.1:5000", "no multicast group"),
            ("-i lo -g udp:10.0.0.1:5000", "use -f udp:10.0.0.1:5000"),
            ("-i lo -g 239.1.1.1:5000 -g 239.1.1.1:5000", "twice"),
            ("-i lo -g 239.1.1.1:5000+0", "+N"),
            ("-i lo -f nonsense", "flow"),
            ("-i lo -w - -C 1", "stdout"),
        ] {
            let text = plan(line).unwrap_err().to_string();
            assert!(text.contains(word), "{line}: {text}");
        }
    }

    #[test]
    fn only_a_capture_of_everything_is_held_against_the_interface() {
        assert!(plan("-i afpacket:eth2?ring=4").unwrap().whole_interface());
        assert_eq!(plan("-i afpacket:eth2?ring=4").unwrap().interface(), "eth2");
        assert!(plan("-i eth2 -f all").unwrap().promiscuous);
        assert!(!plan("-i eth2 -p").unwrap().promiscuous);
        for line in ["-i eth2 -c 5", "-i eth2 -f vlan:5", "-i eth2 -g 239.1.1.1:5000"] {
            assert!(!plan(line).unwrap().whole_interface(), "{line}");
        }
    }
}
