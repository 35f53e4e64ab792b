//! The device's own thread: takes frames from the wire into posted buffers, and frames of the
//! send queues to the wire.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use linerate_ibverbs_sys::{self as sys, ibv_sge};

use crate::cable::{WireFrame, WireState};

use super::checksum;
use super::device::{Shared, lock};
use super::faults::{RecvFault, SendFault};
use super::qp::{Body, Done, QpState, Queues, Side};

/// Frames that one queue pair may send before others get their turn.
const TURN: usize = 64;

pub(super) fn run(shared: &Shared) {
    while !shared.stop.load(Ordering::Acquire) {
        let idle = shared.faults.stalled.load(Ordering::Acquire) || !work(shared);
        if idle {
            // A wire unparks us; a veth does not, and is looked at this often.
            thread::park_timeout(Duration::from_micros(200));
        }
    }
}

/// One round over all queues; `false` when there was nothing to do.
pub(super) fn work(shared: &Shared) -> bool {
    let mut busy = false;
    let qps: Vec<Arc<QpState>> = lock(&shared.qps).clone();
    for qp in &qps {
        for _ in 0..TURN {
            if !send_one(shared, qp) {
                break;
            }
            busy = true;
        }
    }
    for _ in 0..TURN {
        let Some(frame) = shared.plug.recv() else { break };
        receive(shared, &frame);
        busy = true;
    }
    busy
}

/// Sends the first frame of a queue; `false` when there is none or the wire is full.
fn send_one(shared: &Shared, qp: &Arc<QpState>) -> bool {
    let mut queues = lock(&qp.queues);
    if queues.state != sys::IBV_QPS_RTS {
        return false;
    }
    let Some(request) = queues.send.front() else { return false };
    let bytes = match &request.body {
        Body::Inline(bytes) => Some(bytes.clone()),
        Body::Pieces(pieces) => gather(shared, pieces),
    };
    let checksums = request.checksums;
    let Some(mut bytes) = bytes else {
        broken(qp, &mut queues, sys::IBV_WC_LOC_PROT_ERR);
        return true;
    };
    if checksums {
        checksum::fill(&mut bytes);
    }
    // Looked at before and counted after the frame has left: a full wire tries again.
    let fault = shared.faults.planned_send();
    if let Some(SendFault::Status(status)) = fault {
        shared.faults.sent_one();
        broken(qp, &mut queues, status);
        return true;
    }
    let vanishes = fault == Some(SendFault::Vanish) || !shared.link_up.load(Ordering::Acquire);
    if !vanishes && !shared.plug.send(&bytes, WireState::Good) {
        return false;
    }
    shared.faults.sent_one();
    let Some(request) = queues.send.pop_front() else { return false };
    if request.signaled {
        let frees = std::mem::take(&mut queues.unsignaled) + 1;
        let done = Done { frees, ..Done::default() };
        qp.complete(&mut queues, Side::Send, request.wr_id, sys::IBV_WC_SUCCESS, done);
    } else {
        queues.unsignaled += 1;
    }
    true
}

/// An error completion for the request at the front, and the queue pair stops: the state and all
/// completions, the error first, in one step.
fn broken(qp: &Arc<QpState>, queues: &mut Queues, status: u32) {
    if let Some(request) = queues.send.pop_front() {
        let frees = std::mem::take(&mut queues.unsignaled) + 1;
        let done = Done { frees, ..Done::default() };
        qp.complete(queues, Side::Send, request.wr_id, status, done);
    }
    qp.fail(queues);
    qp.raise();
}

/// Steers a frame: sniffers get a copy, then the rule with the lowest priority number takes it,
/// then the defaults.
fn receive(shared: &Shared, frame: &WireFrame) {
    if frame.state != WireState::Good {
        shared.crc.fetch_add(1, Ordering::AcqRel);
        return;
    }
    if !shared.link_up.load(Ordering::Acquire) {
        return;
    }
    let mut targets: Vec<(u32, u32)> = Vec::new();
    {
        let rules = lock(&shared.rules);
        let of = |type_: u32| rules.iter().map(|(_, rule)| rule).filter(move |r| r.type_ == type_);
        for rule in of(sys::IBV_FLOW_ATTR_SNIFFER) {
            targets.push((rule.qp, rule.tag));
        }
        let normal = of(sys::IBV_FLOW_ATTR_NORMAL).filter(|rule| rule.matches(&frame.bytes));
        let best = normal
            .min_by_key(|rule| rule.priority)
            .or_else(|| of(sys::IBV_FLOW_ATTR_MC_DEFAULT).find(|rule| rule.matches(&frame.bytes)))
            .or_else(|| of(sys::IBV_FLOW_ATTR_ALL_DEFAULT).next());
        match best {
            Some(rule) => targets.push((rule.qp, rule.tag)),
            None => {
                shared.unmatched.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
    for (number, tag) in targets {
        // Looked up now: the pair may be younger than this round.
        let qp = lock(&shared.qps).iter().find(|qp| qp.number == number).cloned();
        let Some(qp) = qp else { continue };
        match &qp.spread {
            None => deliver(shared, &qp, &frame.bytes, tag),
            Some(spread) => {
                if let Some(queue) = spread.queue(&frame.bytes) {
                    deliver(shared, queue, &frame.bytes, tag);
                }
            }
        }
    }
}

/// Writes a frame into the first posted buffer and completes it, all while it holds the queues: a
/// program that resets the pair meanwhile gets its buffers back only after the last write.
fn deliver(shared: &Shared, qp: &Arc<QpState>, bytes: &[u8], tag: u32) {
    let mut queues = lock(&qp.queues);
    if !matches!(queues.state, sys::IBV_QPS_RTR | sys::IBV_QPS_RTS) {
        return;
    }
    let Some(request) = queues.recv.pop_front() else {
        shared.out_of_buffer.fetch_add(1, Ordering::AcqRel);
        return;
    };
    let fault = shared.faults.planned_recv();
    let status = match fault {
        Some(RecvFault::Status(status)) => status,
        _ => scatter(shared, &request.pieces, bytes),
    };
    if let Some(entry) = queues.late.take() {
        qp.recv_cq.push(entry);
    }
    let wc_flags = if checksum::good(bytes) { sys::IBV_WC_IP_CSUM_OK } else { 0 };
    let done = Done { bytes: bytes.len() as u32, tag, wc_flags, ..Done::default() };
    if fault == Some(RecvFault::Late) && status == sys::IBV_WC_SUCCESS {
        queues.late = Some(qp.entry(Side::Recv, request.wr_id, status, done));
    } else {
        qp.complete(&mut queues, Side::Recv, request.wr_id, status, done);
        if fault == Some(RecvFault::Twice) {
            qp.complete(&mut queues, Side::Recv, request.wr_id, status, done);
        }
    }
    shared.faults.received_one();
    if status != sys::IBV_WC_SUCCESS {
        qp.fail(&mut queues);
        qp.raise();
    }
}

/// Reads a frame out of registered memory; `None` when a piece lies outside it.
fn gather(shared: &Shared, pieces: &[ibv_sge]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for piece in pieces {
        inside(shared, piece)?;
        let start = bytes.len();
        bytes.resize(start + piece.length as usize, 0);
        // SAFETY: the piece lies in memory that the program registered, keeps mapped, and has
        // given to the device until the completion.
        unsafe {
            let to = bytes.as_mut_ptr().add(start);
            std::ptr::copy_nonoverlapping(piece.addr as *const u8, to, piece.length as usize);
        }
    }
    Some(bytes)
}

/// Writes a frame into registered memory; gives the completion's status.
fn scatter(shared: &Shared, pieces: &[ibv_sge], mut bytes: &[u8]) -> u32 {
    let room: usize = pieces.iter().map(|piece| piece.length as usize).sum();
    if bytes.len() > room {
        return sys::IBV_WC_LOC_LEN_ERR;
    }
    for piece in pieces {
        if inside(shared, piece).is_none() {
            return sys::IBV_WC_LOC_PROT_ERR;
        }
        let (now, rest) = bytes.split_at(bytes.len().min(piece.length as usize));
        // SAFETY: as in `gather`; the program does not look at it before the completion.
        unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), piece.addr as *mut u8, now.len()) };
        bytes = rest;
    }
    sys::IBV_WC_SUCCESS
}

fn inside(shared: &Shared, piece: &ibv_sge) -> Option<()> {
    let (start, len) = *lock(&shared.memory).get(&piece.lkey)?;
    let end = piece.addr.checked_add(u64::from(piece.length))?;
    (piece.addr >= start && end <= start + len).then_some(())
}
