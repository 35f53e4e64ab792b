//! Queue pairs and the states they walk through.

use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use linerate_common::{ErrorKind, SetupError};
use linerate_ibverbs_sys as sys;

use crate::cq::Cq;
use crate::error::{check, last};
use crate::memory::Pd;

/// What a queue pair is to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QpShape {
    /// Frames that may wait to be sent; 0 for a pair that only receives.
    pub(crate) send_slots: u32,
    /// Buffers that may be posted; 0 for a pair that only sends.
    pub(crate) recv_slots: u32,
    /// Bytes that may be copied into a send request.
    pub(crate) inline_bytes: u32,
}

/// A raw packet queue pair. Receiving and sending use one each: each has one owner.
#[derive(Debug)]
pub(crate) struct Qp {
    raw: NonNull<sys::ibv_qp>,
    port: u8,
    /// What was granted, at least what was asked for.
    pub(crate) granted: sys::ibv_qp_cap,
    cq: Arc<Cq>,
    pub(crate) pd: Arc<Pd>,
}

// SAFETY: providers lock a queue pair unless told not to, which we do not.
unsafe impl Send for Qp {}
// SAFETY: as above.
unsafe impl Sync for Qp {}

impl Qp {
    /// Creates a pair in the state RESET. `ibv_query_device` is not asked whether raw packets
    /// are supported: some cards deny it and can.
    pub(crate) fn create(
        pd: &Arc<Pd>,
        cq: &Arc<Cq>,
        port: u8,
        shape: QpShape,
    ) -> Result<Arc<Self>, SetupError> {
        let mut attr = sys::ibv_qp_init_attr {
            qp_context: null_mut(),
            send_cq: cq.as_raw(),
            recv_cq: cq.as_raw(),
            srq: null_mut(),
            cap: sys::ibv_qp_cap {
                max_send_wr: shape.send_slots,
                max_recv_wr: shape.recv_slots,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_inline_data: shape.inline_bytes,
            },
            qp_type: sys::IBV_QPT_RAW_PACKET,
            sq_sig_all: 0,
        };
        // SAFETY: a live domain and queue, complete attributes.
        let raw = unsafe { (pd.context.library().ibv_create_qp)(pd.as_raw(), &mut attr) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(last("ibv_create_qp").on(pd.context.name()));
        };
        Ok(Arc::new(Self { raw, port, granted: attr.cap, cq: cq.clone(), pd: pd.clone() }))
    }

    pub(crate) fn as_raw(&self) -> *mut sys::ibv_qp {
        self.raw.as_ptr()
    }

    pub(crate) fn port(&self) -> u8 {
        self.port
    }

    pub(crate) fn cq(&self) -> &Cq {
        &self.cq
    }

    /// RESET → INIT: buffers can be posted from here on, and should be: mlx5 rings its doorbell
    /// at the next step.
    pub(crate) fn to_init(&self) -> Result<(), SetupError> {
        self.modify(sys::IBV_QPS_INIT, sys::IBV_QP_STATE | sys::IBV_QP_PORT)
    }

    /// INIT → RTR → RTS: frames flow in both directions.
    pub(crate) fn to_ready(&self) -> Result<(), SetupError> {
        self.modify(sys::IBV_QPS_RTR, sys::IBV_QP_STATE)?;
        self.modify(sys::IBV_QPS_RTS, sys::IBV_QP_STATE)
    }

    /// Any → RESET: everything posted is forgotten without a completion.
    pub(crate) fn to_reset(&self) -> Result<(), SetupError> {
        self.modify(sys::IBV_QPS_RESET, sys::IBV_QP_STATE)
    }

    /// Any → ERR: everything posted comes back as a flush error.
    pub(crate) fn to_error(&self) -> Result<(), SetupError> {
        self.modify(sys::IBV_QPS_ERR, sys::IBV_QP_STATE)
    }

    fn modify(&self, state: u32, mask: i32) -> Result<(), SetupError> {
        // SAFETY: all-zero is a value of this plain struct.
        let mut attr: sys::ibv_qp_attr = unsafe { std::mem::zeroed() };
        attr.qp_state = state;
        attr.port_num = self.port;
        // SAFETY: a live pair; the mask names the fields that are set.
        let rc =
            unsafe { (self.pd.context.library().ibv_modify_qp)(self.as_raw(), &mut attr, mask) };
        check("ibv_modify_qp", rc).map_err(|e| e.on(self.pd.context.name()))
    }
}

impl Drop for Qp {
    fn drop(&mut self) {
        // SAFETY: flows of this pair held an Arc of it and are gone; after this the card no
        // longer touches what was posted.
        let rc = unsafe { (self.pd.context.library().ibv_destroy_qp)(self.as_raw()) };
        debug_assert!(check("ibv_destroy_qp", rc).is_ok());
    }
}

/// Refuses a port that cannot carry Ethernet frames before the driver does so less clearly.
pub(crate) fn require_ethernet(ethernet: bool, name: &str) -> Result<(), SetupError> {
    if ethernet {
        return Ok(());
    }
    Err(SetupError::new(ErrorKind::Unsupported, "ibv_query_port", "the link layer is InfiniBand")
        .on(name)
        .remedy("switch the port to Ethernet: mlxconfig -d DEVICE set LINK_TYPE_P1=2, then reboot"))
}
