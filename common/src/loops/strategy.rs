//! The four ways to run a loop, and their knobs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{ErrorKind, SetupError};
use crate::rx::FrameRx;

/// The name of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StrategyKind {
    /// [`Strategy::low_latency`].
    LowLatency,
    /// [`Strategy::throughput`].
    Throughput,
    /// [`Strategy::blocking`].
    Blocking,
    /// [`Strategy::adaptive`].
    Adaptive,
}

impl StrategyKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::LowLatency, Self::Throughput, Self::Blocking, Self::Adaptive];

    /// `"low-latency"`, `"throughput"`, `"blocking"`, `"adaptive"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LowLatency => "low-latency",
            Self::Throughput => "throughput",
            Self::Blocking => "blocking",
            Self::Adaptive => "adaptive",
        }
    }

    /// Does it need queues that can be slept on?
    #[must_use]
    pub const fn sleeps(self) -> bool {
        matches!(self, Self::Blocking | Self::Adaptive)
    }
}

/// How a loop waits, with its knobs. Parses from its name.
///
/// ```
/// # use linerate_common::loops::{Strategy, StrategyKind};
/// let s: Strategy = "low-latency".parse()?;
/// assert_eq!(s.kind(), StrategyKind::LowLatency);
/// # Ok::<(), linerate_common::loops::ParseStrategyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strategy {
    kind: StrategyKind,
    pub(super) burst: usize,
    pub(super) gather: usize,
    pub(super) max_age: Duration,
    pub(super) spin: Duration,
    pub(super) max_sleep: Duration,
}

impl Strategy {
    const fn of(kind: StrategyKind, burst: usize) -> Self {
        Self {
            kind,
            burst,
            gather: 32,
            max_age: Duration::from_micros(20),
            spin: Duration::from_micros(100),
            max_sleep: Duration::from_millis(100),
        }
    }

    /// Polls every queue each turn, at most 8 frames at a time so that no queue waits long for
    /// its turn. Takes a whole core.
    #[must_use]
    pub const fn low_latency() -> Self {
        Self::of(StrategyKind::LowLatency, 8)
    }

    /// Leaves a queue alone until [`gather`](Self::with_gather) frames should be there, judging
    /// by the rate of the last burst, or until [`max_age`](Self::with_max_age) has passed; then
    /// drains up to 256 frames. Fewer, fuller bursts: fewer doorbells, fewer shared cache lines.
    /// Takes a whole core.
    #[must_use]
    pub const fn throughput() -> Self {
        Self::of(StrategyKind::Throughput, 256)
    }

    /// Sleeps while nothing is there. For programs that share their cores.
    #[must_use]
    pub const fn blocking() -> Self {
        Self::of(StrategyKind::Blocking, 64)
    }

    /// Spins for [`spin`](Self::with_spin) after the last frame, then sleeps.
    #[must_use]
    pub const fn adaptive() -> Self {
        Self::of(StrategyKind::Adaptive, 64)
    }

    /// The strategy of that name with its usual knobs.
    #[must_use]
    pub const fn new(kind: StrategyKind) -> Self {
        match kind {
            StrategyKind::LowLatency => Self::low_latency(),
            StrategyKind::Throughput => Self::throughput(),
            StrategyKind::Blocking => Self::blocking(),
            StrategyKind::Adaptive => Self::adaptive(),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn kind(&self) -> StrategyKind {
        self.kind
    }

    /// Frames handled of one queue before the next gets its turn; at least 1.
    #[must_use]
    pub const fn with_burst(mut self, frames: usize) -> Self {
        self.burst = if frames == 0 { 1 } else { frames };
        self
    }

    /// Throughput: frames that make a burst worth the poll; at least 1.
    #[must_use]
    pub const fn with_gather(mut self, frames: usize) -> Self {
        self.gather = if frames == 0 { 1 } else { frames };
        self
    }

    /// Throughput: a frame waits no longer than this for others to join it.
    #[must_use]
    pub const fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Adaptive: how long to spin after the last frame before sleeping.
    #[must_use]
    pub const fn with_spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Blocking and adaptive: the hook runs at least this often even when nothing arrives.
    #[must_use]
    pub const fn with_max_sleep(mut self, sleep: Duration) -> Self {
        self.max_sleep = sleep;
        self
    }

    /// Can this strategy run `rx`? [`EventLoop::add`](super::EventLoop::add) asks the same; ask
    /// before when there is a second choice.
    ///
    /// # Errors
    ///
    /// The strategy sleeps and the queue has nothing to sleep on. The remedy names those that
    /// work.
    pub fn check(&self, rx: &mut dyn FrameRx) -> Result<(), SetupError> {
        if self.kind.sleeps() && rx.waitable().is_none() {
            let e = SetupError::new(
                ErrorKind::Unsupported,
                "EventLoop::add",
                format!("strategy {} needs a queue that can be slept on", self.kind.name()),
            );
            return Err(e.remedy("this queue runs with low-latency or throughput"));
        }
        Ok(())
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())
    }
}

/// No strategy has this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseStrategyError(String);

impl fmt::Display for ParseStrategyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no loop strategy {:?}; there are", self.0)?;
        for (i, kind) in StrategyKind::ALL.iter().enumerate() {
            write!(f, "{} {}", if i == 0 { "" } else { "," }, kind.name())?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseStrategyError {}

impl FromStr for Strategy {
    type Err = ParseStrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        StrategyKind::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .map(Self::new)
            .ok_or_else(|| ParseStrategyError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_a_wrong_one_lists_them() {
        for kind in StrategyKind::ALL {
            let s: Strategy = kind.name().parse().unwrap();
            assert_eq!(s.kind(), kind);
            assert_eq!(s.to_string(), kind.name());
        }
        assert_eq!(
            "fast".parse::<Strategy>().unwrap_err().to_string(),
            "no loop strategy \"fast\"; there are low-latency, throughput, blocking, adaptive"
        );
    }
}
