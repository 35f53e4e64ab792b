//! Receive work queues and indirection tables, for spreading flows over several queues (RSS).

use std::ffi::{c_int, c_uint, c_void};

use crate::cq::ibv_cq;
use crate::device::{ibv_context, ibv_pd};
use crate::wr::ibv_recv_wr;

#[repr(C)]
pub struct ibv_wq {
    pub context: *mut ibv_context,
    pub wq_context: *mut c_void,
    pub pd: *mut ibv_pd,
    pub cq: *mut ibv_cq,
    pub wq_num: u32,
    pub handle: u32,
    pub state: c_uint,
    pub wq_type: c_uint,
    pub post_recv:
        Option<unsafe extern "C" fn(*mut ibv_wq, *mut ibv_recv_wr, *mut *mut ibv_recv_wr) -> c_int>,
    pub mutex: libc::pthread_mutex_t,
    pub cond: libc::pthread_cond_t,
    pub events_completed: u32,
    pub comp_mask: u32,
}

#[repr(C)]
pub struct ibv_wq_init_attr {
    pub wq_context: *mut c_void,
    pub wq_type: c_uint,
    pub max_wr: u32,
    pub max_sge: u32,
    pub pd: *mut ibv_pd,
    pub cq: *mut ibv_cq,
    pub comp_mask: u32,
    pub create_flags: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ibv_wq_attr {
    pub attr_mask: u32,
    pub wq_state: c_uint,
    pub curr_wq_state: c_uint,
    pub flags: u32,
    pub flags_mask: u32,
}

pub const IBV_WQT_RQ: c_uint = 0;
pub const IBV_WQS_RESET: c_uint = 0;
pub const IBV_WQS_RDY: c_uint = 1;
pub const IBV_WQS_ERR: c_uint = 2;
pub const IBV_WQ_ATTR_STATE: u32 = 1;

#[repr(C)]
pub struct ibv_rwq_ind_table {
    pub context: *mut ibv_context,
    pub ind_tbl_handle: c_int,
    pub ind_tbl_num: c_int,
    pub comp_mask: u32,
}

#[repr(C)]
pub struct ibv_rwq_ind_table_init_attr {
    pub log_ind_tbl_size: u32,
    pub ind_tbl: *mut *mut ibv_wq,
    pub comp_mask: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ibv_rx_hash_conf {
    pub rx_hash_function: u8,
    pub rx_hash_key_len: u8,
    pub rx_hash_key: *mut u8,
    pub rx_hash_fields_mask: u64,
}

pub const IBV_RX_HASH_FUNC_TOEPLITZ: u8 = 1;
pub const IBV_RX_HASH_SRC_IPV4: u64 = 1;
pub const IBV_RX_HASH_DST_IPV4: u64 = 1 << 1;
pub const IBV_RX_HASH_SRC_IPV6: u64 = 1 << 2;
pub const IBV_RX_HASH_DST_IPV6: u64 = 1 << 3;
pub const IBV_RX_HASH_SRC_PORT_TCP: u64 = 1 << 4;
pub const IBV_RX_HASH_DST_PORT_TCP: u64 = 1 << 5;
pub const IBV_RX_HASH_SRC_PORT_UDP: u64 = 1 << 6;
pub const IBV_RX_HASH_DST_PORT_UDP: u64 = 1 << 7;
