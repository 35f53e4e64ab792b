//! Reading completions of the extended kind one by one: the hot loops' way.

use std::ops::ControlFlow;
use std::ptr::NonNull;

use linerate_common::{Error, ErrorKind};
use linerate_ibverbs_sys as sys;

use super::{Completion, Stamp};

/// The functions of a queue of the extended kind, none of them missing.
///
/// A provider sets them when it creates the queue and leaves them alone; one for what was not
/// asked for is null, and stands here as a function that says nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    pub(super) cq: NonNull<sys::ibv_cq_ex>,
    start: unsafe extern "C" fn(*mut sys::ibv_cq_ex, *mut sys::ibv_poll_cq_attr) -> i32,
    next: unsafe extern "C" fn(*mut sys::ibv_cq_ex) -> i32,
    end: unsafe extern "C" fn(*mut sys::ibv_cq_ex),
    byte_len: unsafe extern "C" fn(*mut sys::ibv_cq_ex) -> u32,
    wc_flags: unsafe extern "C" fn(*mut sys::ibv_cq_ex) -> u32,
    stamp: unsafe extern "C" fn(*mut sys::ibv_cq_ex) -> u64,
    tag: unsafe extern "C" fn(*mut sys::ibv_cq_ex) -> u32,
    pub(super) stamp_kind: Stamp,
    pub(super) tags: bool,
}

unsafe extern "C" fn no_stamp(_: *mut sys::ibv_cq_ex) -> u64 {
    0
}

unsafe extern "C" fn no_tag(_: *mut sys::ibv_cq_ex) -> u32 {
    0
}

impl Reader {
    /// `None`: a function is missing that was asked for.
    pub(super) fn new(cq: NonNull<sys::ibv_cq_ex>, stamp: Stamp, tags: bool) -> Option<Self> {
        // SAFETY: a live queue.
        let queue = unsafe { cq.as_ref() };
        Some(Self {
            cq,
            start: queue.start_poll?,
            next: queue.next_poll?,
            end: queue.end_poll?,
            byte_len: queue.read_byte_len?,
            wc_flags: queue.read_wc_flags?,
            stamp: match stamp {
                Stamp::Wallclock => queue.read_completion_wallclock_ns?,
                Stamp::Raw => queue.read_completion_ts?,
                Stamp::None => no_stamp,
            },
            tag: if tags { queue.read_flow_tag? } else { no_tag },
            stamp_kind: stamp,
            tags,
        })
    }

    /// Begins to read. `None`: nothing is there.
    ///
    /// # Errors
    ///
    /// The queue is lost.
    ///
    /// # Safety
    ///
    /// The queue is alive, and nobody else polls it, until what this gives is dropped.
    #[inline(always)]
    pub(crate) unsafe fn begin(&self) -> Result<Option<Reading>, Error> {
        let mut attr = sys::ibv_poll_cq_attr::default();
        // SAFETY: a live queue, by the caller's promise, and complete attributes.
        match unsafe { (self.start)(self.cq.as_ptr(), &mut attr) } {
            0 => Ok(Some(Reading(*self))),
            // EBUSY: the wall clock is being updated (since rdma-core 65). The next poll has it.
            libc::ENOENT | libc::EBUSY => Ok(None),
            errno => Err(lost(errno)),
        }
    }
}

/// Completions being read, the first of which is on show.
pub(crate) struct Reading(Reader);

impl Drop for Reading {
    /// Also when a handler panics: what it has not seen stays in the queue.
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: a live queue, by the contract of `begin`, in which `start_poll` answered 0.
        unsafe { (self.0.end)(self.0.cq.as_ptr()) };
    }
}

impl Reading {
    /// Shows completions of receives one by one, until there are no more or `f` has enough.
    #[inline(always)]
    pub(crate) fn each_received(self, mut f: impl FnMut(Completion) -> ControlFlow<()>) {
        // SAFETY: `begin` and `next` say that a completion is there.
        while f(unsafe { self.received() }).is_continue() && self.next() {}
    }

    /// The same with completions of sends, of which less is read.
    #[inline(always)]
    pub(crate) fn each_sent(self, mut f: impl FnMut(Completion) -> ControlFlow<()>) {
        // SAFETY: as above.
        while f(unsafe { self.sent() }).is_continue() && self.next() {}
    }

    /// Is there one more?
    #[inline(always)]
    fn next(&self) -> bool {
        // SAFETY: a live queue, by the contract of `begin`, between `start_poll` and `end_poll`.
        unsafe { (self.0.next)(self.0.cq.as_ptr()) == 0 }
    }

    /// # Safety
    ///
    /// A completion is on show.
    #[inline(always)]
    unsafe fn received(&self) -> Completion {
        // SAFETY: the caller's promise.
        let mut done = unsafe { self.bare() };
        if done.status == sys::IBV_WC_SUCCESS {
            let cq = self.0.cq.as_ptr();
            // SAFETY: the caller's promise; of a completion that succeeded all fields are valid.
            unsafe {
                done.byte_len = (self.0.byte_len)(cq);
                done.wc_flags = (self.0.wc_flags)(cq);
                done.stamp = (self.0.stamp)(cq);
                done.tag = (self.0.tag)(cq);
            }
        }
        done
    }

    /// # Safety
    ///
    /// A completion is on show.
    #[inline(always)]
    unsafe fn sent(&self) -> Completion {
        // SAFETY: the caller's promise.
        let mut done = unsafe { self.bare() };
        if self.0.stamp_kind != Stamp::None && done.status == sys::IBV_WC_SUCCESS {
            // SAFETY: as above.
            done.stamp = unsafe { (self.0.stamp)(self.0.cq.as_ptr()) };
        }
        done
    }

    /// What is valid whatever the status.
    ///
    /// # Safety
    ///
    /// A completion is on show.
    #[inline(always)]
    unsafe fn bare(&self) -> Completion {
        let cq = self.0.cq.as_ptr();
        // SAFETY: a live queue; the provider has written both fields.
        let (wr_id, status) = unsafe { ((*cq).wr_id, (*cq).status) };
        Completion { wr_id, status, ..Completion::default() }
    }
}

#[cold]
fn lost(errno: i32) -> Error {
    Error { kind: ErrorKind::QueueLost, op: "ibv_start_poll", errno: errno.abs() }
}
