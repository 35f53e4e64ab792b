//! Completion queues.

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use linerate_ibverbs_sys::{
    self as sys, ibv_comp_channel, ibv_context, ibv_cq, ibv_cq_init_attr_ex, ibv_wc,
};

use super::channel::pipe_of;
use super::{fail, shared};
use crate::verbs::cq::SimCq;
use crate::verbs::faults::StampKind;

/// Completions that a queue gets: a power of two less one, as on mlx5. That can be fewer than the
/// pair which uses it is granted.
fn granted(entries: u32) -> u32 {
    (entries + 1).next_power_of_two() - 1
}

pub(super) unsafe extern "C" fn create_cq(
    context: *mut ibv_context,
    entries: c_int,
    channel: *mut ibv_comp_channel,
    _vector: c_int,
) -> *mut ibv_cq {
    // SAFETY: a context of ours, a live channel or null.
    unsafe {
        let Ok(entries @ 1..=65536) = u32::try_from(entries) else { return fail(libc::EINVAL) };
        if shared(context).faults.fails() {
            return fail(libc::ENOMEM);
        }
        SimCq::create(shared(context), granted(entries), pipe_of(channel)).cast()
    }
}

pub(super) unsafe extern "C" fn create_cq_ex(
    context: *mut ibv_context,
    attr: *mut ibv_cq_init_attr_ex,
) -> *mut SimCq {
    // SAFETY: a context of ours and the caller's attributes.
    unsafe {
        let state = shared(context);
        if !(1..=65536).contains(&(*attr).cqe) {
            return fail(libc::EINVAL);
        }
        let flags = (*attr).wc_flags;
        let wall = flags & sys::IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK != 0;
        let raw = flags & sys::IBV_WC_EX_WITH_COMPLETION_TIMESTAMP != 0;
        let tag = flags & sys::IBV_WC_EX_WITH_FLOW_TAG != 0;
        let refused = state.faults.no_extended_cq.load(Ordering::Acquire)
            || wall && state.stamps != StampKind::Wallclock
            || raw && state.stamps == StampKind::None
            || tag && state.faults.no_flow_tags.load(Ordering::Acquire);
        if refused {
            return fail(libc::EOPNOTSUPP);
        }
        if state.faults.fails() {
            return fail(libc::ENOMEM);
        }
        let cq = SimCq::create(state, granted((*attr).cqe), pipe_of((*attr).channel));
        (*cq).extend(flags);
        cq
    }
}

pub(super) unsafe extern "C" fn destroy_cq(cq: *mut SimCq) -> c_int {
    // SAFETY: a queue of ours; libibverbs has waited for its events.
    unsafe {
        (*cq).state.forget_events();
        SimCq::destroy(cq);
    }
    0
}

pub(super) unsafe extern "C" fn poll_cq(cq: *mut SimCq, n: c_int, wc: *mut ibv_wc) -> c_int {
    let Ok(n) = usize::try_from(n) else { return -1 };
    // SAFETY: a queue of ours and room for `n` completions.
    unsafe { (*cq).state.poll(std::slice::from_raw_parts_mut(wc, n)) }
}

pub(super) unsafe extern "C" fn req_notify_cq(cq: *mut SimCq, _solicited: c_int) -> c_int {
    // SAFETY: a queue of ours.
    unsafe { (*cq).state.arm() }
}
