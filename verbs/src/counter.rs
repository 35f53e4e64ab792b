//! Where the card counts the frames that found no posted buffer: no completion tells of them.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Reads a counter of frames that were dropped because no buffer was posted. The counter is the
/// device's: queues of other programs on the same port count in it too.
#[derive(Clone)]
pub struct NoBuffer(Source);

#[derive(Clone)]
enum Source {
    None,
    Sysfs(PathBuf),
    Call(Arc<dyn Fn() -> u64 + Send + Sync>),
}

impl NoBuffer {
    /// The kernel's counter of a port (`hw_counters/out_of_buffer` in sysfs; mlx5 has it). A port
    /// without one counts nothing.
    #[must_use]
    pub fn of_port(device: &str, port: u8) -> Self {
        let path = format!("/sys/class/infiniband/{device}/ports/{port}/hw_counters/out_of_buffer");
        Self(Source::Sysfs(path.into()))
    }

    /// A counter of your own: a simulated card's, or one read through netlink for one queue.
    pub fn from_fn(read: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Source::Call(Arc::new(read)))
    }

    /// Counts nothing.
    pub(crate) fn none() -> Self {
        Self(Source::None)
    }

    pub(crate) fn read(&self) -> u64 {
        match &self.0 {
            Source::None => 0,
            Source::Sysfs(path) => {
                fs::read_to_string(path).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
            }
            Source::Call(read) => read(),
        }
    }
}

impl fmt::Debug for NoBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Sysfs(path) => f.debug_tuple("NoBuffer").field(path).finish(),
            Source::None | Source::Call(_) => f.debug_tuple("NoBuffer").finish_non_exhaustive(),
        }
    }
}
