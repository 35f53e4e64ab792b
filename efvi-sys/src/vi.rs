//! `struct ef_vi`, from the headers found at build time or from the reference layout.

#[cfg(efvi_sdk)]
pub use crate::bindings::{ef_vi, ef_vi_state, ef_vi_stats};
#[cfg(not(efvi_sdk))]
pub use crate::reference::{ef_vi, ef_vi_state, ef_vi_stats};
