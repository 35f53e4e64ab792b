//! ef_vi (libciul of Solarflare and AMD Onload), raw.
//!
//! Applications use the `linerate` crate, and backend code `linerate-efvi`; this crate is the
//! foreign-function layer below.
//!
//! `struct ef_vi` changes with every minor release of Onload, and its hot functions exist only
//! as inlines and macros of the headers. So:
//!
//! * With the cargo feature `sdk`, and an SDK at build time, the layout comes from the headers
//!   that were found (8.1 to 9.2 and master), and the library beside them is linked. What
//!   differs between releases is detected from those headers.
//! * Otherwise the layout is that of release 9.2, for simulators. [`Library::linked`] then says
//!   what was missing and what to install.
//!
//! Either way [`Api`] is the only call path: its fields are the exported functions, its methods
//! the inlines and macros, in Rust. [`check`] compares headers and running library before a VI is
//! used.
//!
//! ```
//! use linerate_efvi_sys::Library;
//!
//! match Library::linked() {
//!     Ok(library) => {
//!         // SAFETY: takes nothing, returns a static string.
//!         let version = unsafe { std::ffi::CStr::from_ptr((library.vi_version_str)()) };
//!         println!("ef_vi {}", version.to_string_lossy());
//!     }
//!     Err(missing) => println!("{missing}; {}", linerate_efvi_sys::NoSdk::REMEDY),
//! }
//! ```

#![allow(non_camel_case_types, reason = "C names stay as they are")]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("ef_vi exists for Linux on x86-64 only");

mod api;
pub mod check;
mod consts;
mod event;
pub mod inject;
mod inlines;
mod library;
mod ops;
mod types;
mod vi;

#[cfg(not(efvi_sdk))]
#[allow(missing_docs, unreachable_pub, reason = "fields by their C names")]
mod reference;

#[cfg(efvi_sdk)]
mod linked;

/// Made by the build script from the headers it found.
#[cfg(efvi_sdk)]
#[allow(warnings, unsafe_op_in_unsafe_fn, clippy::all, clippy::undocumented_unsafe_blocks)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

/// Compares `types.rs` and `consts.rs` with the headers.
#[cfg(efvi_sdk)]
#[allow(warnings, unsafe_op_in_unsafe_fn, clippy::all, clippy::undocumented_unsafe_blocks)]
mod headers {
    include!(concat!(env!("OUT_DIR"), "/headers.rs"));
}

pub use api::{Api, Sometimes};
pub use consts::*;
pub use event::ef_event;
pub use library::{Library, NoSdk, SDK, Sdk};
pub use ops::Ops;
pub use types::*;
pub use vi::{ef_vi, ef_vi_state, ef_vi_stats};
