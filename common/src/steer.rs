//! Telling a card or kernel which flows should reach this queue.

use crate::error::SetupError;
use crate::flow::FlowSpec;

/// A rule that [`Steer::add`] put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// Capability: add and remove flows while the queue runs.
///
/// Only steered flows reach the program; the kernel keeps the rest (partial bypass). Steering
/// does not join a multicast group: see `Membership`.
pub trait Steer {
    /// Sends a flow to this queue.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), naming what is supported, when
    /// the card or kernel cannot select this flow: it is never done silently in software.
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError>;

    /// Takes a rule away. Frames that were already queued still arrive.
    ///
    /// # Errors
    ///
    /// There is no such rule, or the card refuses.
    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError>;
}
