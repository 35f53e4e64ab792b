//! One registration of a pool's region, shared by every socket that works on it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use linerate_common::SetupError;
use linerate_common::pool::{DmaRegion, Pool};

use crate::socket::Socket;

/// The sockets on one region. The kernel has no object of its own for a registered region: it
/// belongs to the sockets, and a new one joins by naming any that is bound.
#[derive(Debug)]
pub(crate) struct Umem {
    /// Memory outlives every registration of it.
    _region: Arc<DmaRegion>,
    sockets: Mutex<Vec<Weak<Socket>>>,
}

impl Umem {
    /// The one of this pool. Sockets with and without room for transmit metadata register the
    /// region separately: it is a property of the registration.
    pub(crate) fn of(pool: &Pool, tx_metadata: bool) -> Result<Arc<Self>, SetupError> {
        let region = pool.region();
        region.registration(&format!("afxdp, transmit metadata: {tx_metadata}"), || {
            Ok(Self { _region: region.clone(), sockets: Mutex::new(Vec::new()) })
        })
    }

    /// A socket to join. Mode and wake-up flag are the region's in the kernel: they must agree.
    pub(crate) fn find(&self, zero_copy: bool, need_wakeup: bool) -> Option<Arc<Socket>> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|s| s.strong_count() > 0);
        sockets
            .iter()
            .filter_map(Weak::upgrade)
            .find(|s| s.is_zero_copy() == zero_copy && s.needs_wakeup() == need_wakeup)
    }

    /// Later sockets may join this one.
    pub(crate) fn joined(&self, socket: &Arc<Socket>) {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.push(Arc::downgrade(socket));
    }
}
