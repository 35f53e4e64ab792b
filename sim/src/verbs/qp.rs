//! Raw packet queue pairs: what is posted, and the states they go through.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use linerate_common::clock::now_ns;
use linerate_ibverbs_sys::{self as sys, ibv_qp, ibv_qp_cap, ibv_sge, ibv_wc};

use super::cq::{CqState, Entry};
use super::device::{Shared, lock};
use super::faults::Forged;
use super::spread::Spread;

/// A buffer that waits for a frame.
#[derive(Debug)]
pub(super) struct RecvRequest {
    pub(super) wr_id: u64,
    pub(super) pieces: Vec<ibv_sge>,
}

/// A frame that waits to be sent.
#[derive(Debug)]
pub(super) struct SendRequest {
    pub(super) wr_id: u64,
    pub(super) signaled: bool,
    /// The card fills the checksums in.
    pub(super) checksums: bool,
    pub(super) body: Body,
}

/// Where a frame's bytes are.
#[derive(Debug)]
pub(super) enum Body {
    /// Copied when it was posted.
    Inline(Vec<u8>),
    /// In registered memory, read when it is sent.
    Pieces(Vec<ibv_sge>),
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) state: u32,
    pub(super) recv: VecDeque<RecvRequest>,
    pub(super) send: VecDeque<SendRequest>,
    /// Sent without a completion since the last that had one.
    pub(super) unsignaled: u32,
    /// A completion held back by a fault.
    pub(super) late: Option<Entry>,
}

/// What the hardware thread sees of a queue pair.
///
/// Lock order: the queues, then a completion queue's entries, then the device's memory and rules.
#[derive(Debug)]
pub(super) struct QpState {
    pub(super) number: u32,
    pub(super) cap: ibv_qp_cap,
    pub(super) queues: Mutex<Queues>,
    /// Send slots in use: from the post until a completion at or behind it was polled.
    pub(super) used: AtomicU32,
    pub(super) send_cq: Arc<CqState>,
    pub(super) recv_cq: Arc<CqState>,
    pub(super) signal_all: bool,
    /// Where its frames go on to, if it has no receive queue of its own.
    pub(super) spread: Option<Spread>,
    pub(super) shared: Arc<Shared>,
    /// The address libibverbs knows it by.
    pub(super) handle: AtomicU64,
    /// The event that says it failed.
    pub(super) fatal: u32,
}

/// What libibverbs sees: an `ibv_qp`, as long as a provider's, with our state behind it.
#[repr(C)]
pub(super) struct SimQp {
    pub(super) base: ibv_qp,
    /// Providers' queue pairs are `struct verbs_qp`: libibverbs looks at what follows.
    _verbs_qp: [u64; 28],
    pub(super) state: Arc<QpState>,
}

impl SimQp {
    pub(super) fn new(base: ibv_qp, state: Arc<QpState>) -> *mut Self {
        let qp = Box::into_raw(Box::new(Self { base, _verbs_qp: [0; 28], state: state.clone() }));
        state.handle.store(qp as u64, Ordering::Release);
        qp
    }
}

impl QpState {
    /// Slots come back to the sender.
    pub(super) fn give_back(&self, slots: u32) {
        self.used.fetch_sub(slots, Ordering::AcqRel);
    }

    /// A completion of this pair.
    pub(super) fn entry(
        self: &Arc<Self>,
        side: Side,
        wr_id: u64,
        status: u32,
        rest: Done,
    ) -> Entry {
        let opcode = match side {
            Side::Send => sys::IBV_WC_SEND,
            Side::Recv => sys::IBV_WC_RECV,
        };
        let wc = ibv_wc {
            wr_id,
            status,
            opcode,
            byte_len: rest.bytes,
            wc_flags: rest.wc_flags,
            qp_num: self.number,
            ..ibv_wc::default()
        };
        Entry { wc, at_ns: now_ns(), tag: rest.tag, frees: rest.frees, qp: Arc::clone(self) }
    }

    /// Completes one request. The caller holds the queues, so that nothing gets between a
    /// completion and the change of state that belongs to it: a program that resets the pair
    /// waits, and what it posts afterwards meets no leftovers.
    pub(super) fn complete(
        self: &Arc<Self>,
        _held: &mut Queues,
        side: Side,
        wr_id: u64,
        status: u32,
        rest: Done,
    ) {
        let entry = self.entry(side, wr_id, status, rest);
        match side {
            Side::Send => self.send_cq.push(entry),
            Side::Recv => self.recv_cq.push(entry),
        }
    }

    /// A completion that nothing stands behind.
    pub(super) fn forge(self: &Arc<Self>, forged: Forged) {
        let done = Done {
            bytes: forged.bytes,
            tag: forged.tag,
            wc_flags: forged.wc_flags,
            ..Done::default()
        };
        let (side, queue) = match forged.sent {
            true => (Side::Send, &self.send_cq),
            false => (Side::Recv, &self.recv_cq),
        };
        let mut entry = self.entry(side, forged.wr_id, forged.status, done);
        entry.wc.opcode = forged.opcode;
        entry.at_ns = forged.at_ns;
        queue.push(entry);
    }

    /// Into the error state: everything posted comes back flushed.
    pub(super) fn fail(self: &Arc<Self>, queues: &mut Queues) {
        queues.state = sys::IBV_QPS_ERR;
        queues.late = None;
        while let Some(request) = queues.recv.pop_front() {
            self.flush(queues, Side::Recv, request.wr_id);
        }
        while let Some(request) = queues.send.pop_front() {
            self.flush(queues, Side::Send, request.wr_id);
        }
    }

    /// Tells the program of a failure in the asynchronous way too, if the device does so.
    pub(super) fn raise(&self) {
        if self.shared.faults.fatal_events.load(Ordering::Acquire) {
            self.shared.event(self.handle.load(Ordering::Acquire), self.fatal);
        }
    }

    /// What becomes of a request that is posted to a pair in the error state, or was before.
    pub(super) fn flush(self: &Arc<Self>, queues: &mut Queues, side: Side, wr_id: u64) {
        let frees = match side {
            Side::Send => std::mem::take(&mut queues.unsignaled) + 1,
            Side::Recv => 0,
        };
        let done = Done { frees, ..Done::default() };
        self.complete(queues, side, wr_id, sys::IBV_WC_WR_FLUSH_ERR, done);
    }

    /// Back to the beginning: everything posted and completed is forgotten.
    pub(super) fn reset(&self) {
        let mut queues = lock(&self.queues);
        *queues = Queues::default();
        self.used.store(0, Ordering::Release);
        self.send_cq.forget(self.number);
        self.recv_cq.forget(self.number);
    }
}

/// Which half of a queue pair.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Send,
    Recv,
}

/// What a completion says besides its status.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) bytes: u32,
    pub(super) tag: u32,
    pub(super) wc_flags: u32,
    pub(super) frees: u32,
}
