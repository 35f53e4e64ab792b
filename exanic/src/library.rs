//! The lock around libexanic's unlocked globals.
//!
//! The library keeps a list of open cards, counts of their owners, and one error text, all
//! without a lock. Everything that touches them runs under one mutex of this process, and a
//! failed call's text is copied before the mutex is let go.

use std::ffi::CStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use linerate_common::SetupError;
use linerate_exanic_sys::Api;

use crate::error;

static LIBRARY: Mutex<()> = Mutex::new(());

/// Proof that this thread has the library to itself.
pub(crate) struct Locked {
    _guard: MutexGuard<'static, ()>,
}

pub(crate) fn lock() -> Locked {
    Locked { _guard: LIBRARY.lock().unwrap_or_else(PoisonError::into_inner) }
}

impl Locked {
    /// The text of the call that just failed.
    pub(crate) fn last_error(&self, api: &Api) -> String {
        // SAFETY: the library returns its static buffer, NUL-terminated by vsnprintf, and the
        // lock keeps others from writing it meanwhile.
        let text = unsafe { CStr::from_ptr((api.get_last_error)()) };
        text.to_string_lossy().trim().to_owned()
    }

    /// A failed call as an error with a remedy.
    pub(crate) fn failed(&self, api: &Api, op: &'static str) -> SetupError {
        error::library(op, self.last_error(api))
    }
}
