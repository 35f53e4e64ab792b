//! Work queues, and the tables that spread frames over them.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linerate_ibverbs_sys::{
    self as sys, ibv_context, ibv_qp_init_attr, ibv_rwq_ind_table, ibv_rwq_ind_table_init_attr,
    ibv_wq, ibv_wq_attr, ibv_wq_init_attr,
};

use super::post::post_wq_recv;
use super::qp::new_state;
use super::{MAX_WR, fail, shared};
use crate::verbs::device::lock;
use crate::verbs::qp::QpState;
use crate::verbs::spread::{SimTable, SimWq};

/// Most entries of a table.
pub(super) const MAX_TABLE: u32 = 128;

pub(super) unsafe extern "C" fn create_wq(
    context: *mut ibv_context,
    attr: *mut ibv_wq_init_attr,
) -> *mut SimWq {
    // SAFETY: a context, a queue and attributes of the caller's, all ours; all-zero is a value of
    // these C structs.
    unsafe {
        let asked = &mut *attr;
        let state = shared(context);
        if asked.max_wr == 0 || asked.max_wr > MAX_WR {
            return fail(libc::EINVAL);
        }
        if state.faults.fails() {
            return fail(libc::ENOMEM);
        }
        asked.max_wr = asked.max_wr.next_power_of_two();
        let mut like: ibv_qp_init_attr = std::mem::zeroed();
        like.recv_cq = asked.cq;
        like.cap.max_recv_wr = asked.max_wr;
        let mut queue = new_state(state, &like, None);
        queue.fatal = sys::IBV_EVENT_WQ_FATAL;
        let queue = Arc::new(queue);
        let mut base: ibv_wq = std::mem::zeroed();
        (base.context, base.pd, base.cq) = (context, asked.pd, asked.cq);
        base.wq_num = queue.number;
        base.wq_type = asked.wq_type;
        base.post_recv = Some(post_wq_recv);
        state.count(1);
        let wq = Box::into_raw(Box::new(SimWq { base, state: Arc::clone(&queue) }));
        queue.handle.store(wq as u64, Ordering::Release);
        wq
    }
}

pub(super) unsafe extern "C" fn modify_wq(wq: *mut SimWq, attr: *mut ibv_wq_attr) -> c_int {
    // SAFETY: a work queue of ours and the caller's attributes.
    let (wq, attr) = unsafe { (&mut *wq, &*attr) };
    if attr.attr_mask != sys::IBV_WQ_ATTR_STATE {
        return libc::EINVAL;
    }
    match attr.wq_state {
        sys::IBV_WQS_RESET => wq.state.reset(),
        sys::IBV_WQS_ERR => wq.state.fail(&mut lock(&wq.state.queues)),
        sys::IBV_WQS_RDY if wq.state.shared.faults.fails() => return libc::ENOMEM,
        sys::IBV_WQS_RDY => lock(&wq.state.queues).state = sys::IBV_QPS_RTR,
        _ => return libc::EINVAL,
    }
    wq.base.state = attr.wq_state;
    0
}

pub(super) unsafe extern "C" fn destroy_wq(wq: *mut SimWq) -> c_int {
    // SAFETY: a work queue of ours; freed only if no table points to it. Tables and the wq itself
    // hold the state.
    unsafe {
        let state: &Arc<QpState> = &(*wq).state;
        state.recv_cq.forget(state.number);
        if Arc::strong_count(state) > 1 {
            return libc::EBUSY;
        }
        state.reset();
        state.shared.forget_events(wq as u64);
        state.shared.count(-1);
        drop(Box::from_raw(wq));
    }
    0
}

pub(super) unsafe extern "C" fn create_table(
    context: *mut ibv_context,
    attr: *mut ibv_rwq_ind_table_init_attr,
) -> *mut SimTable {
    // SAFETY: a context of ours, as many work queues as the attributes say.
    unsafe {
        let state = shared(context);
        let entries = 1_usize << (*attr).log_ind_tbl_size;
        if entries > MAX_TABLE as usize {
            return fail(libc::EINVAL);
        }
        if state.faults.fails() {
            return fail(libc::ENOMEM);
        }
        let list = std::slice::from_raw_parts((*attr).ind_tbl, entries);
        let queues = list.iter().map(|wq| Arc::clone(&(*wq.cast::<SimWq>()).state)).collect();
        let number = state.number() as c_int;
        let base = ibv_rwq_ind_table {
            context,
            ind_tbl_handle: number,
            ind_tbl_num: number,
            comp_mask: 0,
        };
        state.count(1);
        Box::into_raw(Box::new(SimTable { base, queues }))
    }
}

pub(super) unsafe extern "C" fn destroy_table(table: *mut SimTable) -> c_int {
    // SAFETY: a table of ours, given back once.
    unsafe {
        let table = Box::from_raw(table);
        shared(table.base.context).count(-1);
    }
    0
}
