//! `blocking` and `adaptive`: sleep when nothing is there.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use super::event_loop::EventLoop;
use super::strategy::StrategyKind;
use super::ticks;
use super::turn::{End, QueueError, Turn};
use crate::error::{Error, ErrorKind, last_errno};
use crate::frame::RxFrame;
use crate::rx::FrameRx;

impl<R: FrameRx, C> EventLoop<R, C> {
    /// Blocking is adaptive with nothing to spin for.
    pub(super) fn run_sleeping<F, H>(
        &mut self,
        handler: &mut F,
        hook: &mut H,
    ) -> Result<End, QueueError>
    where
        F: FnMut(&mut C, RxFrame<'_>),
        H: FnMut(&Turn) -> ControlFlow<()>,
    {
        let spin = match self.strategy.kind() {
            StrategyKind::Adaptive => ticks::from_duration(self.strategy.spin),
            _ => 0,
        };
        let mut last_frame = ticks::ticks();
        loop {
            let mut frames = self.poll_queues(handler, |_| true, |_, _| ())?;
            let mut slept = false;
            if frames > 0 {
                last_frame = ticks::ticks();
            } else if ticks::ticks().wrapping_sub(last_frame) >= spin {
                // What arrived before the arming causes no wake-up: hence the second look.
                self.arm_queues()?;
                frames = self.poll_queues(handler, |_| true, |_, _| ())?;
                if frames > 0 {
                    last_frame = ticks::ticks();
                } else if !self.stop.is_stopped() {
                    self.sleep()?;
                    slept = true;
                }
            }
            if let Some(end) = self.end_turn(frames, slept, hook) {
                return Ok(end);
            }
        }
    }

    /// Asks every queue for a wake-up.
    fn arm_queues(&mut self) -> Result<(), QueueError> {
        self.sleeper.start(self.stop.as_fd().as_raw_fd());
        for (queue, lane) in self.lanes.iter_mut().enumerate() {
            let armed = match lane.rx.waitable() {
                Some(w) => w.arm().map(|()| w.fd().as_raw_fd()),
                // `add` has checked; the queue has lost it since.
                None => Err(Error::new(ErrorKind::Unsupported, "FrameRx::waitable")),
            };
            self.sleeper.watch(armed.map_err(|error| QueueError { queue, error })?);
        }
        Ok(())
    }

    fn sleep(&mut self) -> Result<(), QueueError> {
        let max_sleep = self.strategy.max_sleep;
        self.sleeper.sleep(max_sleep).map_err(|error| QueueError { queue: 0, error })?;
        for (queue, lane) in self.lanes.iter_mut().enumerate() {
            let Some(fd) = self.sleeper.in_trouble(queue) else { continue };
            // The queue first: the kernel tells a pending error once, and only the queue knows
            // what becomes of it (an interface that is down now and gone a moment later).
            let asked = lane.rx.waitable().map_or(Ok(()), |queue| queue.arm());
            asked.and_then(|()| trouble(&fd)).map_err(|error| QueueError { queue, error })?;
        }
        Ok(())
    }
}

/// The descriptors to sleep on: the stop handle's, then one per queue.
#[derive(Debug, Default)]
pub(super) struct Sleeper {
    fds: Vec<libc::pollfd>,
}

// A descriptor in an error state is readable for ever: a queue that finds nothing to report
// there would make the loop spin. `sleep` reports it instead, unless frames are there too.
const TROUBLE: i16 = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;

impl Sleeper {
    /// Makes room for this many queues, so that sleeping allocates nothing.
    pub(super) fn make_room(&mut self, queues: usize) {
        self.fds.clear();
        self.fds.reserve(queues + 1);
    }

    fn start(&mut self, stop: RawFd) {
        self.fds.clear();
        self.watch(stop);
    }

    fn watch(&mut self, fd: RawFd) {
        self.fds.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    }

    /// Until a descriptor is readable or in trouble, `limit` has passed or a signal came.
    fn sleep(&mut self, limit: Duration) -> Result<(), Error> {
        let limit = libc::timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let count = self.fds.len() as libc::nfds_t;
        // SAFETY: `count` initialised pollfds, a timespec, no signal mask; all outlive the call.
        let ready = unsafe { libc::ppoll(self.fds.as_mut_ptr(), count, &limit, std::ptr::null()) };
        if ready < 0 {
            return match last_errno() {
                libc::EINTR => Ok(()),
                // Out of kernel memory: no queue's fault, but somebody must hear of it.
                errno => Err(Error::os("ppoll", errno)),
            };
        }
        Ok(())
    }

    /// The queue's descriptor, if it is in an error state and has no frames.
    fn in_trouble(&self, queue: usize) -> Option<libc::pollfd> {
        let fd = *self.fds.get(queue + 1)?;
        (fd.revents & TROUBLE != 0 && fd.revents & libc::POLLIN == 0).then_some(fd)
    }
}

/// Why a descriptor is in an error state. A socket without a pending error only has something in
/// its error queue (a transmit stamp), which is the backend's business.
fn trouble(fd: &libc::pollfd) -> Result<(), Error> {
    if fd.revents & libc::POLLNVAL != 0 {
        return Err(Error::os("ppoll", libc::EBADF));
    }
    let mut errno: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: writes at most `len` bytes to an int of that size.
    let rc = unsafe {
        libc::getsockopt(fd.fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut errno).cast(), &mut len)
    };
    match (rc, errno) {
        (0, 0) => Ok(()),
        (0, errno) => Err(Error::os("ppoll", errno)),
        _ => Err(Error::new(ErrorKind::QueueLost, "ppoll")),
    }
}
