//! Posting receive and send requests.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linerate_ibverbs_sys::{self as sys, ibv_recv_wr, ibv_send_wr, ibv_wq};

use super::shared;
use crate::verbs::device::{Shared, lock};
use crate::verbs::qp::{Body, QpState, RecvRequest, SendRequest, Side, SimQp};
use crate::verbs::spread::SimWq;

/// Requests that one post call takes: the planned limit, or all.
fn post_limit(state: &Shared) -> u32 {
    match state.faults.post_limit.load(Ordering::Acquire) {
        0 => u32::MAX,
        limit => limit,
    }
}

pub(super) unsafe extern "C" fn post_recv(
    qp: *mut SimQp,
    wr: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: a queue pair of ours; the rest is the caller's promise.
    unsafe { post_receives(&(*qp).state, wr, bad) }
}

pub(super) unsafe extern "C" fn post_wq_recv(
    wq: *mut ibv_wq,
    wr: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: a work queue of ours; the rest is the caller's promise.
    unsafe { post_receives(&(*wq.cast::<SimWq>()).state, wr, bad) }
}

/// # Safety
///
/// `wr` is a list of requests that lives through the call.
unsafe fn post_receives(
    qp: &Arc<QpState>,
    mut wr: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let state = &qp.shared;
        let mut queues = lock(&qp.queues);
        let mut left = if state.faults.fails() { 0 } else { post_limit(state) };
        while !wr.is_null() {
            let errno = if queues.state == sys::IBV_QPS_RESET {
                libc::EINVAL
            } else if queues.recv.len() as u32 >= qp.cap.max_recv_wr || left == 0 {
                libc::ENOMEM
            } else {
                0
            };
            if errno != 0 {
                bad.write(wr);
                return errno;
            }
            if queues.state == sys::IBV_QPS_ERR {
                qp.flush(&mut queues, Side::Recv, (*wr).wr_id);
            } else {
                queues.recv.push_back(RecvRequest { wr_id: (*wr).wr_id, pieces: pieces(wr) });
            }
            left -= 1;
            wr = (*wr).next;
        }
    }
    0
}

/// # Safety
///
/// `wr` points to a request whose list is as long as it says.
unsafe fn pieces(wr: *mut ibv_recv_wr) -> Vec<sys::ibv_sge> {
    // SAFETY: the caller's promise.
    unsafe {
        let n = usize::try_from((*wr).num_sge).unwrap_or(0);
        (0..n).map(|i| *(*wr).sg_list.add(i)).collect()
    }
}

pub(super) unsafe extern "C" fn post_send(
    qp: *mut SimQp,
    mut wr: *mut ibv_send_wr,
    bad: *mut *mut ibv_send_wr,
) -> c_int {
    // SAFETY: a queue pair of ours, a list of requests that lives through the call; inline bytes
    // are copied now, the others when the frame is sent.
    unsafe {
        let state = shared((*qp).base.context);
        let qp = &(*qp).state;
        let mut left = post_limit(state);
        let mut result = 0;
        while !wr.is_null() {
            let mut queues = lock(&qp.queues);
            let n = usize::try_from((*wr).num_sge).unwrap_or(0);
            let list: Vec<_> = (0..n).map(|i| *(*wr).sg_list.add(i)).collect();
            let total: u32 = list.iter().map(|piece| piece.length).sum();
            let inline = (*wr).send_flags & sys::IBV_SEND_INLINE != 0;
            let too_long = inline && total > qp.cap.max_inline_data;
            let ready = matches!(queues.state, sys::IBV_QPS_RTS | sys::IBV_QPS_ERR);
            result = if !ready || n == 0 || too_long {
                libc::EINVAL
            } else if qp.used.load(Ordering::Acquire) >= qp.cap.max_send_wr || left == 0 {
                libc::ENOMEM
            } else {
                0
            };
            if result != 0 {
                bad.write(wr);
                break;
            }
            let body = if inline {
                let bytes = list.iter().flat_map(|piece| {
                    std::slice::from_raw_parts(piece.addr as *const u8, piece.length as usize)
                });
                Body::Inline(bytes.copied().collect())
            } else {
                Body::Pieces(list)
            };
            let signaled = qp.signal_all || (*wr).send_flags & sys::IBV_SEND_SIGNALED != 0;
            qp.used.fetch_add(1, Ordering::AcqRel);
            if queues.state == sys::IBV_QPS_ERR {
                qp.flush(&mut queues, Side::Send, (*wr).wr_id);
            } else {
                queues.send.push_back(SendRequest {
                    wr_id: (*wr).wr_id,
                    signaled,
                    checksums: (*wr).send_flags & sys::IBV_SEND_IP_CSUM != 0,
                    body,
                });
            }
            left -= 1;
            wr = (*wr).next;
        }
        state.wake();
        result
    }
}
