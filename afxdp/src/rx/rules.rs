//! The port's rules, from a receive queue.

use linerate_common::{FlowSpec, RuleId, SetupError, Steer};

use super::XdpRx;
use crate::steer::{Rule, RuleStatus};

impl XdpRx {
    /// Adds a rule for all queues of the port: deliver or drop, anywhere in the order. It is in
    /// force when this returns.
    ///
    /// # Errors
    ///
    /// The flow cannot be selected, 4096 rules are in place, or the port was opened without our
    /// program.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<RuleId, SetupError> {
        self.shared.add_one(*rule)
    }

    /// The port's rules, first to match first, with what each has caught. One system call a rule.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or the port was opened without our program.
    pub fn rules(&self) -> Result<Vec<RuleStatus>, SetupError> {
        self.shared.steering()?.rules().map_err(|e| e.on(&self.shared.name))
    }
}

/// Rules are the port's: they hold for all of its queues.
impl Steer for XdpRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        self.shared.add_one(Rule::deliver(*flow))
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        self.shared.steering()?.remove(rule).map_err(|e| e.on(&self.shared.name))
    }
}
