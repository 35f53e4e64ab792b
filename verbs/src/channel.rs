//! Completion channels: something to sleep on.

use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use linerate_common::{Error, SetupError, last_errno};
use linerate_ibverbs_sys as sys;

use crate::device::Context;
use crate::error::last;

/// A channel for one completion queue, non-blocking.
#[derive(Debug)]
pub(crate) struct Channel {
    raw: NonNull<sys::ibv_comp_channel>,
    context: Arc<Context>,
}

// SAFETY: the raw pointer is only handed to libibverbs, which locks it.
unsafe impl Send for Channel {}
// SAFETY: as above.
unsafe impl Sync for Channel {}

impl Channel {
    pub(crate) fn create(context: &Arc<Context>) -> Result<Arc<Self>, SetupError> {
        // SAFETY: a live context.
        let raw = unsafe { (context.library().ibv_create_comp_channel)(context.as_raw()) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(last("ibv_create_comp_channel").on(context.name()));
        };
        let channel = Self { raw, context: context.clone() };
        // SAFETY: a descriptor that the channel owns.
        let rc = unsafe {
            let flags = libc::fcntl(channel.raw_fd(), libc::F_GETFL);
            libc::fcntl(channel.raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
        };
        if rc < 0 {
            return Err(last("fcntl").on(context.name()));
        }
        Ok(Arc::new(channel))
    }

    pub(crate) fn as_raw(&self) -> *mut sys::ibv_comp_channel {
        self.raw.as_ptr()
    }

    fn raw_fd(&self) -> i32 {
        // SAFETY: a live channel.
        unsafe { (*self.as_raw()).fd }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open while the channel lives, which the borrow guarantees.
        unsafe { BorrowedFd::borrow_raw(self.raw_fd()) }
    }

    /// Takes the events that are waiting and acknowledges each at once: destroying a queue waits
    /// for ever for an event that was taken and not acknowledged.
    pub(crate) fn drain(&self) -> Result<(), Error> {
        loop {
            let (mut cq, mut cookie) = (null_mut(), null_mut());
            // SAFETY: a live channel, two pointers to write; the descriptor does not block.
            let rc = unsafe {
                (self.context.library().ibv_get_cq_event)(self.as_raw(), &mut cq, &mut cookie)
            };
            if rc != 0 {
                return match last_errno() {
                    libc::EAGAIN | libc::EINTR => Ok(()),
                    errno => Err(Error::os("ibv_get_cq_event", errno)),
                };
            }
            // SAFETY: the queue that the event is of; it lives, since queues drop before channels.
            unsafe { (self.context.library().ibv_ack_cq_events)(cq, 1) };
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: the queue that used it held an Arc of it and is gone.
        unsafe { (self.context.library().ibv_destroy_comp_channel)(self.as_raw()) };
    }
}
