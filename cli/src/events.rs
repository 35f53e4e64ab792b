//! What happens to a run as a whole, whichever command it is: told at once in words, and in every
//! JSON line from then on.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use linerate::clock::StepWatch;
use serde::Serialize;

use crate::format::plural;
use crate::output::Output;

static CLOCK_STEPS: AtomicU64 = AtomicU64::new(0);
static CLOCK_SET_NS: AtomicI64 = AtomicI64::new(0);
static CABLE_LOST: AtomicU64 = AtomicU64::new(0);

/// As JSON fields; absent is "did not happen".
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Events {
    /// Times that the system's clock was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_steps: Option<u64>,
    /// By how much in all, in ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_set_ns: Option<i64>,
    /// Frames that were lost between a simulated card and its interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    cable_lost: Option<u64>,
}

impl Events {
    pub(crate) fn so_far() -> Self {
        let seen = |n: u64| (n > 0).then_some(n);
        let steps = seen(CLOCK_STEPS.load(Ordering::Relaxed));
        Self {
            clock_steps: steps,
            clock_set_ns: steps.map(|_| CLOCK_SET_NS.load(Ordering::Relaxed)),
            cable_lost: seen(CABLE_LOST.load(Ordering::Relaxed)),
        }
    }

    /// For a capture file, behind what it says of its frames.
    pub(crate) fn comment(&self) -> String {
        let Self { clock_steps: Some(times), clock_set_ns: Some(ns), .. } = *self else {
            return String::new();
        };
        format!("; the system's clock was set {}, by {} in all", plural(times, "time"), span(ns))
    }
}

/// Says when the system's clock was set while the command ran: stamps by that clock jump there.
#[derive(Debug, Default)]
pub(crate) struct Clock(RefCell<StepWatch>);

impl Clock {
    /// To be called often.
    pub(crate) fn tick(&self, out: &Output) {
        let Some(step) = self.0.borrow_mut().look() else { return };
        CLOCK_STEPS.fetch_add(1, Ordering::Relaxed);
        CLOCK_SET_NS.fetch_add(step, Ordering::Relaxed);
        out.notice(&format!(
            "the system's clock was set by {}: stamps by it jump there, and times from before and \
             after are not to be compared",
            span(step)
        ));
    }
}

/// Frames were lost between a simulated card and its interface.
pub(crate) fn lost_in_cable(frames: u64) {
    CABLE_LOST.fetch_add(frames, Ordering::Relaxed);
}

fn span(ns: i64) -> String {
    format!("{:+.3} s", ns as f64 / 1e9)
}
