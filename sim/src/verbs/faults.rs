//! What goes wrong on purpose.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use std::collections::VecDeque;

/// What happens to one received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvFault {
    /// Its completion carries this status (`IBV_WC_*`), and the queue pair goes to ERR.
    Status(u32),
    /// It is completed, but the completion is held back until the next frame's.
    Late,
    /// It is completed twice.
    Twice,
}

/// What happens to one sent frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFault {
    /// It does not leave, its completion carries this status, and the queue pair goes to ERR.
    Status(u32),
    /// It never reaches the wire, and nothing says so.
    Vanish,
}

/// A completion of any content, as only a broken card or library would give it: see
/// [`Device::forge`](super::Device::forge).
#[derive(Debug, Clone, Copy, Default)]
pub struct Forged {
    /// Goes to the queues of sent frames, not to those of received ones.
    pub sent: bool,
    /// The number of the request.
    pub wr_id: u64,
    /// `IBV_WC_*`.
    pub status: u32,
    /// `IBV_WC_SEND` and the like.
    pub opcode: u32,
    /// Bytes that were written.
    pub bytes: u32,
    /// `IBV_WC_*` flags.
    pub wc_flags: u32,
    /// The flow that matched.
    pub tag: u32,
    /// When it was completed.
    pub at_ns: u64,
}

/// How the device stamps completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StampKind {
    /// ns of a wall clock, and raw ticks on request.
    #[default]
    Wallclock,
    /// A counter of 48 bits at 156.25 MHz.
    Ticks,
    /// Seconds in the upper half, ns in the lower.
    RealTime,
    /// The device refuses timestamps.
    None,
}

/// Faults of one device, set while it runs.
#[derive(Debug, Default)]
pub struct Faults {
    pub(super) recv: Mutex<VecDeque<(u64, RecvFault)>>,
    pub(super) send: Mutex<VecDeque<(u64, SendFault)>>,
    pub(super) post_limit: AtomicU32,
    pub(super) stalled: AtomicBool,
    pub(super) busy_polls: AtomicU32,
    pub(super) no_flow_tags: AtomicBool,
    pub(super) no_extended_cq: AtomicBool,
    pub(super) fatal_events: AtomicBool,
    /// One more than the calls to go before one fails; 0: none does.
    calls: AtomicI64,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
}

impl Faults {
    /// The `n`-th frame from now that a queue pair receives (0: the next).
    pub fn on_recv(&self, n: u64, fault: RecvFault) {
        let at = self.received.load(Ordering::Acquire) + n;
        super::device::lock(&self.recv).push_back((at, fault));
    }

    /// The `n`-th frame from now that a queue pair sends.
    pub fn on_send(&self, n: u64, fault: SendFault) {
        let at = self.sent.load(Ordering::Acquire) + n;
        super::device::lock(&self.send).push_back((at, fault));
    }

    /// Post calls take at most this many requests of a list and refuse the rest with ENOMEM;
    /// 0: no limit.
    pub fn limit_posts(&self, requests: u32) {
        self.post_limit.store(requests, Ordering::Release);
    }

    /// The device stops working on its queues, or goes on.
    pub fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Release);
    }

    /// The next `n` calls of `ibv_start_poll` answer EBUSY.
    pub fn busy_polls(&self, n: u32) {
        self.busy_polls.store(n, Ordering::Release);
    }

    /// The device refuses flow tags, in flows and in completions.
    pub fn refuse_flow_tags(&self) {
        self.no_flow_tags.store(true, Ordering::Release);
    }

    /// The device has only basic completion queues.
    pub fn refuse_extended_cq(&self) {
        self.no_extended_cq.store(true, Ordering::Release);
    }

    /// Frames that were given a buffer so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// A pair that an error stops also raises `IBV_EVENT_QP_FATAL`, as some drivers do.
    pub fn raise_fatal_events(&self) {
        self.fatal_events.store(true, Ordering::Release);
    }

    /// Of the calls from now on that make something (domains, registrations, queues of all kinds,
    /// tables, flows), change a state upwards or post a receive, the `n`-th (0: the next) fails
    /// with ENOMEM.
    pub fn fail_call(&self, n: u32) {
        self.calls.store(i64::from(n) + 1, Ordering::Release);
    }

    /// Was the call that [`fail_call`](Self::fail_call) planned made?
    #[must_use]
    pub fn call_failed(&self) -> bool {
        self.calls.load(Ordering::Acquire) <= 0
    }

    /// Is this the call that fails?
    pub(super) fn fails(&self) -> bool {
        let mut unlucky = false;
        let _ = self.calls.fetch_update(Ordering::AcqRel, Ordering::Acquire, |to_go| {
            unlucky = to_go == 1;
            (to_go > 0).then_some(to_go - 1)
        });
        unlucky
    }

    pub(super) fn planned_recv(&self) -> Option<RecvFault> {
        take(&self.recv, self.received.load(Ordering::Acquire))
    }

    pub(super) fn received_one(&self) {
        self.received.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn planned_send(&self) -> Option<SendFault> {
        let now = self.sent.load(Ordering::Acquire);
        let planned = super::device::lock(&self.send);
        planned.iter().find(|(when, _)| *when == now).map(|(_, fault)| *fault)
    }

    pub(super) fn sent_one(&self) {
        self.sent.fetch_add(1, Ordering::AcqRel);
    }
}

fn take<T: Copy>(planned: &Mutex<VecDeque<(u64, T)>>, now: u64) -> Option<T> {
    let mut planned = super::device::lock(planned);
    let at = planned.iter().position(|(when, _)| *when == now)?;
    planned.remove(at).map(|(_, fault)| fault)
}
