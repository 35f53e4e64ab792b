//! Flows: rules that steer frames to a queue pair.

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use linerate_ibverbs_sys::{ibv_flow, ibv_flow_attr};

use super::{fail, shared};
use crate::verbs::device::lock;
use crate::verbs::flow::Rule;
use crate::verbs::qp::{QpState, SimQp};

/// What a provider gives for a flow, with the number of its rule behind.
#[repr(C)]
pub(super) struct SimFlow {
    base: ibv_flow,
    rule: u32,
}

pub(super) unsafe extern "C" fn create_flow(
    qp: *mut SimQp,
    attr: *mut ibv_flow_attr,
) -> *mut ibv_flow {
    // SAFETY: a queue pair of ours; a block as long as its head says.
    unsafe {
        let context = (*qp).base.context;
        let state = shared(context);
        let size = usize::from((*attr).size);
        if size < size_of::<ibv_flow_attr>() || (*attr).port != 1 {
            return fail(libc::EINVAL);
        }
        let block = std::slice::from_raw_parts(attr.cast::<u8>(), size);
        let state_of: &QpState = &(*qp).state;
        let number = state_of.number;
        let Some(rule) = Rule::parse(block, number) else { return fail(libc::EINVAL) };
        if state.faults.fails() {
            return fail(libc::ENOMEM);
        }
        if rule.tag != 0 && state.faults.no_flow_tags.load(Ordering::Acquire) {
            return fail(libc::EOPNOTSUPP);
        }
        let number = state.number();
        lock(&state.rules).push((number, rule));
        state.count(1);
        let base = ibv_flow { comp_mask: 0, context, handle: number };
        Box::into_raw(Box::new(SimFlow { base, rule: number })).cast()
    }
}

pub(super) unsafe extern "C" fn destroy_flow(flow: *mut SimFlow) -> c_int {
    // SAFETY: a flow that `create_flow` made, given back once.
    unsafe {
        let flow = Box::from_raw(flow);
        let state = shared(flow.base.context);
        lock(&state.rules).retain(|(number, _)| *number != flow.rule);
        state.count(-1);
    }
    0
}
