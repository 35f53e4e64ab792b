//! Does the library that runs lay out `struct ef_vi` as the headers said?
//!
//! The struct changes with every minor release of Onload while the shared library's name does
//! not, so nothing but a look at the memory tells. [`size_of_vi`] looks before a card is
//! touched, [`vi`] after a VI was allocated.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr;

use libc::c_int;

use crate::api::Api;
use crate::types::{ef_driver_handle, ef_vi_nic_type};
use crate::vi::ef_vi;

/// The running library and the headers of this build disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// `struct ef_vi` has another size.
    Size {
        /// By the headers, in bytes.
        headers: usize,
        /// In the running library, in bytes.
        library: usize,
    },
    /// A field of a fresh VI does not hold what it must.
    Field(&'static str),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { headers, library } => write!(
                f,
                "struct ef_vi has {library} bytes in the running library, {headers} in the \
                 headers of this build"
            ),
            Self::Field(name) => {
                write!(f, "ef_vi::{name} of a fresh VI is not what the headers of this build say")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// Compares the size of `struct ef_vi`.
///
/// `ef_vi_init` zeroes exactly one of them before it looks at the architecture; given one that
/// no release knows, it then gives up without touching anything else.
///
/// # Errors
///
/// [`Mismatch::Size`].
pub fn size_of_vi(api: &Api) -> Result<(), Mismatch> {
    const CANARY: u8 = 0xa5;
    const NO_SUCH_ARCH: c_int = 0xee;
    let headers = size_of::<ef_vi>();
    // Room for any release so far and a good deal of growth.
    let layout = Layout::new::<[u64; 2048]>();
    // SAFETY: the layout is not empty.
    let space = unsafe { alloc(layout) };
    if space.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: `space` is 16 KiB of ours, far more than any release writes; the function only
    // zeroes and sets plain fields. Each byte was written by us before it is read.
    let library = unsafe {
        ptr::write_bytes(space, CANARY, layout.size());
        (api.vi_init)(space.cast(), NO_SUCH_ARCH, 0, 0, 0, 0, ptr::null_mut());
        let bytes = std::slice::from_raw_parts(space, layout.size());
        let end = bytes.iter().rposition(|b| *b != CANARY).map_or(0, |last| last + 1);
        dealloc(space, layout);
        end
    };
    if library == headers { Ok(()) } else { Err(Mismatch::Size { headers, library }) }
}

/// Looks at a freshly allocated VI: the driver handle and pointers to itself where the headers
/// put them, ring masks that are masks, operations that are there.
///
/// # Errors
///
/// [`Mismatch::Field`] names what is wrong. The VI must not be used, only freed.
///
/// # Safety
///
/// `vi` was allocated by `api` on `dh` and not freed.
pub unsafe fn vi(api: &Api, vi: *const ef_vi, dh: ef_driver_handle) -> Result<(), Mismatch> {
    fn is_mask(m: u32) -> bool {
        m.wrapping_add(1).count_ones() <= 1
    }
    let expect = |ok: bool, field| if ok { Ok(()) } else { Err(Mismatch::Field(field)) };
    // SAFETY: the caller vouches for the VI. Each field is checked before what depends on it.
    unsafe {
        expect((*vi).dh == dh, "dh")?;
        expect(ptr::eq((*vi).vi_qs[0], vi), "vi_qs")?;
        #[cfg(ef_evq_vi)]
        expect(ptr::eq((*vi).evq_vi, vi), "evq_vi")?;
        expect(is_mask((*vi).vi_rxq.mask), "vi_rxq.mask")?;
        expect(is_mask((*vi).vi_txq.mask), "vi_txq.mask")?;
        expect(!(*vi).ep_state.is_null(), "ep_state")?;
        expect(api.receive_fill_level(vi) == 0, "ep_state.rxq")?;
        expect(api.transmit_fill_level(vi) == 0, "ep_state.txq")?;
        let ef_vi_nic_type { arch, .. } = api.nic_type(vi);
        expect((1..=5).contains(&arch), "nic_type")?;
        let ops = &raw const (*vi).ops;
        expect((*ops).eventq_poll.is_some(), "ops.eventq_poll")?;
        expect((*ops).receive_init.is_some(), "ops.receive_init")?;
        expect((*ops).receive_push.is_some(), "ops.receive_push")?;
        expect((*ops).transmit.is_some(), "ops.transmit")?;
        expect((*ops).transmitv_init.is_some(), "ops.transmitv_init")?;
        expect((*ops).transmit_push.is_some(), "ops.transmit_push")?;
        expect((*ops).transmitv_ctpio.is_some(), "ops.transmitv_ctpio")?;
        expect((*ops).transmit_ctpio_fallback.is_some(), "ops.transmit_ctpio_fallback")?;
        #[cfg(ef_ops_timestamp)]
        expect((*ops).receive_get_timestamp.is_some(), "ops.receive_get_timestamp")?;
        #[cfg(ef_ops_has_many)]
        expect((*ops).eventq_has_many_events.is_some(), "ops.eventq_has_many_events")?;
    }
    Ok(())
}
