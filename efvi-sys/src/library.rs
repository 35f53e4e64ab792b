//! Where the functions come from.

use std::fmt;
use std::ops::Deref;

use crate::api::Api;

/// The SDK that was found when this crate was built, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sdk {
    /// Directory of the headers, empty without an SDK.
    pub include_dir: &'static str,
    /// The library that was linked, empty without an SDK.
    pub library: &'static str,
    /// Why the build has no SDK, empty when it has one.
    pub missing: &'static str,
}

/// What the build script found.
pub const SDK: Sdk = Sdk {
    include_dir: env!("LINERATE_EFVI_INCLUDE_DIR"),
    library: env!("LINERATE_EFVI_LIBRARY"),
    missing: env!("LINERATE_EFVI_MISSING"),
};

/// One ef_vi implementation: a table that somebody answers for.
#[derive(Clone, Copy)]
pub struct Library(&'static Api);

impl Library {
    /// The library that was linked at build time.
    ///
    /// # Errors
    ///
    /// There is none: [`NoSdk`] says what was missing and what to install.
    pub const fn linked() -> Result<Self, NoSdk> {
        #[cfg(efvi_sdk)]
        return Ok(Self(&crate::linked::API));
        #[cfg(not(efvi_sdk))]
        return Err(NoSdk);
    }

    /// A table made elsewhere: a simulator.
    ///
    /// # Safety
    ///
    /// Each function of the table behaves as the C function of its name for as long as the
    /// program runs, and the VIs it makes have the layout of [`ef_vi`](crate::ef_vi).
    #[must_use]
    pub const unsafe fn injected(api: &'static Api) -> Self {
        Self(api)
    }
}

impl Deref for Library {
    type Target = Api;

    #[inline]
    fn deref(&self) -> &Api {
        self.0
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Library").field(&std::ptr::from_ref(self.0)).finish()
    }
}

/// This build has no vendor library in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSdk;

impl NoSdk {
    /// What to do about it.
    pub const REMEDY: &'static str = "install Onload's development files (package \
        openonload-devel or onload-dev, or `onload_install`), or point EFVI_INCLUDE_DIR and \
        EFVI_LIB_DIR at them, and rebuild with the cargo feature `sdk` (needs libclang)";
}

impl fmt::Display for NoSdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "built without ef_vi: {}", SDK.missing)
    }
}

impl std::error::Error for NoSdk {}
