//! What the C headers define as `static inline`: calls through the tables of a context.
//!
//! The hot ones ([`poll_cq`], [`post_send`], [`post_recv`], [`req_notify_cq`]) go through
//! `ibv_context.ops`. The others go through [`verbs_context`], which libibverbs lays out in front
//! of the context: usable only if the context says so and the table reaches that far. libibverbs
//! fills each slot it has with a function that answers `EOPNOTSUPP`, so a slot that is there says
//! nothing about support.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;

use crate::cq::{ibv_cq, ibv_cq_ex, ibv_cq_init_attr_ex, ibv_wc};
use crate::device::{
    VERBS_ABI_IS_EXTENDED, ibv_context, ibv_device_attr_ex, ibv_parent_domain_init_attr, ibv_pd,
    ibv_port_attr, ibv_td, ibv_td_init_attr, ibv_values_ex, verbs_context,
};
use crate::flow::{ibv_flow, ibv_flow_attr};
use crate::qp::{ibv_qp, ibv_qp_init_attr_ex};
use crate::wq::{
    ibv_rwq_ind_table, ibv_rwq_ind_table_init_attr, ibv_wq, ibv_wq_attr, ibv_wq_init_attr,
};
use crate::wr::{ibv_recv_wr, ibv_send_wr};

/// `ibv_poll_cq`: completions written to `wc`, or negative.
///
/// # Safety
///
/// `cq` is a live queue that no other thread polls with a provider lock switched off, and `wc`
/// has room for `n`.
#[inline]
pub unsafe fn poll_cq(cq: *mut ibv_cq, n: c_int, wc: *mut ibv_wc) -> c_int {
    // SAFETY: a live queue has a live context; the rest is the caller's promise.
    unsafe {
        match (*(*cq).context).ops.poll_cq {
            Some(poll) => poll(cq, n, wc),
            None => -libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_req_notify_cq`: 0 or an errno value.
///
/// # Safety
///
/// `cq` is a live queue with a completion channel.
#[inline]
pub unsafe fn req_notify_cq(cq: *mut ibv_cq, solicited_only: c_int) -> c_int {
    // SAFETY: as in `poll_cq`.
    unsafe {
        match (*(*cq).context).ops.req_notify_cq {
            Some(arm) => arm(cq, solicited_only),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_post_send`: 0, or an errno value with `bad` at the first request that was not posted;
/// all before it are.
///
/// # Safety
///
/// `qp` is live, `wr` a list of valid requests whose memory outlives the call (and, for what
/// they point to, the completion), `bad` valid for writing.
#[inline]
pub unsafe fn post_send(
    qp: *mut ibv_qp,
    wr: *mut ibv_send_wr,
    bad: *mut *mut ibv_send_wr,
) -> c_int {
    // SAFETY: as in `poll_cq`.
    unsafe {
        match (*(*qp).context).ops.post_send {
            Some(post) => post(qp, wr, bad),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_post_recv`: as [`post_send`].
///
/// # Safety
///
/// As [`post_send`].
#[inline]
pub unsafe fn post_recv(
    qp: *mut ibv_qp,
    wr: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: as in `poll_cq`.
    unsafe {
        match (*(*qp).context).ops.post_recv {
            Some(post) => post(qp, wr, bad),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_post_wq_recv`: as [`post_recv`], on a work queue.
///
/// # Safety
///
/// As [`post_send`].
#[inline]
pub unsafe fn post_wq_recv(
    wq: *mut ibv_wq,
    wr: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: a live work queue; the rest is the caller's promise.
    unsafe {
        match (*wq).post_recv {
            Some(post) => post(wq, wr, bad),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// The [`verbs_context`] around `context`, if it has one whose table holds the slot at `offset`.
///
/// # Safety
///
/// `context` is a live context.
unsafe fn extended(context: *mut ibv_context, offset: usize) -> Option<*const verbs_context> {
    // SAFETY: every context ends in `abi_compat`. When it has the magic value, libibverbs
    // allocated a verbs_context around it, at least as long as its `sz` says, counted from the
    // end: a slot exists if `sz` covers the way from the slot to the end.
    unsafe {
        if (*context).abi_compat as usize != VERBS_ABI_IS_EXTENDED {
            return None;
        }
        let outer = context.byte_sub(offset_of!(verbs_context, context)).cast::<verbs_context>();
        let size = (&raw const (*outer).sz).read();
        (size >= size_of::<verbs_context>() - offset).then_some(outer.cast_const())
    }
}

/// Reads a slot of the [`verbs_context`] of a live context.
macro_rules! slot {
    ($context:expr, $field:ident) => {
        match extended($context, offset_of!(verbs_context, $field)) {
            Some(outer) => (&raw const (*outer).$field).read(),
            None => None,
        }
    };
}

/// NULL with `errno` set to `EOPNOTSUPP`, as the C inlines answer.
fn unsupported<T>() -> *mut T {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = libc::EOPNOTSUPP };
    std::ptr::null_mut()
}

/// `ibv_query_port`, the header's macro and not the symbol, which writes a shorter struct.
///
/// # Safety
///
/// `context` is live, `attr` valid for writing and zeroed.
pub unsafe fn query_port(context: *mut ibv_context, port: u8, attr: *mut ibv_port_attr) -> c_int {
    // SAFETY: the callee writes at most the size we pass.
    unsafe {
        match slot!(context, query_port) {
            Some(query) => query(context, port, attr, size_of::<ibv_port_attr>()),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_query_device_ex`, without its fallback: `EOPNOTSUPP` means `ibv_query_device`.
///
/// # Safety
///
/// `context` is live, `attr` valid for writing and zeroed.
pub unsafe fn query_device_ex(context: *mut ibv_context, attr: *mut ibv_device_attr_ex) -> c_int {
    // SAFETY: the callee writes at most the size we pass; a null input means none.
    unsafe {
        match slot!(context, query_device_ex) {
            Some(query) => query(context, std::ptr::null(), attr, size_of::<ibv_device_attr_ex>()),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_query_rt_values_ex`.
///
/// # Safety
///
/// `context` is live, `values` valid, with `comp_mask` set.
pub unsafe fn query_rt_values(context: *mut ibv_context, values: *mut ibv_values_ex) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!(context, query_rt_values) {
            Some(query) => query(context, values),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_create_cq_ex`: NULL with errno when it fails.
///
/// # Safety
///
/// `context` is live, `attr` valid.
pub unsafe fn create_cq_ex(
    context: *mut ibv_context,
    attr: *mut ibv_cq_init_attr_ex,
) -> *mut ibv_cq_ex {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!(context, create_cq_ex) {
            Some(create) => create(context, attr),
            None => unsupported(),
        }
    }
}

/// `ibv_create_qp_ex`, for attributes whose `comp_mask` is more than `PD` alone.
///
/// # Safety
///
/// `context` is live, `attr` valid.
pub unsafe fn create_qp_ex(
    context: *mut ibv_context,
    attr: *mut ibv_qp_init_attr_ex,
) -> *mut ibv_qp {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!(context, create_qp_ex) {
            Some(create) => create(context, attr),
            None => unsupported(),
        }
    }
}

/// `ibv_create_flow`: NULL with errno when it fails.
///
/// # Safety
///
/// `qp` is live; `attr` heads one block of `attr.size` bytes that holds the specs.
pub unsafe fn create_flow(qp: *mut ibv_qp, attr: *mut ibv_flow_attr) -> *mut ibv_flow {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!((*qp).context, ibv_create_flow) {
            Some(create) => create(qp, attr),
            None => unsupported(),
        }
    }
}

/// `ibv_destroy_flow`: 0 or an errno, negative from old libraries.
///
/// # Safety
///
/// `flow` is live and not used after.
pub unsafe fn destroy_flow(flow: *mut ibv_flow) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!((*flow).context, ibv_destroy_flow) {
            Some(destroy) => destroy(flow),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_create_wq`.
///
/// # Safety
///
/// `context` is live, `attr` valid.
pub unsafe fn create_wq(context: *mut ibv_context, attr: *mut ibv_wq_init_attr) -> *mut ibv_wq {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(create) = slot!(context, create_wq) else { return unsupported() };
        let wq = create(context, attr);
        if !wq.is_null() {
            // Providers leave these to the caller.
            (*wq).wq_context = (*attr).wq_context;
            (*wq).events_completed = 0;
            libc::pthread_mutex_init(&raw mut (*wq).mutex, std::ptr::null());
            libc::pthread_cond_init(&raw mut (*wq).cond, std::ptr::null());
        }
        wq
    }
}

/// `ibv_modify_wq`.
///
/// # Safety
///
/// `wq` is live, `attr` valid.
pub unsafe fn modify_wq(wq: *mut ibv_wq, attr: *mut ibv_wq_attr) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!((*wq).context, modify_wq) {
            Some(modify) => modify(wq, attr),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_destroy_wq`.
///
/// # Safety
///
/// `wq` is live and not used after.
pub unsafe fn destroy_wq(wq: *mut ibv_wq) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!((*wq).context, destroy_wq) {
            Some(destroy) => destroy(wq),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_create_rwq_ind_table`.
///
/// # Safety
///
/// `context` is live, `attr` valid, with as many work queues as its logarithm says.
pub unsafe fn create_rwq_ind_table(
    context: *mut ibv_context,
    attr: *mut ibv_rwq_ind_table_init_attr,
) -> *mut ibv_rwq_ind_table {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!(context, create_rwq_ind_table) {
            Some(create) => create(context, attr),
            None => unsupported(),
        }
    }
}

/// `ibv_destroy_rwq_ind_table`.
///
/// # Safety
///
/// `table` is live and not used after.
pub unsafe fn destroy_rwq_ind_table(table: *mut ibv_rwq_ind_table) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!((*table).context, destroy_rwq_ind_table) {
            Some(destroy) => destroy(table),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_alloc_td`.
///
/// # Safety
///
/// `context` is live, `attr` valid.
pub unsafe fn alloc_td(context: *mut ibv_context, attr: *mut ibv_td_init_attr) -> *mut ibv_td {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!(context, alloc_td) {
            Some(alloc) => alloc(context, attr),
            None => unsupported(),
        }
    }
}

/// `ibv_dealloc_td`.
///
/// # Safety
///
/// `td` is live and not used after.
pub unsafe fn dealloc_td(td: *mut ibv_td) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!((*td).context, dealloc_td) {
            Some(dealloc) => dealloc(td),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_alloc_parent_domain`.
///
/// # Safety
///
/// `context` is live, `attr` valid.
pub unsafe fn alloc_parent_domain(
    context: *mut ibv_context,
    attr: *mut ibv_parent_domain_init_attr,
) -> *mut ibv_pd {
    // SAFETY: the caller's promise.
    unsafe {
        match slot!(context, alloc_parent_domain) {
            Some(alloc) => alloc(context, attr),
            None => unsupported(),
        }
    }
}

/// A completion queue seen as the basic kind (`ibv_cq_ex_to_cq`).
#[must_use]
pub fn cq_ex_to_cq(cq: *mut ibv_cq_ex) -> *mut ibv_cq {
    cq.cast::<c_void>().cast()
}
