//! Sleeping until a queue has something: a file descriptor and a way to arm it.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::error::Error;

/// Something that can be slept on.
///
/// The order that loses no wake-up is: poll until empty, [`arm`](Self::arm), poll once more, and
/// only then wait on [`fd`](Self::fd). One arming buys one wake-up.
pub trait Waitable {
    /// Becomes readable when frames came in after the last [`arm`](Self::arm). Usable in any
    /// event loop (epoll, tokio's `AsyncFd`).
    fn fd(&self) -> BorrowedFd<'_>;

    /// Asks for a wake-up and takes back what the last one left behind (`ef_vi_prime`,
    /// `ibv_req_notify_cq`; nothing to do for kernel sockets).
    ///
    /// # Errors
    ///
    /// The queue is in trouble.
    fn arm(&mut self) -> Result<(), Error>;
}

/// Sleeps until `fd` is readable, at most `timeout` (`None`: for ever). `Ok(false)` when the time
/// ran out or a signal came.
///
/// # Errors
///
/// `ppoll` failed, or the descriptor is in an error state ([`ErrorKind::LinkDown`] for an
/// interface that went down).
///
/// [`ErrorKind::LinkDown`]: crate::ErrorKind::LinkDown
pub fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<bool, Error> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: one pollfd, a timespec that outlives the call or null, and no signal mask.
    let n = unsafe { libc::ppoll(&mut poll, 1, limit, std::ptr::null()) };
    match n {
        -1 => match crate::error::last_errno() {
            libc::EINTR => Ok(false),
            errno => Err(Error::os("ppoll", errno)),
        },
        n => Ok(n > 0),
    }
}
