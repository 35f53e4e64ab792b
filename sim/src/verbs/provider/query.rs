//! What the device says of itself, its port and its clock.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

use linerate_common::clock::now_ns;
use linerate_ibverbs_sys::{
    self as sys, ibv_context, ibv_device_attr_ex, ibv_port_attr, ibv_values_ex,
};

use super::wq::MAX_TABLE;
use super::{MAX_WR, shared};
use crate::verbs::cq::{TICK_HZ, TICK_MASK, ticks};
use crate::verbs::faults::StampKind;
use crate::verbs::spread;

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

pub(super) unsafe extern "C" fn query_device_ex(
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

pub(super) unsafe extern "C" fn query_port(
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

pub(super) unsafe extern "C" fn query_rt_values(
    _: *mut ibv_context,
    values: *mut ibv_values_ex,
) -> c_int {
    // SAFETY: the caller's struct.
    unsafe {
        (*values).comp_mask = sys::IBV_VALUES_MASK_RAW_CLOCK;
        (*values).raw_clock = libc::timespec { tv_sec: 0, tv_nsec: ticks(now_ns()) as i64 };
    }
    0
}
