//! One driver handle with everything that hangs on it: protection domain, VI, registrations.
//!
//! The kernel stops a card's DMA when the last reference to the driver handle goes, not when the
//! VI or a registration is "freed". So each queue has a handle of its own, nothing is freed
//! singly, and [`Session`] closes the handle before it lets go of the memory.

mod card;
mod filters;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::CString;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use libc::c_int;
use linerate_common::pool::DmaRegion;
use linerate_common::{Error, ErrorKind, SetupError};
use linerate_efvi_sys::{
    Library, check, ef_addr, ef_driver_handle, ef_memreg, ef_pd, ef_pio, ef_vi,
};

use crate::error::{checked, mismatch};
use crate::set::SetHandle;
pub(crate) use card::Arch;

/// What the library keeps pointers to. It stays at its address, on the heap, and is only ever
/// reached through raw pointers: `ef_vi` points to itself, and a `&mut` would claim otherwise.
struct Pinned {
    vi: ef_vi,
    pd: ef_pd,
    pio: ef_pio,
}

/// How far opening came; closing goes back from there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Driver,
    Domain,
    Vi,
    Pio,
}

/// Sizes and flags of a VI to allocate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ViRequest {
    /// Slots: 0 for none, -1 for the library's default.
    pub(crate) rxq: c_int,
    pub(crate) txq: c_int,
    pub(crate) evq: c_int,
    pub(crate) flags: u64,
}

/// A driver handle, its protection domain, at most one VI, and registered memory.
pub(crate) struct Session {
    lib: Library,
    name: String,
    dh: ef_driver_handle,
    stage: Stage,
    pinned: NonNull<Pinned>,
    memregs: Vec<(ef_memreg, Arc<DmaRegion>)>,
    /// The set the VI belongs to, kept open as long as the VI.
    set: Option<Arc<SetHandle>>,
}

// SAFETY: nothing in libciul is bound to a thread; it asks only that one thread at a time is
// inside a VI, and a Session has one owner.
unsafe impl Send for Session {}

impl Session {
    /// Opens the driver and a protection domain on `interface`.
    pub(crate) fn open(lib: Library, interface: &str, pd_flags: u32) -> Result<Self, SetupError> {
        check::size_of_vi(&lib).map_err(mismatch)?;
        let name = CString::new(interface)
            .map_err(|_| crate::error::bad_argument("ef_pd_alloc_by_name", "a NUL in the name"))?;
        let mut dh = -1;
        // SAFETY: an int to write to.
        checked("ef_driver_open", unsafe { (lib.driver_open)(&mut dh) })?;
        // A child that kept the handle would keep the card writing after we closed it.
        // SAFETY: a descriptor we own.
        unsafe { libc::fcntl(dh, libc::F_SETFD, libc::FD_CLOEXEC) };
        let layout = Layout::new::<Pinned>();
        // SAFETY: the layout is not empty.
        let Some(pinned) = NonNull::new(unsafe { alloc_zeroed(layout) }.cast::<Pinned>()) else {
            handle_alloc_error(layout)
        };
        let mut session = Self {
            lib,
            name: interface.into(),
            dh,
            stage: Stage::Driver,
            pinned,
            memregs: Vec::new(),
            set: None,
        };
        // SAFETY: a zeroed ef_pd of ours that stays in place, and a NUL-terminated name.
        let rc = unsafe { (lib.pd_alloc_by_name)(session.pd(), dh, name.as_ptr(), pd_flags) };
        checked("ef_pd_alloc_by_name", rc)?;
        session.stage = Stage::Domain;
        Ok(session)
    }

    /// Allocates the VI and looks at it closely.
    pub(crate) fn allocate(&mut self, want: ViRequest) -> Result<(), SetupError> {
        let ViRequest { rxq, txq, evq, flags } = want;
        // SAFETY: a zeroed ef_vi of ours that stays in place (the library decrements a field of
        // it when it fails), our open driver handle and domain, an event queue of its own.
        let rc = unsafe {
            (self.lib.vi_alloc_from_pd)(
                self.vi(),
                self.dh,
                self.pd(),
                self.dh,
                evq,
                rxq,
                txq,
                ptr::null_mut(),
                -1,
                flags,
            )
        };
        checked("ef_vi_alloc_from_pd", rc)?;
        self.allocated()
    }

    /// Allocates the VI from a set.
    pub(crate) fn allocate_from(
        &mut self,
        set: &Arc<SetHandle>,
        want: ViRequest,
    ) -> Result<(), SetupError> {
        let ViRequest { rxq, txq, evq, flags } = want;
        let (set_ptr, set_dh) = set.raw();
        // SAFETY: as in `allocate`; the set is alive and stays so, because we keep it.
        let rc = unsafe {
            (self.lib.vi_alloc_from_set)(
                self.vi(),
                self.dh,
                set_ptr,
                set_dh,
                -1,
                evq,
                rxq,
                txq,
                ptr::null_mut(),
                -1,
                flags,
            )
        };
        checked("ef_vi_alloc_from_set", rc)?;
        self.set = Some(Arc::clone(set));
        self.allocated()
    }

    fn allocated(&mut self) -> Result<(), SetupError> {
        self.stage = Stage::Vi;
        // SAFETY: just allocated on this handle.
        unsafe { check::vi(&self.lib, self.vi(), self.dh) }.map_err(mismatch)
    }

    /// Makes `region` known to the card; the session keeps it alive.
    pub(crate) fn register(&mut self, region: &Arc<DmaRegion>) -> Result<DmaTable, SetupError> {
        let mut mr =
            ef_memreg { mr_dma_addrs: ptr::null_mut(), mr_dma_addrs_base: ptr::null_mut() };
        // SAFETY: the region is page-aligned, at least `len` long, and outlives the driver
        // handle because we hold it until after the close.
        let rc = unsafe {
            (self.lib.memreg_alloc)(
                &mut mr,
                self.dh,
                self.pd(),
                self.dh,
                region.as_ptr().cast(),
                region.len(),
            )
        };
        checked("ef_memreg_alloc", rc)?;
        let table = DmaTable(mr.mr_dma_addrs);
        self.memregs.push((mr, Arc::clone(region)));
        Ok(table)
    }

    /// Takes a region of the card's memory for programmed I/O; returns its length in bytes.
    pub(crate) fn link_pio(&mut self) -> Result<usize, SetupError> {
        // SAFETY: a zeroed ef_pio of ours that stays in place; live handle, domain and VI.
        unsafe {
            let pio = self.pio();
            checked("ef_pio_alloc", (self.lib.pio_alloc)(pio, self.dh, self.pd(), 4096, self.dh))?;
            let rc = (self.lib.pio_link_vi)(pio, self.dh, self.vi(), self.dh);
            if rc < 0 {
                (self.lib.pio_free)(pio, self.dh);
                return checked("ef_pio_link_vi", rc).map(|_| 0);
            }
            self.stage = Stage::Pio;
            Ok((*pio).pio_len as usize)
        }
    }

    /// Asks for one wake-up of the driver handle.
    pub(crate) fn prime(&mut self) -> Result<(), Error> {
        // SAFETY: a live VI.
        let rc = unsafe {
            let at = self.lib.eventq_current(self.vi());
            (self.lib.vi_prime)(self.vi(), self.dh, at)
        };
        if rc < 0 { Err(Error::os("ef_vi_prime", -rc)) } else { Ok(()) }
    }

    /// Sleeps in the driver until an event comes. `false`: the time ran out, or a signal came.
    pub(crate) fn wait(&mut self, timeout: Option<std::time::Duration>) -> Result<bool, Error> {
        let limit = timeout.map(|t| libc::timeval {
            tv_sec: t.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            // {0, 0} means for ever.
            tv_usec: i64::from(t.subsec_micros()).max(i64::from(t.as_secs() == 0)),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: a live VI, and a timeval that outlives the call or null.
        let rc = unsafe {
            let at = self.lib.eventq_current(self.vi());
            (self.lib.eventq_wait)(self.vi(), self.dh, at, limit)
        };
        // X3 and X4 give ppoll's plain -1 with errno beside it, where EF10 gives -errno.
        let errno = if rc == -1 { linerate_common::last_errno() } else { -rc };
        match errno {
            _ if rc >= 0 => Ok(true),
            libc::ETIMEDOUT | libc::EINTR => Ok(false),
            errno => Err(Error::os("ef_eventq_wait", errno)),
        }
    }

    #[inline]
    pub(crate) fn vi(&self) -> *mut ef_vi {
        // SAFETY: our allocation; a place expression, no reference.
        unsafe { &raw mut (*self.pinned.as_ptr()).vi }
    }

    pub(crate) fn pd(&self) -> *mut ef_pd {
        // SAFETY: as `vi`.
        unsafe { &raw mut (*self.pinned.as_ptr()).pd }
    }

    fn pio(&self) -> *mut ef_pio {
        // SAFETY: as `vi`.
        unsafe { &raw mut (*self.pinned.as_ptr()).pio }
    }

    #[inline]
    pub(crate) fn lib(&self) -> Library {
        self.lib
    }

    pub(crate) fn dh(&self) -> ef_driver_handle {
        self.dh
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open as long as we live, which is as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.dh) }
    }

    /// The port's name in errors.
    pub(crate) fn port(&self) -> String {
        format!("efvi:{}", self.name)
    }

    pub(crate) fn is_in_set(&self) -> bool {
        self.set.is_some()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: each part was set up by the stage recorded, nobody else uses them, and the
        // memory behind the registrations is still there: fields drop after this.
        unsafe {
            if self.stage >= Stage::Pio {
                (self.lib.pio_unlink_vi)(self.pio(), self.dh, self.vi(), self.dh);
                (self.lib.pio_free)(self.pio(), self.dh);
            }
            if self.stage >= Stage::Vi {
                (self.lib.vi_free)(self.vi(), self.dh);
            }
            for (mr, _) in &mut self.memregs {
                (self.lib.memreg_free)(mr, self.dh);
            }
            if self.stage >= Stage::Domain {
                (self.lib.pd_free)(self.pd(), self.dh);
            }
            // Only now does the card stop.
            (self.lib.driver_close)(self.dh);
            dealloc(self.pinned.as_ptr().cast(), Layout::new::<Pinned>());
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("interface", &self.name)
            .field("dh", &self.dh)
            .finish_non_exhaustive()
    }
}

/// The card's addresses of a registered region: one for each page of 4 KiB. Owned by the session
/// that made it.
#[derive(Debug)]
pub(crate) struct DmaTable(*const ef_addr);

impl DmaTable {
    /// The card's address of the byte at `offset` of the region.
    ///
    /// # Safety
    ///
    /// The session is alive, and the offset lies within the region: the library checks neither.
    #[inline]
    pub(crate) unsafe fn addr(&self, offset: usize) -> ef_addr {
        // SAFETY: the caller vouches for an entry of a live table.
        unsafe { *self.0.add(offset >> 12) | (offset & 0xfff) as ef_addr }
    }
}

/// The queue is lost: an overflow of its event queue or a reset of the card.
pub(crate) const fn lost(op: &'static str) -> Error {
    Error::new(ErrorKind::QueueLost, op)
}
