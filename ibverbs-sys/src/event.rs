//! Completion channels and asynchronous events.

use std::ffi::{c_int, c_uint, c_void};

use crate::device::ibv_context;

#[repr(C)]
pub struct ibv_comp_channel {
    pub context: *mut ibv_context,
    pub fd: c_int,
    pub refcnt: c_int,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ibv_async_event {
    /// A union in C: the CQ, QP, SRQ or WQ concerned, or the port number in its first int.
    pub element: *mut c_void,
    pub event_type: c_uint,
}

pub const IBV_EVENT_CQ_ERR: c_uint = 0;
pub const IBV_EVENT_QP_FATAL: c_uint = 1;
pub const IBV_EVENT_QP_REQ_ERR: c_uint = 2;
pub const IBV_EVENT_QP_ACCESS_ERR: c_uint = 3;
pub const IBV_EVENT_DEVICE_FATAL: c_uint = 8;
pub const IBV_EVENT_PORT_ACTIVE: c_uint = 9;
pub const IBV_EVENT_PORT_ERR: c_uint = 10;
pub const IBV_EVENT_WQ_FATAL: c_uint = 19;
