//! Queue pairs.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};

use linerate_ibverbs_sys::{
    self as sys, ibv_context, ibv_cq, ibv_pd, ibv_qp, ibv_qp_attr, ibv_qp_init_attr,
    ibv_qp_init_attr_ex,
};

use super::{MAX_WR, fail, shared};
use crate::verbs::cq::{CqState, SimCq};
use crate::verbs::device::{Shared, lock};
use crate::verbs::qp::{QpState, Queues, SimQp};
use crate::verbs::spread::{SimTable, Spread};

/// Most inline bytes that the device grants.
const MAX_INLINE: u32 = 256;

/// The state of a new pair or work queue.
pub(super) fn new_state(
    state: &Arc<Shared>,
    attr: &ibv_qp_init_attr,
    spread: Option<Spread>,
) -> QpState {
    // SAFETY: the queues of the caller's attributes, ours, or null where there are none.
    let cq_of = |cq: *mut ibv_cq| unsafe {
        if cq.is_null() {
            CqState::detached(state)
        } else {
            Arc::clone(&(*cq.cast::<SimCq>()).state)
        }
    };
    QpState {
        number: state.number(),
        cap: attr.cap,
        queues: Mutex::new(Queues::default()),
        used: AtomicU32::new(0),
        send_cq: cq_of(attr.send_cq),
        recv_cq: cq_of(attr.recv_cq),
        signal_all: attr.sq_sig_all != 0,
        spread,
        shared: Arc::clone(state),
        handle: AtomicU64::new(0),
        fatal: sys::IBV_EVENT_QP_FATAL,
    }
}

/// Lists a pair with the device and shows it to libibverbs.
///
/// # Safety
///
/// `pd` is a domain of ours, `attr` the caller's attributes.
unsafe fn new_qp(pd: *mut ibv_pd, attr: &ibv_qp_init_attr, spread: Option<Spread>) -> *mut ibv_qp {
    // SAFETY: the caller's promise; all-zero is a value of this C struct.
    unsafe {
        let state = shared((*pd).context);
        let qp = Arc::new(new_state(state, attr, spread));
        let mut base: ibv_qp = std::mem::zeroed();
        base.context = (*pd).context;
        base.qp_context = attr.qp_context;
        base.pd = pd;
        base.send_cq = attr.send_cq;
        base.recv_cq = attr.recv_cq;
        base.qp_num = qp.number;
        base.qp_type = attr.qp_type;
        base.mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        base.cond = libc::PTHREAD_COND_INITIALIZER;
        lock(&state.qps).push(Arc::clone(&qp));
        state.count(1);
        SimQp::new(base, qp).cast()
    }
}

pub(super) unsafe extern "C" fn create_qp(
    pd: *mut ibv_pd,
    attr: *mut ibv_qp_init_attr,
) -> *mut ibv_qp {
    // SAFETY: a domain, queues and attributes of the caller's, all ours.
    unsafe {
        let asked = &mut *attr;
        if asked.qp_type != sys::IBV_QPT_RAW_PACKET {
            return fail(libc::EOPNOTSUPP);
        }
        let cap = &mut asked.cap;
        if cap.max_send_wr > MAX_WR || cap.max_recv_wr > MAX_WR || cap.max_inline_data > MAX_INLINE
        {
            return fail(libc::EINVAL);
        }
        if shared((*pd).context).faults.fails() {
            return fail(libc::ENOMEM);
        }
        // More is granted than was asked for, as cards do.
        if cap.max_recv_wr > 0 {
            cap.max_recv_wr = cap.max_recv_wr.next_power_of_two();
        }
        if cap.max_send_wr > 0 {
            cap.max_send_wr = cap.max_send_wr.next_power_of_two();
        }
        new_qp(pd, asked, None)
    }
}

/// Only the kind that spreads over a table; others go through `create_qp`.
pub(super) unsafe extern "C" fn create_qp_ex(
    context: *mut ibv_context,
    attr: *mut ibv_qp_init_attr_ex,
) -> *mut ibv_qp {
    const WANTED: u32 =
        sys::IBV_QP_INIT_ATTR_PD | sys::IBV_QP_INIT_ATTR_IND_TABLE | sys::IBV_QP_INIT_ATTR_RX_HASH;
    // SAFETY: the attributes of the caller's; they begin with those of `ibv_create_qp`.
    unsafe {
        let asked = &*attr;
        let hash = &asked.rx_hash_conf;
        if asked.qp_type != sys::IBV_QPT_RAW_PACKET || asked.comp_mask != WANTED {
            return fail(libc::EOPNOTSUPP);
        }
        let both = |a, b| hash.rx_hash_fields_mask & a != 0 && hash.rx_hash_fields_mask & b != 0;
        let clash = both(sys::IBV_RX_HASH_SRC_IPV4, sys::IBV_RX_HASH_SRC_IPV6)
            || both(sys::IBV_RX_HASH_SRC_PORT_UDP, sys::IBV_RX_HASH_SRC_PORT_TCP);
        let toeplitz = hash.rx_hash_function == sys::IBV_RX_HASH_FUNC_TOEPLITZ;
        if !toeplitz || hash.rx_hash_key_len != 40 || clash {
            return fail(libc::EINVAL);
        }
        if shared(context).faults.fails() {
            return fail(libc::ENOMEM);
        }
        let spread = Spread {
            queues: (*asked.rwq_ind_tbl.cast::<SimTable>()).queues.clone(),
            key: std::slice::from_raw_parts(hash.rx_hash_key, 40).to_vec(),
            fields: hash.rx_hash_fields_mask,
        };
        new_qp(asked.pd, &*attr.cast::<ibv_qp_init_attr>(), Some(spread))
    }
}

pub(super) unsafe extern "C" fn modify_qp(
    qp: *mut SimQp,
    attr: *mut ibv_qp_attr,
    mask: c_int,
) -> c_int {
    // SAFETY: a queue pair of ours and the caller's attributes.
    let (qp, attr) = unsafe { (&*qp, &*attr) };
    let now = lock(&qp.state.queues).state;
    let exact = |wanted| mask == wanted;
    let legal = match (now, attr.qp_state) {
        (_, sys::IBV_QPS_RESET | sys::IBV_QPS_ERR) => exact(sys::IBV_QP_STATE),
        (sys::IBV_QPS_RESET, sys::IBV_QPS_INIT) => {
            exact(sys::IBV_QP_STATE | sys::IBV_QP_PORT) && attr.port_num == 1
        }
        (sys::IBV_QPS_INIT, sys::IBV_QPS_RTR) | (sys::IBV_QPS_RTR, sys::IBV_QPS_RTS) => {
            exact(sys::IBV_QP_STATE)
        }
        _ => false,
    };
    if qp.state.spread.is_some() {
        return libc::EOPNOTSUPP;
    }
    if !legal {
        return libc::EINVAL;
    }
    let up = !matches!(attr.qp_state, sys::IBV_QPS_RESET | sys::IBV_QPS_ERR);
    if up && qp.state.shared.faults.fails() {
        return libc::ENOMEM;
    }
    match attr.qp_state {
        sys::IBV_QPS_RESET => qp.state.reset(),
        sys::IBV_QPS_ERR => qp.state.fail(&mut lock(&qp.state.queues)),
        state => lock(&qp.state.queues).state = state,
    }
    0
}

pub(super) unsafe extern "C" fn destroy_qp(qp: *mut SimQp) -> c_int {
    // SAFETY: a queue pair of ours; freed only if nothing steers to it.
    unsafe {
        let state = Arc::clone(shared((*qp).base.context));
        let state_of: &QpState = &(*qp).state;
        let number = state_of.number;
        if lock(&state.rules).iter().any(|(_, rule)| rule.qp == number) {
            return libc::EBUSY;
        }
        lock(&state.qps).retain(|other| other.number != number);
        (*qp).state.reset();
        state.forget_events(qp as u64);
        drop(Box::from_raw(qp));
        state.count(-1);
    }
    0
}
