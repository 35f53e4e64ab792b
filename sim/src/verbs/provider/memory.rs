//! Protection domains and registrations.

use std::ffi::{c_int, c_void};

use linerate_ibverbs_sys::{ibv_context, ibv_mr, ibv_pd};

use super::{fail, shared};
use crate::verbs::device::lock;

pub(super) unsafe extern "C" fn alloc_pd(context: *mut ibv_context) -> *mut ibv_pd {
    // SAFETY: a context of ours.
    let state = unsafe { shared(context) };
    if state.faults.fails() {
        return fail(libc::ENOMEM);
    }
    state.count(1);
    Box::into_raw(Box::new(ibv_pd { context, handle: state.number() }))
}

pub(super) unsafe extern "C" fn dealloc_pd(pd: *mut ibv_pd) -> c_int {
    // SAFETY: a domain that `alloc_pd` made, given back once.
    unsafe {
        shared((*pd).context).count(-1);
        drop(Box::from_raw(pd));
    }
    0
}

/// What a provider gives for a registration: `struct verbs_mr`, 56 bytes.
#[repr(C)]
pub(super) struct SimMr {
    base: ibv_mr,
    rest: u64,
}

pub(super) unsafe extern "C" fn reg_mr(
    pd: *mut ibv_pd,
    addr: *mut c_void,
    length: usize,
    _iova: u64,
    _access: c_int,
) -> *mut ibv_mr {
    // SAFETY: a domain of ours.
    let (context, state) = unsafe { ((*pd).context, shared((*pd).context)) };
    if state.faults.fails() {
        return fail(libc::ENOMEM);
    }
    let key = state.number();
    lock(&state.memory).insert(key, (addr as u64, length as u64));
    state.count(1);
    let base = ibv_mr { context, pd, addr, length, handle: key, lkey: key, rkey: key };
    Box::into_raw(Box::new(SimMr { base, rest: 0 })).cast()
}

pub(super) unsafe extern "C" fn dereg_mr(mr: *mut SimMr) -> c_int {
    // SAFETY: a registration that `reg_mr` made, given back once.
    unsafe {
        let mr = Box::from_raw(mr);
        debug_assert_eq!(mr.rest, 0);
        let state = shared(mr.base.context);
        lock(&state.memory).remove(&mr.base.lkey);
        state.count(-1);
    }
    0
}
