//! libibverbs itself: loaded, linked or injected.

use std::ffi::CStr;
use std::ops::Deref;
#[cfg(not(feature = "linked"))]
use std::sync::OnceLock;

#[cfg(not(feature = "linked"))]
use linerate_common::ErrorKind;
use linerate_common::SetupError;
use linerate_ibverbs_sys::Api;

/// The functions of libibverbs. Copying it is copying a reference.
#[derive(Debug, Clone, Copy)]
pub struct Library(&'static Api);

impl Library {
    /// `libibverbs.so.1`, opened at the first call and kept open (bound at link time with the
    /// crate's `linked` feature).
    ///
    /// # Errors
    ///
    /// The library is not installed.
    pub fn load() -> Result<Self, SetupError> {
        #[cfg(feature = "linked")]
        return Ok(Self(Api::linked()));
        #[cfg(not(feature = "linked"))]
        {
            static API: OnceLock<Result<Api, String>> = OnceLock::new();
            match API.get_or_init(|| Api::load().map_err(|e| e.to_string())) {
                Ok(api) => Ok(Self(api)),
                Err(why) => Err(SetupError::new(ErrorKind::Unsupported, "dlopen", why.clone())
                    .remedy("install it: apt install libibverbs1 ibverbs-providers")),
            }
        }
    }

    /// Functions of your own: a simulated library, or one that counts and fails calls.
    #[must_use]
    pub fn injected(api: Api) -> Self {
        Self(Box::leak(Box::new(api)))
    }

    /// The library's text for a completion status.
    #[must_use]
    pub fn status_text(self, status: u32) -> &'static str {
        // SAFETY: the function takes any number.
        let text = unsafe { (self.ibv_wc_status_str)(status) };
        if text.is_null() {
            return "unknown status";
        }
        // SAFETY: constant strings of the library, which stays loaded.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("unknown status")
    }
}

impl Deref for Library {
    type Target = Api;
    fn deref(&self) -> &Api {
        self.0
    }
}
