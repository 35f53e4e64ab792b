//! What a receive queue posts to: a queue pair of its own, or a work queue that shares one.

use std::sync::Arc;

use linerate_common::SetupError;
use linerate_ibverbs_sys::{self as sys, inline};

use crate::cq::Cq;
use crate::device::Context;
use crate::qp::Qp;
use crate::spread::Wq;

/// The receiving half of something.
#[derive(Debug, Clone)]
pub(crate) enum RecvQueue {
    Pair(Arc<Qp>),
    Work(Arc<Wq>),
}

impl RecvQueue {
    pub(crate) fn cq(&self) -> &Cq {
        match self {
            Self::Pair(qp) => qp.cq(),
            Self::Work(wq) => wq.cq(),
        }
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        match self {
            Self::Pair(qp) => qp.context(),
            Self::Work(wq) => wq.context(),
        }
    }

    /// Addresses by which asynchronous events name it.
    pub(crate) fn objects(&self) -> [usize; 2] {
        let own = match self {
            Self::Pair(qp) => qp.as_raw() as usize,
            Self::Work(wq) => wq.as_raw() as usize,
        };
        [own, self.cq().as_raw() as usize]
    }

    /// Buffers may be posted after this.
    pub(crate) fn to_init(&self) -> Result<(), SetupError> {
        match self {
            Self::Pair(qp) => qp.to_init(),
            Self::Work(wq) => wq.to_ready(),
        }
    }

    /// Frames arrive after this.
    pub(crate) fn to_ready(&self) -> Result<(), SetupError> {
        match self {
            Self::Pair(qp) => qp.to_ready(),
            Self::Work(_) => Ok(()),
        }
    }

    pub(crate) fn to_reset(&self) -> Result<(), SetupError> {
        match self {
            Self::Pair(qp) => qp.to_reset(),
            Self::Work(wq) => wq.to_reset(),
        }
    }

    pub(crate) fn to_error(&self) -> Result<(), SetupError> {
        match self {
            Self::Pair(qp) => qp.to_error(),
            Self::Work(wq) => wq.to_error(),
        }
    }

    /// 0, or an errno with `bad` at the first request that was not posted.
    ///
    /// # Safety
    ///
    /// `list` is a list of valid requests whose memory is lent until their completion.
    #[inline]
    pub(crate) unsafe fn post(
        &self,
        list: *mut sys::ibv_recv_wr,
        bad: &mut *mut sys::ibv_recv_wr,
    ) -> i32 {
        // SAFETY: a live queue; the rest is the caller's promise.
        unsafe {
            match self {
                Self::Pair(qp) => inline::post_recv(qp.as_raw(), list, bad),
                Self::Work(wq) => inline::post_wq_recv(wq.as_raw(), list, bad),
            }
        }
    }
}
