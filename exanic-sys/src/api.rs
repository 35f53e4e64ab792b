//! The table of C functions.

use std::ffi::{c_char, c_int};
use std::fmt;

use crate::{
    exanic_ip_filter_t, exanic_mac_filter_t, exanic_port_info_t, exanic_port_stats_t, exanic_rx_t,
    exanic_t, exanic_tx_t,
};

/// Every function of libexanic that linerate calls. The library checks next to nothing, keeps an
/// unlocked list of open cards and one unlocked error text: the safe crate takes a lock around
/// all of it.
#[derive(Clone, Copy)]
pub struct Api {
    /// Opens `/dev/NAME`, or counts one more owner of the open handle. Null on failure.
    pub acquire_handle: unsafe extern "C" fn(*const c_char) -> *mut exanic_t,
    /// Counts one owner less; the last closes the card.
    pub release_handle: unsafe extern "C" fn(*mut exanic_t),
    /// The text of the last failure: one global buffer, never cleared. Copy it at once.
    pub get_last_error: unsafe extern "C" fn() -> *const c_char,
    /// 0 when model and function are known to the library.
    pub check_supported: unsafe extern "C" fn(*mut exanic_t) -> c_int,

    /// A reader of a port's ring; buffers above 0 are allocated when need be. Null on failure.
    pub acquire_rx_buffer: unsafe extern "C" fn(*mut exanic_t, c_int, c_int) -> *mut exanic_rx_t,
    /// A reader of a filter buffer that nobody uses. Null on failure.
    pub acquire_unused_filter_buffer:
        unsafe extern "C" fn(*mut exanic_t, c_int) -> *mut exanic_rx_t,
    /// Gives a reader back; frees a filter buffer even when others still read it.
    pub release_rx_buffer: unsafe extern "C" fn(*mut exanic_rx_t),
    /// Spreads TCP and UDP over filter buffers 1 to the number returned; -1 on failure.
    pub enable_flow_hashing: unsafe extern "C" fn(*mut exanic_t, c_int, c_int, c_int) -> c_int,
    /// Ends that; the buffers stay allocated.
    pub disable_flow_hashing: unsafe extern "C" fn(*mut exanic_t, c_int),
    /// Moves a reader to the newest end of a frame (`__exanic_rx_catchup`).
    pub rx_catchup: unsafe extern "C" fn(*mut exanic_rx_t),

    /// A sender with that many bytes of transmit memory, a multiple of 4096. Null on failure.
    pub acquire_tx_buffer: unsafe extern "C" fn(*mut exanic_t, c_int, usize) -> *mut exanic_tx_t,
    /// Gives a sender back.
    pub release_tx_buffer: unsafe extern "C" fn(*mut exanic_tx_t),
    /// Longest frame that a sender can always send.
    pub get_tx_mtu: unsafe extern "C" fn(*mut exanic_tx_t) -> usize,

    /// Steers what a rule selects to a reader's buffer. Its id, or -1.
    pub filter_add_ip:
        unsafe extern "C" fn(*mut exanic_t, *const exanic_rx_t, *const exanic_ip_filter_t) -> c_int,
    /// As `filter_add_ip`, by MAC address, ethertype and VLAN.
    pub filter_add_mac: unsafe extern "C" fn(
        *mut exanic_t,
        *const exanic_rx_t,
        *const exanic_mac_filter_t,
    ) -> c_int,
    /// Removes a port's IP rule, whoever made it.
    pub filter_remove_ip: unsafe extern "C" fn(*mut exanic_t, c_int, c_int) -> c_int,
    /// Removes a port's MAC rule, whoever made it.
    pub filter_remove_mac: unsafe extern "C" fn(*mut exanic_t, c_int, c_int) -> c_int,

    /// Ports of the card.
    pub get_num_ports: unsafe extern "C" fn(*mut exanic_t) -> c_int,
    /// Can the port receive?
    pub port_rx_usable: unsafe extern "C" fn(*mut exanic_t, c_int) -> c_int,
    /// Can the port send?
    pub port_tx_usable: unsafe extern "C" fn(*mut exanic_t, c_int) -> c_int,
    /// Is the interface up?
    pub port_enabled: unsafe extern "C" fn(*mut exanic_t, c_int) -> c_int,
    /// [`crate::ids::port_status`] bits; 0 for a bad port.
    pub get_port_status: unsafe extern "C" fn(*mut exanic_t, c_int) -> c_int,
    /// Mb/s; all ones for a bad port.
    pub get_port_speed: unsafe extern "C" fn(*mut exanic_t, c_int) -> u32,
    /// Writes six bytes. 0 or -1.
    pub get_mac_addr: unsafe extern "C" fn(*mut exanic_t, c_int, *mut u8) -> c_int,
    /// 1, 0 or -1.
    pub get_promiscuous_mode: unsafe extern "C" fn(*mut exanic_t, c_int) -> c_int,
    /// The port's counters. 0 or -1.
    pub get_port_stats:
        unsafe extern "C" fn(*mut exanic_t, c_int, *mut exanic_port_stats_t) -> c_int,
    /// The interface behind a port. 0 or -1.
    pub get_interface_name: unsafe extern "C" fn(*mut exanic_t, c_int, *mut c_char, usize) -> c_int,
    /// The card and port behind an interface. 0 or -1.
    pub find_port_by_interface_name:
        unsafe extern "C" fn(*const c_char, *mut c_char, usize, *mut c_int) -> c_int,
    /// Fills a table of that many bytes. Number of ports, or -1.
    pub get_all_ports: unsafe extern "C" fn(*mut exanic_port_info_t, usize) -> isize,

    /// What a simulated card must see and a real one does by itself.
    pub hooks: Hooks,
}

/// Where a simulated card stands in for hardware or kernel. All `None` with the real library.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hooks {
    /// Called instead of a store to a register: card, word index, value. A store in the memory of
    /// a simulated card would go unseen, or two would become one.
    pub register_write: Option<unsafe extern "C" fn(*mut exanic_t, u32, u32)>,
    /// Called instead of the kernel's promiscuous mode: card, port, on or off. 0 or -1.
    pub set_promiscuous: Option<unsafe extern "C" fn(*mut exanic_t, c_int, c_int) -> c_int>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

/// This build has no libexanic in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSdk {
    /// What the build looked for and where.
    pub missing: &'static str,
}

impl fmt::Display for NoSdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "built without libexanic ({})", self.missing)
    }
}

impl std::error::Error for NoSdk {}

impl Api {
    /// The library that was linked at build time.
    ///
    /// # Errors
    ///
    /// The feature `sdk` was off, or the build found no libexanic: says which file was missing.
    #[cfg(not(exanic_sdk))]
    pub const fn linked() -> Result<&'static Self, NoSdk> {
        Err(NoSdk {
            missing: match option_env!("LINERATE_EXANIC_MISSING") {
                Some(missing) => missing,
                None => "the cargo feature `sdk` is off",
            },
        })
    }

    /// The library that was linked at build time.
    ///
    /// # Errors
    ///
    /// None in this build: it found libexanic.
    #[cfg(exanic_sdk)]
    pub const fn linked() -> Result<&'static Self, NoSdk> {
        use crate::bindings as c;
        // The types must match the declarations in the headers found, or this does not compile.
        static LINKED: Api = Api {
            acquire_handle: c::exanic_acquire_handle,
            release_handle: c::exanic_release_handle,
            get_last_error: c::exanic_get_last_error,
            check_supported: c::exanic_check_supported,
            acquire_rx_buffer: c::exanic_acquire_rx_buffer,
            acquire_unused_filter_buffer: c::exanic_acquire_unused_filter_buffer,
            release_rx_buffer: c::exanic_release_rx_buffer,
            enable_flow_hashing: c::exanic_enable_flow_hashing,
            disable_flow_hashing: c::exanic_disable_flow_hashing,
            rx_catchup: c::__exanic_rx_catchup,
            acquire_tx_buffer: c::exanic_acquire_tx_buffer,
            release_tx_buffer: c::exanic_release_tx_buffer,
            get_tx_mtu: c::exanic_get_tx_mtu,
            filter_add_ip: c::exanic_filter_add_ip,
            filter_add_mac: c::exanic_filter_add_mac,
            filter_remove_ip: c::exanic_filter_remove_ip,
            filter_remove_mac: c::exanic_filter_remove_mac,
            get_num_ports: c::exanic_get_num_ports,
            port_rx_usable: c::exanic_port_rx_usable,
            port_tx_usable: c::exanic_port_tx_usable,
            port_enabled: c::exanic_port_enabled,
            get_port_status: c::exanic_get_port_status,
            get_port_speed: c::exanic_get_port_speed,
            get_mac_addr: c::exanic_get_mac_addr,
            get_promiscuous_mode: c::exanic_get_promiscuous_mode,
            get_port_stats: c::exanic_get_port_stats,
            get_interface_name: c::exanic_get_interface_name,
            find_port_by_interface_name: c::exanic_find_port_by_interface_name,
            get_all_ports: c::exanic_get_all_ports,
            hooks: Hooks { register_write: None, set_promiscuous: None },
        };
        Ok(&LINKED)
    }
}
