//! The functions that libibverbs calls, and the few of its own that need a kernel behind them.
//!
//! Here: the table of them, which is written as a context is opened, and what they all use.

mod channel;
mod cq;
mod flow;
mod memory;
mod post;
mod qp;
mod query;
mod wq;

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use linerate_ibverbs_sys::ibv_context;

use crate::verbs::abi::{self, op};
use crate::verbs::device::{Shared, lock, shared_of_device};

pub use channel::api;
use cq::{create_cq, create_cq_ex, destroy_cq, poll_cq, req_notify_cq};
use flow::{create_flow, destroy_flow};
use memory::{alloc_pd, dealloc_pd, dereg_mr, reg_mr};
use post::{post_recv, post_send};
use qp::{create_qp, create_qp_ex, destroy_qp, modify_qp};
use query::{query_device_ex, query_port, query_rt_values};
use wq::{create_table, create_wq, destroy_table, destroy_wq, modify_wq};

/// Longest queue that the device grants.
const MAX_WR: u32 = 4096;

/// The state behind a context of ours: kept where the provider's context ends.
///
/// # Safety
///
/// `context` is a live context that [`alloc_context`] made.
unsafe fn shared<'a>(context: *mut ibv_context) -> &'a Arc<Shared> {
    // SAFETY: the caller's promise: behind the verbs_context lies the Arc that we wrote.
    unsafe {
        let outer = context.byte_sub(abi::CONTEXT_OFFSET);
        &*outer.byte_add(abi::CONTEXT_BYTES).cast::<Arc<Shared>>()
    }
}

pub(super) unsafe extern "C" fn alloc_context(
    device: *mut c_void,
    fd: c_int,
    _: *mut c_void,
) -> *mut c_void {
    // SAFETY: libibverbs passes the device that it was asked to open, one of ours.
    let state = unsafe { shared_of_device(device) };
    let size = abi::CONTEXT_BYTES + size_of::<Arc<Shared>>();
    // SAFETY: allocates and initialises a verbs_context at offset 0 of `size` bytes.
    let outer = unsafe { (state.private.init_and_alloc_context)(device, fd, size, null_mut(), 0) };
    if outer.is_null() {
        return null_mut();
    }
    let mut table = [0_usize; abi::CONTEXT_OPS_WORDS];
    for (slot, function) in [
        (op::ALLOC_PD, alloc_pd as *const () as usize),
        (op::CREATE_CQ, create_cq as *const () as usize),
        (op::CREATE_CQ_EX, create_cq_ex as *const () as usize),
        (op::CREATE_FLOW, create_flow as *const () as usize),
        (op::CREATE_QP, create_qp as *const () as usize),
        (op::CREATE_QP_EX, create_qp_ex as *const () as usize),
        (op::CREATE_RWQ_IND_TABLE, create_table as *const () as usize),
        (op::CREATE_WQ, create_wq as *const () as usize),
        (op::DEALLOC_PD, dealloc_pd as *const () as usize),
        (op::DEREG_MR, dereg_mr as *const () as usize),
        (op::DESTROY_CQ, destroy_cq as *const () as usize),
        (op::DESTROY_FLOW, destroy_flow as *const () as usize),
        (op::DESTROY_QP, destroy_qp as *const () as usize),
        (op::DESTROY_RWQ_IND_TABLE, destroy_table as *const () as usize),
        (op::DESTROY_WQ, destroy_wq as *const () as usize),
        (op::FREE_CONTEXT, free_context as *const () as usize),
        (op::MODIFY_QP, modify_qp as *const () as usize),
        (op::MODIFY_WQ, modify_wq as *const () as usize),
        (op::POLL_CQ, poll_cq as *const () as usize),
        (op::POST_RECV, post_recv as *const () as usize),
        (op::POST_SEND, post_send as *const () as usize),
        (op::QUERY_DEVICE_EX, query_device_ex as *const () as usize),
        (op::QUERY_PORT, query_port as *const () as usize),
        (op::QUERY_RT_VALUES, query_rt_values as *const () as usize),
        (op::REG_MR, reg_mr as *const () as usize),
        (op::REQ_NOTIFY_CQ, req_notify_cq as *const () as usize),
    ] {
        table[slot] = function;
    }
    let mut pipe = [-1; 2];
    // SAFETY: a table as long as the library reads; our Arc behind the context, in memory that
    // was allocated for it; the public context's plain fields.
    unsafe {
        (state.private.set_ops)(outer, table.as_ptr());
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) == 0 {
            (*abi::public(outer)).async_fd = pipe[0];
            lock(&state.events).push(pipe);
        }
        (*abi::public(outer)).num_comp_vectors = 1;
        state.count(1);
        outer.byte_add(abi::CONTEXT_BYTES).cast::<Arc<Shared>>().write(state);
    }
    outer
}

unsafe extern "C" fn free_context(context: *mut ibv_context) {
    // SAFETY: the context of ours that is closed: its Arc is taken out once, then the library
    // closes its descriptors, then the memory goes, which malloc gave.
    unsafe {
        let outer = context.byte_sub(abi::CONTEXT_OFFSET).cast::<c_void>();
        let state = outer.byte_add(abi::CONTEXT_BYTES).cast::<Arc<Shared>>().read();
        let own = (*context).async_fd;
        lock(&state.events).retain(|[read_end, write_end]| {
            let other = *read_end != own;
            if !other {
                // The library closes the end that it reads from.
                libc::close(*write_end);
            }
            other
        });
        (state.private.uninit_context)(outer);
        libc::free(outer);
        state.count(-1);
    }
}

/// NULL, with the reason in errno.
fn fail<T>(errno: c_int) -> *mut T {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = errno };
    null_mut()
}
