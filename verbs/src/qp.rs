//! Queue pairs and the states they walk through.

use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use linerate_common::{ErrorKind, SetupError};
use linerate_ibverbs_sys as sys;

use crate::cq::Cq;
use crate::device::Context;
use crate::error::{check, last};
use crate::memory::Mr;

/// What a queue pair is to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QpShape {
    pub(crate) kind: QpKind,
    /// Frames that may wait to be sent; 0 for a pair that only receives.
    pub(crate) send_slots: u32,
    /// Buffers that may be posted; 0 for a pair that only sends.
    pub(crate) recv_slots: u32,
    /// Bytes that may be copied into a send request.
    pub(crate) inline_bytes: u32,
}

/// What travels through a queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QpKind {
    /// Whole Ethernet frames.
    Raw,
    /// Datagrams between queue pairs that agree on a key.
    Ud { qkey: u32 },
}

/// A queue pair. Receiving and sending use one each: each has one owner.
#[derive(Debug)]
pub(crate) struct Qp {
    raw: NonNull<sys::ibv_qp>,
    port: u8,
    kind: QpKind,
    /// What was granted, at least what was asked for.
    pub(crate) granted: sys::ibv_qp_cap,
    cq: Arc<Cq>,
    mr: Arc<Mr>,
}

// SAFETY: providers lock a queue pair unless told not to, which we do not.
unsafe impl Send for Qp {}
// SAFETY: as above.
unsafe impl Sync for Qp {}

impl Qp {
    /// Creates a pair in the state RESET, for buffers of `mr`. `ibv_query_device` is not asked
    /// whether raw packets are supported: some cards deny it and can.
    pub(crate) fn create(
        mr: &Arc<Mr>,
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
            qp_type: match shape.kind {
                QpKind::Raw => sys::IBV_QPT_RAW_PACKET,
                QpKind::Ud { .. } => sys::IBV_QPT_UD,
            },
            sq_sig_all: 0,
        };
        let pd = mr.pd();
        // SAFETY: a live domain and queue, complete attributes.
        let raw = unsafe { (pd.context.library().ibv_create_qp)(pd.as_raw(), &mut attr) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(last("ibv_create_qp").on(pd.context.name()));
        };
        let (kind, granted) = (shape.kind, attr.cap);
        Ok(Arc::new(Self { raw, port, kind, granted, cq: cq.clone(), mr: mr.clone() }))
    }

    pub(crate) fn as_raw(&self) -> *mut sys::ibv_qp {
        self.raw.as_ptr()
    }

    pub(crate) fn port(&self) -> u8 {
        self.port
    }

    /// By which datagrams name it.
    pub(crate) fn number(&self) -> u32 {
        // SAFETY: a live pair.
        unsafe { (*self.as_raw()).qp_num }
    }

    pub(crate) fn cq(&self) -> &Cq {
        &self.cq
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.mr.pd().context
    }

    /// RESET → INIT: buffers can be posted from here on, and should be: mlx5 rings its doorbell
    /// at the next step.
    pub(crate) fn to_init(&self) -> Result<(), SetupError> {
        let mask = sys::IBV_QP_STATE | sys::IBV_QP_PORT;
        match self.kind {
            QpKind::Raw => self.modify(sys::IBV_QPS_INIT, mask),
            QpKind::Ud { .. } => {
                self.modify(sys::IBV_QPS_INIT, mask | sys::IBV_QP_PKEY_INDEX | sys::IBV_QP_QKEY)
            }
        }
    }

    /// INIT → RTR → RTS: frames flow in both directions.
    pub(crate) fn to_ready(&self) -> Result<(), SetupError> {
        self.modify(sys::IBV_QPS_RTR, sys::IBV_QP_STATE)?;
        let psn = if self.kind == QpKind::Raw { 0 } else { sys::IBV_QP_SQ_PSN };
        self.modify(sys::IBV_QPS_RTS, sys::IBV_QP_STATE | psn)
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
        if let QpKind::Ud { qkey } = self.kind {
            attr.qkey = qkey;
        }
        let context = self.context();
        // SAFETY: a live pair; the mask names the fields that are set.
        let rc = unsafe { (context.library().ibv_modify_qp)(self.as_raw(), &mut attr, mask) };
        check("ibv_modify_qp", rc).map_err(|e| e.on(context.name()))
    }
}

impl Drop for Qp {
    fn drop(&mut self) {
        // SAFETY: flows of this pair held an Arc of it and are gone; after this the card no
        // longer touches what was posted.
        let rc = unsafe { (self.context().library().ibv_destroy_qp)(self.as_raw()) };
        if rc != 0 {
            // The card may still write into the buffers: their memory must stay for ever.
            std::mem::forget(self.mr.clone());
        }
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
