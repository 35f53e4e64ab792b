//! The functions that libibverbs calls, and the few of its own that need a kernel behind them.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use linerate_common::clock::now_ns;
use linerate_ibverbs_sys::{
    self as sys, Api, LoadError, ibv_comp_channel, ibv_context, ibv_cq, ibv_cq_init_attr_ex,
    ibv_device_attr_ex, ibv_flow, ibv_flow_attr, ibv_mr, ibv_pd, ibv_port_attr, ibv_qp,
    ibv_qp_attr, ibv_qp_init_attr, ibv_qp_init_attr_ex, ibv_recv_wr, ibv_rwq_ind_table,
    ibv_rwq_ind_table_init_attr, ibv_send_wr, ibv_values_ex, ibv_wc, ibv_wq, ibv_wq_attr,
    ibv_wq_init_attr,
};

use super::abi::{self, op};
use super::cq::{CqState, SimCq, TICK_HZ, TICK_MASK, ticks};
use super::device::{Shared, lock, shared_of_device};
use super::faults::StampKind;
use super::flow::Rule;
use super::qp::{Body, QpState, Queues, RecvRequest, SendRequest, Side, SimQp};
use super::spread::{self, SimTable, SimWq, Spread};

/// Longest queue and most inline bytes that the device grants.
const MAX_WR: u32 = 4096;
const MAX_INLINE: u32 = 256;
const MAX_TABLE: u32 = 128;

/// The real library's functions, with completion channels that need no kernel: a pipe carries
/// the events. Everything else is the library's own.
///
/// # Errors
///
/// libibverbs is not installed.
pub fn api() -> Result<Api, LoadError> {
    let mut api = Api::load()?;
    DESTROY_CHANNEL.get_or_init(|| api.ibv_destroy_comp_channel);
    api.ibv_create_comp_channel = create_comp_channel;
    api.ibv_destroy_comp_channel = destroy_comp_channel;
    Ok(api)
}

/// The library's own function, which closes the read end and frees the channel.
static DESTROY_CHANNEL: OnceLock<unsafe extern "C" fn(*mut ibv_comp_channel) -> c_int> =
    OnceLock::new();

unsafe extern "C" fn destroy_comp_channel(channel: *mut ibv_comp_channel) -> c_int {
    let Some(destroy) = DESTROY_CHANNEL.get() else { return libc::ENOSYS };
    // SAFETY: a live channel, made by `create_comp_channel`.
    let fd = unsafe { (*channel).fd };
    // Before the descriptor is closed: its number may be another channel's the moment after.
    let write_end = lock(&CHANNELS).remove(&fd);
    // SAFETY: the caller's promise, passed on.
    let rc = unsafe { destroy(channel) };
    if let Some(write_end) = write_end {
        if rc == 0 {
            // SAFETY: a descriptor of ours that nobody else knows.
            unsafe { libc::close(write_end) };
        } else {
            lock(&CHANNELS).insert(fd, write_end);
        }
    }
    rc
}

/// Write ends of the pipes of completion channels, by the channel's descriptor.
static CHANNELS: LazyLock<Mutex<HashMap<i32, i32>>> = LazyLock::new(Mutex::default);

unsafe extern "C" fn create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel {
    let mut pipe = [-1; 2];
    // SAFETY: an array of two descriptors; an allocation of the struct's size, checked.
    unsafe {
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return null_mut();
        }
        // libibverbs frees it with free(3) and closes the descriptor.
        let channel = libc::calloc(1, size_of::<ibv_comp_channel>()).cast::<ibv_comp_channel>();
        if channel.is_null() {
            return null_mut();
        }
        (*channel).context = context;
        (*channel).fd = pipe[0];
        lock(&CHANNELS).insert(pipe[0], pipe[1]);
        channel
    }
}

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

/// Writes at most `size` bytes of a struct, as the C functions with a size argument do.
///
/// # Safety
///
/// `to` has room for `size` bytes.
unsafe fn write_sized<T>(to: *mut T, value: &T, size: usize) {
    let from = std::ptr::from_ref(value).cast::<u8>();
    // SAFETY: the caller's promise; never more than the struct has.
    unsafe { std::ptr::copy_nonoverlapping(from, to.cast(), size.min(size_of::<T>())) };
}

unsafe extern "C" fn query_device_ex(
    context: *mut ibv_context,
    _: *const c_void,
    attr: *mut ibv_device_attr_ex,
    size: usize,
) -> c_int {
    // SAFETY: all-zero is a value of this C struct.
    let mut value: ibv_device_attr_ex = unsafe { std::mem::zeroed() };
    let basic = &mut value.orig_attr;
    basic.max_qp_wr = MAX_WR as c_int;
    basic.max_cqe = 1 << 16;
    basic.max_sge = 4;
    basic.max_qp = 64;
    basic.max_cq = 64;
    basic.phys_port_cnt = 1;
    // Some cards deny raw packets here and have them: so does this one.
    basic.max_raw_ethy_qp = 0;
    basic.device_cap_flags = sys::IBV_DEVICE_MANAGED_FLOW_STEERING | sys::IBV_DEVICE_RAW_IP_CSUM;
    value.raw_packet_caps = sys::IBV_RAW_PACKET_CAP_IP_CSUM;
    value.rss_caps = sys::ibv_rss_caps {
        supported_qpts: 1 << sys::IBV_QPT_RAW_PACKET,
        max_rwq_indirection_tables: 16,
        max_rwq_indirection_table_size: MAX_TABLE,
        rx_hash_fields_mask: spread::FIELDS,
        rx_hash_function: sys::IBV_RX_HASH_FUNC_TOEPLITZ,
    };
    value.max_wq_type_rq = 64;
    // SAFETY: a context of ours, a buffer as long as the caller says.
    unsafe {
        if shared(context).stamps != StampKind::None {
            value.completion_timestamp_mask = TICK_MASK;
            value.hca_core_clock = TICK_HZ / 1000;
        }
        write_sized(attr, &value, size);
    }
    0
}

unsafe extern "C" fn query_port(
    context: *mut ibv_context,
    port: u8,
    attr: *mut ibv_port_attr,
    size: usize,
) -> c_int {
    if port != 1 {
        return libc::EINVAL;
    }
    // SAFETY: as in `query_device_ex`.
    unsafe {
        let mut value: ibv_port_attr = std::mem::zeroed();
        let up = shared(context).link_up.load(Ordering::Acquire);
        value.state = if up { sys::IBV_PORT_ACTIVE } else { sys::IBV_PORT_DOWN };
        value.link_layer = sys::IBV_LINK_LAYER_ETHERNET;
        value.max_mtu = 5;
        value.active_mtu = 3;
        write_sized(attr, &value, size);
    }
    0
}

unsafe extern "C" fn query_rt_values(_: *mut ibv_context, values: *mut ibv_values_ex) -> c_int {
    // SAFETY: the caller's struct.
    unsafe {
        (*values).comp_mask = sys::IBV_VALUES_MASK_RAW_CLOCK;
        (*values).raw_clock = libc::timespec { tv_sec: 0, tv_nsec: ticks(now_ns()) as i64 };
    }
    0
}

unsafe extern "C" fn alloc_pd(context: *mut ibv_context) -> *mut ibv_pd {
    // SAFETY: a context of ours.
    let state = unsafe { shared(context) };
    if state.faults.fails() {
        return fail(libc::ENOMEM);
    }
    state.count(1);
    Box::into_raw(Box::new(ibv_pd { context, handle: state.number() }))
}

unsafe extern "C" fn dealloc_pd(pd: *mut ibv_pd) -> c_int {
    // SAFETY: a domain that `alloc_pd` made, given back once.
    unsafe {
        shared((*pd).context).count(-1);
        drop(Box::from_raw(pd));
    }
    0
}

/// What a provider gives for a registration: `struct verbs_mr`, 56 bytes.
#[repr(C)]
struct SimMr {
    base: ibv_mr,
    rest: u64,
}

unsafe extern "C" fn reg_mr(
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

unsafe extern "C" fn dereg_mr(mr: *mut SimMr) -> c_int {
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

/// The write end behind a channel, -1 for a null one.
unsafe fn pipe_of(channel: *mut ibv_comp_channel) -> i32 {
    if channel.is_null() {
        return -1;
    }
    // SAFETY: not null: a live channel.
    let fd = unsafe { (*channel).fd };
    lock(&CHANNELS).get(&fd).copied().unwrap_or(-1)
}

/// Completions that a queue gets: a power of two less one, as on mlx5. That can be fewer than the
/// pair which uses it is granted.
fn granted(entries: u32) -> u32 {
    (entries + 1).next_power_of_two() - 1
}

unsafe extern "C" fn create_cq(
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

unsafe extern "C" fn create_cq_ex(
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

unsafe extern "C" fn destroy_cq(cq: *mut SimCq) -> c_int {
    // SAFETY: a queue of ours; libibverbs has waited for its events.
    unsafe {
        (*cq).state.forget_events();
        SimCq::destroy(cq);
    }
    0
}

unsafe extern "C" fn poll_cq(cq: *mut SimCq, n: c_int, wc: *mut ibv_wc) -> c_int {
    let Ok(n) = usize::try_from(n) else { return -1 };
    // SAFETY: a queue of ours and room for `n` completions.
    unsafe { (*cq).state.poll(std::slice::from_raw_parts_mut(wc, n)) }
}

unsafe extern "C" fn req_notify_cq(cq: *mut SimCq, _solicited: c_int) -> c_int {
    // SAFETY: a queue of ours.
    unsafe { (*cq).state.arm() }
}

/// The state of a new pair or work queue.
fn new_state(state: &Arc<Shared>, attr: &ibv_qp_init_attr, spread: Option<Spread>) -> QpState {
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

unsafe extern "C" fn create_qp(pd: *mut ibv_pd, attr: *mut ibv_qp_init_attr) -> *mut ibv_qp {
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
unsafe extern "C" fn create_qp_ex(
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

unsafe extern "C" fn create_wq(
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

unsafe extern "C" fn modify_wq(wq: *mut SimWq, attr: *mut ibv_wq_attr) -> c_int {
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

unsafe extern "C" fn destroy_wq(wq: *mut SimWq) -> c_int {
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

unsafe extern "C" fn create_table(
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

unsafe extern "C" fn destroy_table(table: *mut SimTable) -> c_int {
    // SAFETY: a table of ours, given back once.
    unsafe {
        let table = Box::from_raw(table);
        shared(table.base.context).count(-1);
    }
    0
}

unsafe extern "C" fn modify_qp(qp: *mut SimQp, attr: *mut ibv_qp_attr, mask: c_int) -> c_int {
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

unsafe extern "C" fn destroy_qp(qp: *mut SimQp) -> c_int {
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

/// Requests that one post call takes: the planned limit, or all.
fn post_limit(state: &Shared) -> u32 {
    match state.faults.post_limit.load(Ordering::Acquire) {
        0 => u32::MAX,
        limit => limit,
    }
}

unsafe extern "C" fn post_recv(
    qp: *mut SimQp,
    wr: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: a queue pair of ours; the rest is the caller's promise.
    unsafe { post_receives(&(*qp).state, wr, bad) }
}

unsafe extern "C" fn post_wq_recv(
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

unsafe extern "C" fn post_send(
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

/// What a provider gives for a flow, with the number of its rule behind.
#[repr(C)]
struct SimFlow {
    base: ibv_flow,
    rule: u32,
}

unsafe extern "C" fn create_flow(qp: *mut SimQp, attr: *mut ibv_flow_attr) -> *mut ibv_flow {
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

unsafe extern "C" fn destroy_flow(flow: *mut SimFlow) -> c_int {
    // SAFETY: a flow that `create_flow` made, given back once.
    unsafe {
        let flow = Box::from_raw(flow);
        let state = shared(flow.base.context);
        lock(&state.rules).retain(|(number, _)| *number != flow.rule);
        state.count(-1);
    }
    0
}

/// NULL, with the reason in errno.
fn fail<T>(errno: c_int) -> *mut T {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = errno };
    null_mut()
}
