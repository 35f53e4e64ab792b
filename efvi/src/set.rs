//! A set of VIs that share filters: the card spreads their flows over the members by hash.

use std::fmt;
use std::ptr;
use std::sync::Arc;

use libc::c_int;
use linerate_common::SetupError;
use linerate_efvi_sys::{ef_driver_handle, ef_vi_set};

use crate::error::{bad_argument, checked};
use crate::session::Session;

/// A VI set, alive as long as any of its members.
pub(crate) struct SetHandle {
    /// On the heap and reached by pointer only: the library is given mutable pointers to it.
    set: *mut ef_vi_set,
    /// Was it allocated, so that it must be freed?
    live: bool,
    session: Session,
}

// SAFETY: the set's fields are written once, while it is made; afterwards the library only reads
// them, for system calls that the kernel serialises.
unsafe impl Send for SetHandle {}
// SAFETY: as above; the session inside is not reachable through a shared reference but for its
// driver handle, a number.
unsafe impl Sync for SetHandle {}

impl SetHandle {
    /// A set for `members` VIs on the interface of `session`.
    pub(crate) fn new(session: Session, members: usize) -> Result<Arc<Self>, SetupError> {
        const OP: &str = "ef_vi_set_alloc_from_pd";
        let n = c_int::try_from(members).ok().filter(|n| (1..=64).contains(n));
        let n = n.ok_or_else(|| bad_argument(OP, "a set has 1 to 64 queues"))?;
        let set = Box::into_raw(Box::new(ef_vi_set { vis_res_id: 0, vis_pd: ptr::null_mut() }));
        let mut handle = Self { set, live: false, session };
        let (lib, dh, pd) = (handle.session.lib(), handle.session.dh(), handle.session.pd());
        // SAFETY: a set and a domain of ours that stay in place.
        checked(OP, unsafe { (lib.vi_set_alloc_from_pd)(set, dh, pd, dh, n) })?;
        handle.live = true;
        Ok(Arc::new(handle))
    }

    /// For the library's calls on sets.
    pub(crate) fn raw(&self) -> (*mut ef_vi_set, ef_driver_handle) {
        (self.set, self.session.dh())
    }
}

impl Drop for SetHandle {
    fn drop(&mut self) {
        // SAFETY: no member is left, each of which holds an Arc of us; the box is ours.
        unsafe {
            if self.live {
                (self.session.lib().vi_set_free)(self.set, self.session.dh());
            }
            drop(Box::from_raw(self.set));
        }
    }
}

impl fmt::Debug for SetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetHandle").field("session", &self.session).finish_non_exhaustive()
    }
}
