//! Ending a loop from another thread or from a signal handler.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::SetupError;
use crate::sync::AtomicBool;

/// Ends every loop that was made with it, spinning or asleep. Clones are the same handle.
///
/// It stays stopped until [`reset`](Self::reset), so a loop that starts late ends at once.
#[derive(Debug, Clone)]
pub struct StopHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stopped: AtomicBool,
    /// Readable from `stop` on. Nobody reads it while stopped, so it wakes any number of loops.
    event: OwnedFd,
}

impl StopHandle {
    /// A handle that has not been stopped.
    ///
    /// # Errors
    ///
    /// `eventfd` failed: the process is out of file descriptors.
    pub fn new() -> Result<Self, SetupError> {
        // SAFETY: eventfd takes two integers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(SetupError::last_os("eventfd").remedy("raise the limit: ulimit -n 4096"));
        }
        // SAFETY: the kernel just returned this descriptor and nobody else knows it.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { shared: Arc::new(Shared { stopped: AtomicBool::new(false), event }) })
    }

    /// Ends the loops. Safe to call from any thread and from a signal handler: it stores a flag
    /// and writes to an eventfd, and leaves `errno` as it was.
    pub fn stop(&self) {
        // The flag goes first: a sleeper that the write wakes must find it set.
        self.shared.stopped.store(true, Ordering::SeqCst);
        let one = 1_u64.to_ne_bytes();
        // SAFETY: `__errno_location` gives this thread's errno; `write` gets 8 valid bytes. Its
        // result does not matter: EAGAIN means that the counter is full, thus readable already.
        unsafe {
            let errno = libc::__errno_location();
            let saved = *errno;
            libc::write(self.shared.event.as_raw_fd(), one.as_ptr().cast(), one.len());
            *errno = saved;
        }
    }

    /// Has [`stop`](Self::stop) been called?
    #[inline]
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// Makes the handle usable again. For when all of its loops have ended.
    pub fn reset(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: `read` may write 8 bytes. EAGAIN: it was not readable, nothing to take back.
        unsafe {
            libc::read(self.shared.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len());
        }
        self.shared.stopped.store(false, Ordering::SeqCst);
    }
}

impl AsFd for StopHandle {
    /// Readable once stopped, for event loops of other kinds. Do not read from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

#[cfg(all(loom, test))]
mod models;

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_readable;
    use std::time::Duration;

    #[test]
    fn stop_is_seen_by_clones_and_by_sleepers_until_reset() {
        let stop = StopHandle::new().unwrap();
        let other = stop.clone();
        let zero = Some(Duration::ZERO);
        assert!(!other.is_stopped());
        assert!(!wait_readable(other.as_fd(), zero).unwrap());
        stop.stop();
        stop.stop();
        assert!(other.is_stopped());
        assert!(wait_readable(other.as_fd(), zero).unwrap());
        other.reset();
        assert!(!stop.is_stopped());
        assert!(!wait_readable(stop.as_fd(), zero).unwrap());
    }
}
