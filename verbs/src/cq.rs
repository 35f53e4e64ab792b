//! Completion queues: the extended kind with timestamps where the card has it, else the basic.

mod reader;

use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use linerate_common::{Error, ErrorKind, SetupError};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::channel::Channel;
use crate::device::Context;
use crate::error::{check, last};
pub(crate) use reader::Reader;

/// Completions read in one call of the basic kind.
const BATCH: usize = 64;

/// What a queue's completions carry beyond length and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// ns of the card's wall clock.
    Wallclock,
    /// Raw ticks, or seconds and ns packed: told apart by value.
    Raw,
    /// Nothing.
    None,
}

/// One completion, with the fields that are valid for its status.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Completion {
    pub(crate) wr_id: u64,
    pub(crate) status: u32,
    pub(crate) byte_len: u32,
    pub(crate) wc_flags: u32,
    /// Raw stamp, 0 when there is none.
    pub(crate) stamp: u64,
    /// Tag of the flow that matched, 0 when there is none.
    pub(crate) tag: u32,
}

#[derive(Debug)]
enum Kind {
    Basic(NonNull<sys::ibv_cq>),
    Extended(Reader),
}

/// A completion queue.
#[derive(Debug)]
pub(crate) struct Cq {
    kind: Kind,
    channel: Option<Arc<Channel>>,
    context: Arc<Context>,
}

// SAFETY: providers lock a queue unless it was created single-threaded, which we do not ask for.
unsafe impl Send for Cq {}
// SAFETY: as above.
unsafe impl Sync for Cq {}

impl Cq {
    /// A queue of at least `entries`, with the best stamps and tags that the card grants: asked
    /// for from the most to the least, since a refused flag fails the whole creation.
    ///
    /// # Errors
    ///
    /// Only a refusal as unsupported leads to the next rung; running out of memory does not.
    pub(crate) fn create(
        context: &Arc<Context>,
        entries: u32,
        channel: Option<Arc<Channel>>,
        stamps: bool,
    ) -> Result<Arc<Self>, SetupError> {
        let kind = match best_extended(context, entries, channel.as_deref(), stamps)? {
            Some(kind) => kind,
            None => Kind::Basic(basic(context, entries, channel.as_deref())?),
        };
        Ok(Arc::new(Self { kind, channel, context: context.clone() }))
    }

    /// Completions the queue holds: more would break it.
    pub(crate) fn capacity(&self) -> u32 {
        // SAFETY: a live queue; the field is set when it is created.
        u32::try_from(unsafe { (*self.as_raw()).cqe }).unwrap_or(0)
    }

    /// What kind of stamp [`Completion::stamp`] holds.
    pub(crate) fn stamp(&self) -> Stamp {
        match self.kind {
            Kind::Basic(_) => Stamp::None,
            Kind::Extended(reader) => reader.stamp_kind,
        }
    }

    pub(crate) fn as_raw(&self) -> *mut sys::ibv_cq {
        match self.kind {
            Kind::Basic(raw) => raw.as_ptr(),
            Kind::Extended(reader) => inline::cq_ex_to_cq(reader.cq.as_ptr()),
        }
    }

    /// Do completions say which flow matched?
    pub(crate) fn has_tags(&self) -> bool {
        matches!(self.kind, Kind::Extended(Reader { tags: true, .. }))
    }

    /// Can it be slept on?
    pub(crate) fn has_channel(&self) -> bool {
        self.channel.is_some()
    }

    /// What becomes readable after [`arm`](Self::arm); without a channel the device's event
    /// descriptor, which says when the device itself has something to tell.
    pub(crate) fn wait_fd(&self) -> BorrowedFd<'_> {
        match &self.channel {
            Some(channel) => channel.fd(),
            // SAFETY: the context's own descriptor, open while the context lives; a device has
            // one, and -1 is no value to borrow.
            None => unsafe { BorrowedFd::borrow_raw((*self.context.as_raw()).async_fd.max(0)) },
        }
    }

    /// The functions of a queue of the extended kind, for loops that read completions one by one.
    pub(crate) fn reader(&self) -> Option<Reader> {
        match self.kind {
            Kind::Basic(_) => None,
            Kind::Extended(reader) => Some(reader),
        }
    }

    /// Takes completions; 0 when there are none.
    pub(crate) fn poll(&self, out: &mut [Completion]) -> Result<usize, Error> {
        let reader = match self.kind {
            Kind::Basic(raw) => return poll_basic(raw, out),
            Kind::Extended(reader) => reader,
        };
        let room = out.len();
        let mut places = out.iter_mut();
        let mut n = 0;
        if room == 0 {
            return Ok(0);
        }
        // SAFETY: the queue lives as long as we do, and has one owner.
        if let Some(reading) = unsafe { reader.begin() }? {
            reading.each_received(|done| {
                if let Some(place) = places.next() {
                    *place = done;
                    n += 1;
                }
                if n < room { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        }
        Ok(n)
    }

    /// Asks for one event at the next completion, after taking the events of the last arming.
    pub(crate) fn arm(&self) -> Result<(), Error> {
        let Some(channel) = &self.channel else {
            return Err(Error::new(ErrorKind::Unsupported, "ibv_req_notify_cq"));
        };
        channel.drain()?;
        // SAFETY: a live queue with a channel.
        match unsafe { inline::req_notify_cq(self.as_raw(), 0) } {
            0 => Ok(()),
            errno => Err(Error::os("ibv_req_notify_cq", errno.abs())),
        }
    }
}

impl Drop for Cq {
    fn drop(&mut self) {
        // SAFETY: queue pairs that used it held an Arc of it and are gone; every event taken
        // was acknowledged, so this does not wait.
        let rc = unsafe { (self.context.library().ibv_destroy_cq)(self.as_raw()) };
        debug_assert!(check("ibv_destroy_cq", rc).is_ok());
    }
}

fn basic(
    context: &Context,
    entries: u32,
    channel: Option<&Channel>,
) -> Result<NonNull<sys::ibv_cq>, SetupError> {
    let channel = channel.map_or(null_mut(), Channel::as_raw);
    let entries = i32::try_from(entries).unwrap_or(i32::MAX);
    // SAFETY: a live context, and a channel of it or null.
    let raw = unsafe {
        (context.library().ibv_create_cq)(context.as_raw(), entries, null_mut(), channel, 0)
    };
    NonNull::new(raw).ok_or_else(|| last("ibv_create_cq").on(context.name()))
}

/// Walks down the ladder of what an extended queue can carry; `None` at its end.
fn best_extended(
    context: &Context,
    entries: u32,
    channel: Option<&Channel>,
    stamps: bool,
) -> Result<Option<Kind>, SetupError> {
    let wall = sys::IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK;
    let raw = sys::IBV_WC_EX_WITH_COMPLETION_TIMESTAMP;
    let tag = sys::IBV_WC_EX_WITH_FLOW_TAG;
    let ladder = [
        (wall | tag, Stamp::Wallclock, true),
        (wall, Stamp::Wallclock, false),
        (raw | tag, Stamp::Raw, true),
        (raw, Stamp::Raw, false),
        (tag, Stamp::None, true),
    ];
    for (flags, stamp, tags) in ladder {
        if stamp != Stamp::None && !stamps {
            continue;
        }
        // A queue of ours has one owner: where the provider can, it needs no lock.
        for single_threaded in [true, false] {
            let made = extended(context, entries, channel, flags, single_threaded);
            match made {
                Ok(cq) => {
                    if let Some(reader) = Reader::new(cq, stamp, tags) {
                        return Ok(Some(Kind::Extended(reader)));
                    }
                    // SAFETY: nobody else knows of this queue.
                    unsafe {
                        (context.library().ibv_destroy_cq)(inline::cq_ex_to_cq(cq.as_ptr()));
                    }
                }
                Err(e) if [libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL].contains(&e.errno()) => {}
                Err(e) => return Err(e.on(context.name())),
            }
        }
    }
    Ok(None)
}

fn extended(
    context: &Context,
    entries: u32,
    channel: Option<&Channel>,
    flags: u64,
    single_threaded: bool,
) -> Result<NonNull<sys::ibv_cq_ex>, SetupError> {
    let mut attr = sys::ibv_cq_init_attr_ex {
        cqe: entries,
        cq_context: null_mut(),
        channel: channel.map_or(null_mut(), Channel::as_raw),
        comp_vector: 0,
        wc_flags: flags | sys::IBV_WC_EX_WITH_BYTE_LEN,
        comp_mask: if single_threaded { sys::IBV_CQ_INIT_ATTR_MASK_FLAGS } else { 0 },
        flags: if single_threaded { sys::IBV_CREATE_CQ_ATTR_SINGLE_THREADED } else { 0 },
        parent_domain: null_mut(),
    };
    // SAFETY: a live context and complete attributes.
    let raw = unsafe { inline::create_cq_ex(context.as_raw(), &mut attr) };
    NonNull::new(raw).ok_or_else(|| last("ibv_create_cq"))
}

fn poll_basic(raw: NonNull<sys::ibv_cq>, out: &mut [Completion]) -> Result<usize, Error> {
    let mut wcs = [const { MaybeUninit::<sys::ibv_wc>::uninit() }; BATCH];
    let want = out.len().min(BATCH);
    // SAFETY: a live queue, and room for `want` completions.
    let n = unsafe { inline::poll_cq(raw.as_ptr(), want as i32, wcs.as_mut_ptr().cast()) };
    let Ok(n) = usize::try_from(n) else {
        return Err(Error { kind: ErrorKind::QueueLost, op: "ibv_poll_cq", errno: 0 });
    };
    for (wc, entry) in wcs.iter().zip(out.iter_mut()).take(n) {
        // SAFETY: the first `n` completions were written by the provider.
        let wc = unsafe { wc.assume_init_ref() };
        let ok = wc.status == sys::IBV_WC_SUCCESS;
        *entry = Completion {
            wr_id: wc.wr_id,
            status: wc.status,
            byte_len: if ok { wc.byte_len } else { 0 },
            wc_flags: if ok { wc.wc_flags } else { 0 },
            stamp: 0,
            tag: 0,
        };
    }
    Ok(n.min(want))
}
