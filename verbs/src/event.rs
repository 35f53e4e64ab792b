//! Asynchronous events: links that go, devices that die.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use linerate_common::{Error, ErrorKind, SetupError, last_errno};
use linerate_ibverbs_sys as sys;

use crate::device::Context;
use crate::error::last;

/// What the device last said about the port, read by both queues.
#[derive(Debug)]
pub(crate) struct Events {
    context: Arc<Context>,
    port: u8,
    state: AtomicU8,
}

const UP: u8 = 0;
const LINK_DOWN: u8 = 1;
const QUEUE_LOST: u8 = 2;
const DEVICE_GONE: u8 = 3;

impl Events {
    /// Makes the device's event descriptor non-blocking.
    pub(crate) fn watch(context: &Arc<Context>, port: u8) -> Result<Arc<Self>, SetupError> {
        // SAFETY: a live context; the descriptor is its own.
        let rc = unsafe {
            let fd = (*context.as_raw()).async_fd;
            let flags = libc::fcntl(fd, libc::F_GETFL);
            // A device without a kernel side has no descriptor and no events.
            if flags < 0 { 0 } else { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }
        };
        if rc < 0 {
            return Err(last("fcntl").on(context.name()));
        }
        Ok(Arc::new(Self { context: context.clone(), port, state: AtomicU8::new(UP) }))
    }

    /// Reads every event that is waiting (one read gives one event) and acknowledges each.
    pub(crate) fn drain(&self) {
        // SAFETY: a live context.
        if unsafe { (*self.context.as_raw()).async_fd } < 0 {
            return;
        }
        loop {
            let mut event =
                sys::ibv_async_event { element: std::ptr::null_mut(), event_type: u32::MAX };
            let library = self.context.library();
            // SAFETY: a live context and an event to write; the descriptor does not block.
            let rc = unsafe { (library.ibv_get_async_event)(self.context.as_raw(), &mut event) };
            if rc != 0 {
                debug_assert_ne!(last_errno(), libc::EFAULT);
                return;
            }
            self.note(&event);
            // SAFETY: the event that was just read, acknowledged once.
            unsafe { (library.ibv_ack_async_event)(&mut event) };
        }
    }

    fn note(&self, event: &sys::ibv_async_event) {
        // The first int of the union is the port number of port events.
        let port = event.element as usize as u32;
        let ours = port == u32::from(self.port);
        let state = match event.event_type {
            sys::IBV_EVENT_DEVICE_FATAL => DEVICE_GONE,
            sys::IBV_EVENT_QP_FATAL | sys::IBV_EVENT_CQ_ERR | sys::IBV_EVENT_WQ_FATAL => QUEUE_LOST,
            sys::IBV_EVENT_PORT_ERR if ours => LINK_DOWN,
            sys::IBV_EVENT_PORT_ACTIVE if ours => UP,
            _ => return,
        };
        // A dead device does not come back when its link does.
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            (old < QUEUE_LOST || state > old).then_some(state)
        });
    }

    /// The error that the last events amount to, if any.
    pub(crate) fn error(&self) -> Result<(), Error> {
        let kind = match self.state.load(Ordering::Relaxed) {
            UP => return Ok(()),
            LINK_DOWN => ErrorKind::LinkDown,
            QUEUE_LOST => ErrorKind::QueueLost,
            _ => ErrorKind::DeviceGone,
        };
        Err(Error::new(kind, "ibv_get_async_event"))
    }
}
