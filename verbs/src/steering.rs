//! The flows of a port, shared by the receive queues that they feed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linerate_common::{ErrorKind, RuleId, SetupError};
use linerate_ibverbs_sys as sys;

use crate::flow::{Flow, FlowMode, FlowRule};
use crate::qp::Qp;
use crate::spread::SpreadQp;
use crate::ud::Group;

/// The queue pair that flows are steered to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    One(Arc<Qp>),
    Spread(Arc<SpreadQp>),
}

impl Target {
    pub(crate) fn as_raw(&self) -> *mut sys::ibv_qp {
        match self {
            Self::One(qp) => qp.as_raw(),
            Self::Spread(qp) => qp.as_raw(),
        }
    }

    /// The device's name.
    pub(crate) fn device(&self) -> &str {
        match self {
            Self::One(qp) => qp.context().name(),
            Self::Spread(qp) => qp.context().name(),
        }
    }

    pub(crate) fn port(&self) -> u8 {
        match self {
            Self::One(qp) => qp.port(),
            Self::Spread(qp) => qp.port(),
        }
    }
}

/// Flows by rule. They go when the last of the queues does.
#[derive(Debug)]
pub(crate) struct Steering {
    target: Target,
    mode: FlowMode,
    rules: Mutex<Rules>,
}

#[derive(Debug)]
struct Rules {
    flows: Vec<(RuleId, Flow)>,
    groups: Vec<Group>,
    next: u32,
}

/// Tags have 24 bits on mlx5, and 0 stands for none.
const MAX_TAG: u32 = (1 << 24) - 2;

impl Steering {
    pub(crate) fn new(target: Target, mode: FlowMode) -> Arc<Self> {
        let rules = Mutex::new(Rules { flows: Vec::new(), groups: Vec::new(), next: 1 });
        Arc::new(Self { target, mode, rules })
    }

    pub(crate) fn mode(&self) -> FlowMode {
        self.mode
    }

    /// Adds a rule, with a tag where completions carry one.
    pub(crate) fn add(&self, rule: &FlowRule, tags: bool) -> Result<RuleId, SetupError> {
        let mut rules = self.lock();
        let id = RuleId(rules.next);
        let tag = Some(id.0).filter(|id| tags && *id <= MAX_TAG);
        // A card may have no flow tags although its completions can carry them.
        let flow = match Flow::create(&self.target, rule, tag) {
            Err(e) if tag.is_some() && [libc::EOPNOTSUPP, libc::EINVAL].contains(&e.errno()) => {
                Flow::create(&self.target, rule, None)?
            }
            other => other?,
        };
        rules.flows.push((id, flow));
        rules.next += 1;
        Ok(id)
    }

    pub(crate) fn remove(&self, rule: RuleId) -> Result<(), SetupError> {
        let mut rules = self.lock();
        let Some(at) = rules.flows.iter().position(|(id, _)| *id == rule) else {
            let what = format!("there is no rule {}", rule.0);
            return Err(SetupError::new(ErrorKind::BadArgument, "ibv_destroy_flow", what));
        };
        let (_, flow) = rules.flows.swap_remove(at);
        drop(rules);
        flow.destroy()
    }

    /// Attaches the pair to a multicast group, for as long as it is there.
    pub(crate) fn join(&self, group: sys::ibv_gid) -> Result<(), SetupError> {
        let Target::One(qp) = &self.target else {
            let what = "spread queues take no datagrams";
            return Err(SetupError::new(ErrorKind::Unsupported, "ibv_attach_mcast", what));
        };
        let joined = Group::join(qp, group)?;
        self.lock().groups.push(joined);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        // A list of flows is never left half-changed, whatever panicked.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
