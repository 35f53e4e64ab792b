//! libexanic (Exablaze, Cisco) as one table of C functions, buildable without the SDK.
//!
//! # For application authors
//!
//! Use `linerate` or `linerate-exanic`. Nothing here checks anything: neither does libexanic.
//!
//! # For backend authors
//!
//! [`Api`] is the only way to call the library. It is filled in one of two ways:
//!
//! * [`Api::linked`]: the feature `sdk` is on and the build found `exanic/exanic.h` and
//!   `libexanic.a` (`EXANIC_INCLUDE_DIR` and `EXANIC_LIB_DIR`, or the usual places). The structs
//!   are those of the headers found.
//! * injected: somebody else fills the table, as `linerate-sim` does. The structs are those of the
//!   [reference layout](mod@reference), libexanic 2.7.2 to 2.7.6, when there is no SDK.
//!
//! What the vendor's headers hold as inline functions is rewritten in Rust here: [`regs`] for the
//! registers, [`rx`] for the receive ring, [`ids`] for the names of models.
//!
//! ```
//! use linerate_exanic_sys::{Api, layout};
//!
//! match Api::linked() {
//!     Ok(_api) => println!("linked, structs of libexanic {}", layout::release()),
//!     Err(why) => println!("cards cannot be opened: {why}"),
//! }
//! ```
//!
//! # Which releases fit
//!
//! The fields this crate's users touch ([`exanic_t::registers`], [`exanic_t::info_page`], the
//! first six of [`exanic_rx_t`], the first twelve of [`exanic_tx_t`]) have not moved since 2.0.1;
//! the rest of the structs has. [`layout`] tells the releases apart and refuses what it does not
//! know, and `layout::check_*` compares a live handle with what the functions say, which finds
//! headers and a library of different lines.

#![allow(non_camel_case_types)]

mod api;
pub mod ids;
pub mod layout;
pub mod reference;
pub mod regs;
pub mod rx;
pub mod tx;

pub use api::{Api, Hooks, NoSdk};

/// The vendor's declarations, by bindgen from the headers that the build found.
#[cfg(exanic_sdk)]
#[allow(missing_docs, non_upper_case_globals, unreachable_pub, clippy::all, clippy::pedantic)]
#[allow(rust_2018_idioms, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
pub mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

#[cfg(exanic_sdk)]
use bindings as structs;
#[cfg(not(exanic_sdk))]
use reference as structs;

pub use structs::{
    exanic_info_page, exanic_ip_filter_t, exanic_mac_filter_t, exanic_port_info_t,
    exanic_port_stats_t, exanic_rx_t, exanic_t, exanic_tx_t,
};

/// Low 32 bits of a timestamp, in ticks of the card's clock.
pub type exanic_cycles32_t = u32;
