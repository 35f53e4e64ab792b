//! Raw bindings to the part of libibverbs that Ethernet frames need.
//!
//! Written by hand: the public ABI of libibverbs has not moved in twenty releases, and a test
//! compares every size, offset and constant here with the installed headers. Building needs
//! neither clang nor a C compiler nor rdma-core.
//!
//! * [`Api`] is the table of library functions, and the only call path: [`Api::load`] opens
//!   `libibverbs.so.1` at run time; `Api::linked` (feature `linked`) binds at link time.
//! * [`inline`] has what the C headers define as `static inline` functions: everything hot
//!   (`ibv_poll_cq`, `ibv_post_send`, …) goes through tables inside the context, and so needs no
//!   symbol of the library.
//! * The types carry their C names and fields; rdma-core's manual pages document them.
//!
//! The safe crate is `linerate-verbs`.

#![allow(non_camel_case_types, missing_docs)]

mod api;
mod cq;
mod device;
mod event;
mod flow;
pub mod inline;
mod qp;
mod wq;
mod wr;

pub use api::{Api, LoadError};
pub use cq::*;
pub use device::*;
pub use event::*;
pub use flow::*;
pub use qp::*;
pub use wq::*;
pub use wr::*;
