//! Protection domains, and the pool's memory registered with a card.

use std::ptr::NonNull;
use std::sync::Arc;

use linerate_common::SetupError;
use linerate_common::pool::DmaRegion;
use linerate_ibverbs_sys as sys;

use crate::device::Context;
use crate::error::last;

/// A protection domain: queues and memory of one domain may meet.
#[derive(Debug)]
pub(crate) struct Pd {
    raw: NonNull<sys::ibv_pd>,
    pub(crate) context: Arc<Context>,
}

// SAFETY: libibverbs locks the calls that take a domain.
unsafe impl Send for Pd {}
// SAFETY: as above.
unsafe impl Sync for Pd {}

impl Pd {
    pub(crate) fn alloc(context: &Arc<Context>) -> Result<Arc<Self>, SetupError> {
        // SAFETY: a live context.
        let raw = unsafe { (context.library().ibv_alloc_pd)(context.as_raw()) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Arc::new(Self { raw, context: context.clone() })),
            None => Err(last("ibv_alloc_pd").on(context.name())),
        }
    }

    pub(crate) fn as_raw(&self) -> *mut sys::ibv_pd {
        self.raw.as_ptr()
    }
}

impl Drop for Pd {
    fn drop(&mut self) {
        // SAFETY: queues and memory of this domain held an Arc of it and are gone.
        unsafe { (self.context.library().ibv_dealloc_pd)(self.as_raw()) };
    }
}

/// A region registered with a domain. It keeps both alive: the memory outlives its registration.
#[derive(Debug)]
pub(crate) struct Mr {
    raw: NonNull<sys::ibv_mr>,
    lkey: u32,
    pd: Arc<Pd>,
    _region: Arc<DmaRegion>,
}

// SAFETY: libibverbs locks the calls that take a registration.
unsafe impl Send for Mr {}
// SAFETY: as above; `lkey` does not change.
unsafe impl Sync for Mr {}

impl Mr {
    /// The registration of `region` with `pd`: the one there is, or a new one.
    pub(crate) fn of(
        pd: &Arc<Pd>,
        region: &Arc<DmaRegion>,
        relaxed_ordering: bool,
    ) -> Result<Arc<Self>, SetupError> {
        let key = format!("verbs:{:p}:{relaxed_ordering}", pd.as_raw());
        region.registration(&key, || {
            let mut access = sys::IBV_ACCESS_LOCAL_WRITE;
            if relaxed_ordering {
                access |= sys::IBV_ACCESS_RELAXED_ORDERING;
            }
            // SAFETY: the mapping is `len` bytes, and the registration holds the region.
            let raw = unsafe {
                (pd.context.library().ibv_reg_mr)(
                    pd.as_raw(),
                    region.as_ptr().cast(),
                    region.len(),
                    access as i32,
                )
            };
            let Some(raw) = NonNull::new(raw) else {
                return Err(last("ibv_reg_mr").on(pd.context.name()));
            };
            // SAFETY: a live registration.
            let lkey = unsafe { (*raw.as_ptr()).lkey };
            Ok(Self { raw, lkey, pd: pd.clone(), _region: region.clone() })
        })
    }

    /// The domain it is registered with.
    pub(crate) fn pd(&self) -> &Arc<Pd> {
        &self.pd
    }

    /// What work requests name the memory by.
    pub(crate) fn lkey(&self) -> u32 {
        self.lkey
    }
}

impl Drop for Mr {
    fn drop(&mut self) {
        // SAFETY: the queues that used it held an Arc of it and are gone.
        unsafe { (self.pd.context.library().ibv_dereg_mr)(self.raw.as_ptr()) };
    }
}
