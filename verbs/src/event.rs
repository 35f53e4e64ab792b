//! Asynchronous events: links that go, queues that fail, devices that die.
//!
//! A device has one descriptor for the events of all its ports and queues, so whoever reads it
//! reads for everyone: each queue has a [`Watch`], and every event is noted with all watches it
//! concerns.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use linerate_common::{Error, ErrorKind, SetupError};
use linerate_ibverbs_sys as sys;

use crate::device::Context;
use crate::error::last;

/// The queues of one device that want to hear of events.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Vec<Weak<State>>>);

/// What the device last said to one queue.
#[derive(Debug)]
struct State {
    port: u8,
    /// Addresses of the queue's own objects, by which events name them.
    objects: [usize; 2],
    bits: AtomicU8,
}

const LINK_DOWN: u8 = 1;
/// The pair or work queue failed: a reset brings it back.
const QUEUE_FAILED: u8 = 1 << 1;
/// The completion queue overflowed: nothing brings that back.
const CQ_LOST: u8 = 1 << 2;
const DEVICE_GONE: u8 = 1 << 3;

impl State {
    fn note(&self, event: &sys::ibv_async_event) {
        let element = event.element as usize;
        let mine = self.objects.contains(&element);
        // The first int of the union is the port number of port events.
        let my_port = element as u32 == u32::from(self.port);
        let set = match event.event_type {
            sys::IBV_EVENT_DEVICE_FATAL => DEVICE_GONE,
            sys::IBV_EVENT_CQ_ERR if mine => CQ_LOST,
            sys::IBV_EVENT_QP_FATAL
            | sys::IBV_EVENT_QP_REQ_ERR
            | sys::IBV_EVENT_QP_ACCESS_ERR
            | sys::IBV_EVENT_WQ_FATAL
                if mine =>
            {
                QUEUE_FAILED
            }
            sys::IBV_EVENT_PORT_ERR if my_port => LINK_DOWN,
            sys::IBV_EVENT_PORT_ACTIVE if my_port => {
                self.bits.fetch_and(!LINK_DOWN, Ordering::Relaxed);
                return;
            }
            _ => return,
        };
        self.bits.fetch_or(set, Ordering::Relaxed);
    }
}

/// Makes the device's event descriptor non-blocking, so that [`drain`] ends.
pub(crate) fn prepare(context: *mut sys::ibv_context) -> Result<(), SetupError> {
    // SAFETY: a live context; the descriptor is its own, or -1 for a device without one.
    let rc = unsafe {
        let fd = (*context).async_fd;
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 { 0 } else { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }
    };
    if rc < 0 { Err(last("fcntl")) } else { Ok(()) }
}

/// Reads every event that is waiting (one read gives one event), notes it with the watches, and
/// acknowledges it.
fn drain(context: &Context) {
    // SAFETY: a live context.
    if unsafe { (*context.as_raw()).async_fd } < 0 {
        return;
    }
    let library = context.library();
    loop {
        let mut event =
            sys::ibv_async_event { element: std::ptr::null_mut(), event_type: u32::MAX };
        // SAFETY: a live context and an event to write; the descriptor does not block.
        if unsafe { (library.ibv_get_async_event)(context.as_raw(), &mut event) } != 0 {
            return;
        }
        {
            let all = context.watchers.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).for_each(|state| state.note(&event));
        }
        // SAFETY: the event that was just read, acknowledged once.
        unsafe { (library.ibv_ack_async_event)(&mut event) };
    }
}

/// One queue's view of the device's events.
#[derive(Debug)]
pub(crate) struct Watch {
    context: Arc<Context>,
    state: Arc<State>,
}

impl Watch {
    /// Watches `port` and the queue's objects: its pair or work queue, and its completion queue.
    pub(crate) fn new(context: &Arc<Context>, port: u8, objects: [usize; 2]) -> Self {
        let state = Arc::new(State { port, objects, bits: AtomicU8::new(0) });
        let mut all = context.watchers.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&state));
        drop(all);
        Self { context: context.clone(), state }
    }

    /// Is there nothing to report? One relaxed load: for the hot path.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.state.bits.load(Ordering::Relaxed) == 0
    }

    /// Reads what the device has to say. A system call.
    pub(crate) fn drain(&self) {
        drain(&self.context);
    }

    /// Did the queue fail in a way that a reset mends?
    pub(crate) fn failed(&self) -> bool {
        self.state.bits.load(Ordering::Relaxed) & QUEUE_FAILED != 0
    }

    /// The queue was reset: what was said about it before no longer holds.
    pub(crate) fn recovered(&self) {
        drain(&self.context);
        self.state.bits.fetch_and(!QUEUE_FAILED, Ordering::Relaxed);
    }

    /// The error that the events amount to, of those that a reset does not mend.
    pub(crate) fn error(&self) -> Result<(), Error> {
        let bits = self.state.bits.load(Ordering::Relaxed);
        let kind = if bits & DEVICE_GONE != 0 {
            ErrorKind::DeviceGone
        } else if bits & CQ_LOST != 0 {
            ErrorKind::QueueLost
        } else if bits & LINK_DOWN != 0 {
            ErrorKind::LinkDown
        } else {
            return Ok(());
        };
        Err(Error::new(kind, "ibv_get_async_event"))
    }
}
