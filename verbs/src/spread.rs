//! One port, several receive queues: work queues, the table that points to them, and the queue
//! pair whose hash of each frame's addresses and ports picks an entry (RSS).

use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use linerate_common::{ErrorKind, SetupError};
use linerate_ibverbs_sys::{self as sys, inline};

use crate::cq::Cq;
use crate::device::{Caps, Context};
use crate::error::{check, last};
use crate::memory::Mr;

/// Which fields of a frame choose its receive queue. Cards hash one kind of frame per port;
/// frames of other kinds go to the first queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Spread {
    /// Addresses and ports of UDP over IPv4.
    #[default]
    Udp4,
    /// Addresses and ports of TCP over IPv4.
    Tcp4,
    /// Addresses and ports of UDP over IPv6.
    Udp6,
    /// Addresses and ports of TCP over IPv6.
    Tcp6,
}

impl Spread {
    fn fields(self) -> u64 {
        match self {
            Self::Udp4 => {
                sys::IBV_RX_HASH_SRC_IPV4
                    | sys::IBV_RX_HASH_DST_IPV4
                    | sys::IBV_RX_HASH_SRC_PORT_UDP
                    | sys::IBV_RX_HASH_DST_PORT_UDP
            }
            Self::Tcp4 => {
                sys::IBV_RX_HASH_SRC_IPV4
                    | sys::IBV_RX_HASH_DST_IPV4
                    | sys::IBV_RX_HASH_SRC_PORT_TCP
                    | sys::IBV_RX_HASH_DST_PORT_TCP
            }
            Self::Udp6 => {
                sys::IBV_RX_HASH_SRC_IPV6
                    | sys::IBV_RX_HASH_DST_IPV6
                    | sys::IBV_RX_HASH_SRC_PORT_UDP
                    | sys::IBV_RX_HASH_DST_PORT_UDP
            }
            Self::Tcp6 => {
                sys::IBV_RX_HASH_SRC_IPV6
                    | sys::IBV_RX_HASH_DST_IPV6
                    | sys::IBV_RX_HASH_SRC_PORT_TCP
                    | sys::IBV_RX_HASH_DST_PORT_TCP
            }
        }
    }
}

/// Can the card spread over so many queues?
pub(crate) fn require(caps: &Caps, queues: u32, by: Spread) -> Result<(), SetupError> {
    let what = if caps.max_spread == 0 {
        "this card cannot spread frames over several receive queues".to_owned()
    } else if queues > caps.max_spread {
        format!("this card spreads over at most {} receive queues", caps.max_spread)
    } else if caps.hash_fields & by.fields() != by.fields() {
        format!("this card does not spread by {by:?}")
    } else {
        return Ok(());
    };
    Err(SetupError::new(ErrorKind::Unsupported, "ibv_create_rwq_ind_table", what)
        .remedy("open one queue per flow instead: each port opened steers its own"))
}

/// The key of Microsoft's specification: known to spread well, and the same on every run.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// A work queue: receives only, and only what a table sends to it.
#[derive(Debug)]
pub(crate) struct Wq {
    raw: NonNull<sys::ibv_wq>,
    cq: Arc<Cq>,
    mr: Arc<Mr>,
}

// SAFETY: providers lock a work queue.
unsafe impl Send for Wq {}
// SAFETY: as above.
unsafe impl Sync for Wq {}

impl Wq {
    pub(crate) fn create(mr: &Arc<Mr>, cq: &Arc<Cq>, slots: u32) -> Result<Arc<Self>, SetupError> {
        let pd = mr.pd();
        let mut attr = sys::ibv_wq_init_attr {
            wq_context: null_mut(),
            wq_type: sys::IBV_WQT_RQ,
            max_wr: slots,
            max_sge: 1,
            pd: pd.as_raw(),
            cq: cq.as_raw(),
            comp_mask: 0,
            create_flags: 0,
        };
        // SAFETY: a live context and complete attributes.
        let raw = unsafe { inline::create_wq(pd.context.as_raw(), &mut attr) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Arc::new(Self { raw, cq: cq.clone(), mr: mr.clone() })),
            None => Err(last("ibv_create_wq").on(pd.context.name())),
        }
    }

    pub(crate) fn as_raw(&self) -> *mut sys::ibv_wq {
        self.raw.as_ptr()
    }

    pub(crate) fn cq(&self) -> &Cq {
        &self.cq
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.mr.pd().context
    }

    pub(crate) fn to_ready(&self) -> Result<(), SetupError> {
        self.modify(sys::IBV_WQS_RDY)
    }

    pub(crate) fn to_reset(&self) -> Result<(), SetupError> {
        self.modify(sys::IBV_WQS_RESET)
    }

    pub(crate) fn to_error(&self) -> Result<(), SetupError> {
        self.modify(sys::IBV_WQS_ERR)
    }

    fn modify(&self, state: u32) -> Result<(), SetupError> {
        let mut attr = sys::ibv_wq_attr {
            attr_mask: sys::IBV_WQ_ATTR_STATE,
            wq_state: state,
            ..sys::ibv_wq_attr::default()
        };
        // SAFETY: a live work queue and complete attributes.
        let rc = unsafe { inline::modify_wq(self.as_raw(), &mut attr) };
        check("ibv_modify_wq", rc).map_err(|e| e.on(self.context().name()))
    }
}

impl Drop for Wq {
    fn drop(&mut self) {
        // SAFETY: tables that point to it held an Arc of it and are gone.
        if unsafe { inline::destroy_wq(self.as_raw()) } != 0 {
            // The card may still write into the buffers: their memory must stay for ever.
            std::mem::forget(self.mr.clone());
        }
    }
}

/// The table: it keeps its work queues.
#[derive(Debug)]
struct Table {
    raw: NonNull<sys::ibv_rwq_ind_table>,
    wqs: Vec<Arc<Wq>>,
}

// SAFETY: the raw pointer is only handed to libibverbs, which locks.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    fn create(context: &Context, wqs: Vec<Arc<Wq>>, entries: u32) -> Result<Self, SetupError> {
        let mut list: Vec<_> =
            wqs.iter().cycle().take(entries as usize).map(|wq| wq.as_raw()).collect();
        let mut attr = sys::ibv_rwq_ind_table_init_attr {
            log_ind_tbl_size: entries.ilog2(),
            ind_tbl: list.as_mut_ptr(),
            comp_mask: 0,
        };
        // SAFETY: a live context, as many live work queues as the size says.
        let raw = unsafe { inline::create_rwq_ind_table(context.as_raw(), &mut attr) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw, wqs }),
            None => Err(last("ibv_create_rwq_ind_table").on(context.name())),
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the pair that used it is gone.
        unsafe { inline::destroy_rwq_ind_table(self.raw.as_ptr()) };
    }
}

/// The queue pair in front of the table: flows are steered to it.
#[derive(Debug)]
pub(crate) struct SpreadQp {
    raw: NonNull<sys::ibv_qp>,
    port: u8,
    table: Table,
}

// SAFETY: the raw pointer is only handed to libibverbs, which locks.
unsafe impl Send for SpreadQp {}
// SAFETY: as above.
unsafe impl Sync for SpreadQp {}

impl SpreadQp {
    /// A pair that spreads over `wqs`. A count that is no power of two gets a longer table, where
    /// the card has one, so that the shares come out nearly even.
    pub(crate) fn create(
        wqs: Vec<Arc<Wq>>,
        port: u8,
        by: Spread,
        caps: &Caps,
    ) -> Result<Arc<Self>, SetupError> {
        let Some(first) = wqs.first() else {
            return Err(SetupError::new(ErrorKind::BadArgument, "ibv_create_wq", "no queues"));
        };
        let (mr, context) = (first.mr.clone(), first.context().clone());
        let even = (wqs.len() as u32).next_power_of_two();
        let entries =
            if even as usize == wqs.len() { even } else { (32 * even).min(caps.max_spread) };
        let table = Table::create(&context, wqs, 1 << entries.max(even).ilog2())?;
        let mut key = KEY;
        // SAFETY: all-zero is a value of this C struct.
        let mut attr: sys::ibv_qp_init_attr_ex = unsafe { std::mem::zeroed() };
        attr.qp_type = sys::IBV_QPT_RAW_PACKET;
        attr.comp_mask = sys::IBV_QP_INIT_ATTR_PD
            | sys::IBV_QP_INIT_ATTR_IND_TABLE
            | sys::IBV_QP_INIT_ATTR_RX_HASH;
        attr.pd = mr.pd().as_raw();
        attr.rwq_ind_tbl = table.raw.as_ptr();
        attr.rx_hash_conf = sys::ibv_rx_hash_conf {
            rx_hash_function: sys::IBV_RX_HASH_FUNC_TOEPLITZ,
            rx_hash_key_len: KEY.len() as u8,
            rx_hash_key: key.as_mut_ptr(),
            rx_hash_fields_mask: by.fields(),
        };
        // SAFETY: a live context; complete attributes, whose key outlives the call.
        let raw = unsafe { inline::create_qp_ex(context.as_raw(), &mut attr) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(last("ibv_create_qp").on(context.name()));
        };
        let qp = Self { raw, port, table };
        qp.start()?;
        Ok(Arc::new(qp))
    }

    /// mlx4 wants the pair walked to RTR; mlx5 has no states here and refuses any change.
    fn start(&self) -> Result<(), SetupError> {
        let port = sys::IBV_QP_STATE | sys::IBV_QP_PORT;
        for (state, mask) in [(sys::IBV_QPS_INIT, port), (sys::IBV_QPS_RTR, sys::IBV_QP_STATE)] {
            // SAFETY: all-zero is a value of this plain struct.
            let mut attr: sys::ibv_qp_attr = unsafe { std::mem::zeroed() };
            attr.qp_state = state;
            attr.port_num = self.port;
            let library = self.context().library();
            // SAFETY: a live pair; the mask names the fields that are set.
            let rc = unsafe { (library.ibv_modify_qp)(self.as_raw(), &mut attr, mask) };
            if [libc::EOPNOTSUPP, libc::ENOSYS].contains(&rc.abs()) {
                return Ok(());
            }
            check("ibv_modify_qp", rc).map_err(|e| e.on(self.context().name()))?;
        }
        Ok(())
    }

    pub(crate) fn as_raw(&self) -> *mut sys::ibv_qp {
        self.raw.as_ptr()
    }

    pub(crate) fn port(&self) -> u8 {
        self.port
    }

    pub(crate) fn context(&self) -> &Context {
        // A table is never without a queue.
        self.table.wqs[0].context()
    }
}

impl Drop for SpreadQp {
    fn drop(&mut self) {
        // SAFETY: flows of this pair held an Arc of it and are gone.
        unsafe { (self.context().library().ibv_destroy_qp)(self.as_raw()) };
    }
}
