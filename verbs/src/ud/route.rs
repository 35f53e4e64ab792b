//! How the card gets to an address.

use std::ptr::NonNull;
use std::sync::Arc;

use linerate_common::SetupError;
use linerate_ibverbs_sys as sys;

use super::Address;
use crate::error::last;
use crate::memory::Pd;

/// An address handle: how the card gets to an address.
#[derive(Debug)]
pub(super) struct Ah {
    raw: NonNull<sys::ibv_ah>,
    pd: Arc<Pd>,
}

// SAFETY: the raw pointer is only handed to libibverbs, which locks.
unsafe impl Send for Ah {}

impl Ah {
    pub(super) fn create(
        pd: &Arc<Pd>,
        port: u8,
        gid_index: u8,
        to: &Address,
    ) -> Result<Self, SetupError> {
        // SAFETY: all-zero is a value of this plain struct.
        let mut attr: sys::ibv_ah_attr = unsafe { std::mem::zeroed() };
        attr.grh.dgid = sys::ibv_gid { raw: to.gid }.into();
        attr.grh.sgid_index = gid_index;
        attr.grh.hop_limit = 64;
        attr.is_global = 1;
        attr.port_num = port;
        let context = &pd.context;
        // SAFETY: a live domain and complete attributes.
        let raw = unsafe { (context.library().ibv_create_ah)(pd.as_raw(), &mut attr) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw, pd: pd.clone() }),
            None => Err(last("ibv_create_ah")
                .on(context.name())
                .remedy("the address must be reachable from the port's interface: ip route get")),
        }
    }
}

impl Drop for Ah {
    fn drop(&mut self) {
        // SAFETY: the sender that used it is gone.
        unsafe { (self.pd.context.library().ibv_destroy_ah)(self.raw.as_ptr()) };
    }
}

/// What a sender's requests name their destination by.
#[derive(Debug)]
pub(crate) struct Route {
    pub(super) ah: Ah,
    pub(super) qpn: u32,
    pub(super) qkey: u32,
}

impl Route {
    pub(crate) fn request(&self) -> sys::ibv_send_wr_ud {
        sys::ibv_send_wr_ud {
            ah: self.ah.raw.as_ptr(),
            remote_qpn: self.qpn,
            remote_qkey: self.qkey,
            _atomic: [0; 2],
        }
    }
}
