//! Which frames go to this process, which are dropped, and which the kernel keeps.
//!
//! One program sits on each interface, whatever number of ports and queues this process opens on
//! it. A frame is compared with the rules of the port that has its receive queue. The **first
//! rule that matches** decides; a frame that matches none goes to the kernel as if nothing were
//! there. Rules come in this order: by [`Rule::order`], and among equals the older first.

mod attach;
mod key;
mod layout;
mod steering;
mod table;

use linerate_common::FlowSpec;

pub(crate) use attach::Attach;
pub(crate) use layout::FrameMeta;
pub(crate) use steering::Steering;

/// What happens to a frame that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes to the port's queue.
    Deliver,
    /// It is dropped in the driver, before the kernel spends anything on it.
    Drop,
}

/// A flow and what to do with it.
///
/// ```
/// use linerate_afxdp::Rule;
///
/// // Everything to us, but the flood: a drop comes before any delivery, whenever it is added.
/// let rules = [
///     Rule::deliver("all".parse()?),
///     Rule::drop("udp:10.0.0.1:53".parse()?),
///     // ...except what comes from this resolver.
///     Rule::deliver("udp:10.0.0.1:53,192.0.2.1:53".parse()?).order(10),
/// ];
/// # assert_eq!(rules.len(), 3);
/// # Ok::<(), linerate_common::ParseFlowError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Which frames.
    pub flow: FlowSpec,
    /// What to do with them.
    pub action: Action,
    /// Where the rule stands among the others, lowest first.
    pub order: u16,
}

impl Rule {
    /// Delivers a flow, at order 1000.
    #[must_use]
    pub const fn deliver(flow: FlowSpec) -> Self {
        Self { flow, action: Action::Deliver, order: 1000 }
    }

    /// Drops a flow, at order 100: before any delivery that was not put further ahead.
    #[must_use]
    pub const fn drop(flow: FlowSpec) -> Self {
        Self { flow, action: Action::Drop, order: 100 }
    }

    /// The same rule elsewhere in the order.
    #[must_use]
    pub const fn order(mut self, order: u16) -> Self {
        self.order = order;
        self
    }
}

/// What a rule has caught since it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleHits {
    /// Frames.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
}

/// A rule in place, as [`XdpRx::rules`](crate::XdpRx::rules) lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleStatus {
    /// What it was added under; also the [`mark`](linerate_common::RxMeta::mark) of its frames,
    /// when marks are asked for.
    pub id: linerate_common::RuleId,
    /// Which frames.
    pub flow: FlowSpec,
    /// What happens to them.
    pub action: Action,
    /// How many there were.
    pub hits: RuleHits,
}

#[cfg(test)]
mod differential;
