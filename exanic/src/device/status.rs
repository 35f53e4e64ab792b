//! What a port says about itself, and what it has counted.

use std::ffi::c_char;

use linerate_common::SetupError;
use linerate_exanic_sys::{exanic_port_stats_t, ids};

use super::{Device, text};
use crate::library;

/// What a port says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStatus {
    /// Is the interface administratively up?
    pub enabled: bool,
    /// Is the link up?
    pub link: bool,
    /// Does the module see a signal?
    pub signal: bool,
    /// Mb/s.
    pub speed_mbps: u32,
    /// MAC address.
    pub mac: [u8; 6],
    /// Are frames for other MAC addresses received?
    pub promiscuous: bool,
    /// Does the card say that receive timestamps are ready?
    pub rx_time_ready: bool,
    /// Does the card say that transmit timestamps are ready?
    pub tx_time_ready: bool,
}

/// Counters of a port, over all programs and the kernel. The card counts in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PortCounters {
    /// Frames sent.
    pub tx: u32,
    /// Good frames delivered.
    pub rx: u32,
    /// Good frames for other MAC addresses, not delivered.
    pub rx_ignored: u32,
    /// Bad frames.
    pub rx_error: u32,
    /// Frames that the card lost for want of bus or memory bandwidth.
    pub rx_dropped: u32,
}

impl Device {
    /// The network interface behind a port (`exanic_get_interface_name`).
    ///
    /// # Errors
    ///
    /// There is no such port, or it has no interface.
    pub fn interface(&self, port: u32) -> Result<String, SetupError> {
        let mut name: [c_char; 16] = [0; 16];
        let locked = library::lock();
        // SAFETY: a live handle, a number that the library checks, and 16 bytes of room.
        let rc = unsafe {
            (self.api.get_interface_name)(self.raw(), port as i32, name.as_mut_ptr(), name.len())
        };
        if rc != 0 {
            let failed = locked.failed(self.api, "exanic_get_interface_name");
            return Err(failed.on(self.port_name(port)));
        }
        Ok(text(&name))
    }

    /// What a port says about itself.
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn status(&self, port: u32) -> Result<PortStatus, SetupError> {
        const CALL: &str = "exanic_get_mac_addr";
        let mut mac = [0; 6];
        let (api, handle, number) = (self.api, self.raw(), port as i32);
        let locked = library::lock();
        // SAFETY: a live handle, a port number that the library checks, and six bytes of room.
        let (rc, status, enabled, speed_mbps, promiscuous) = unsafe {
            (
                (api.get_mac_addr)(handle, number, mac.as_mut_ptr()),
                (api.get_port_status)(handle, number) as u32,
                (api.port_enabled)(handle, number) != 0,
                (api.get_port_speed)(handle, number),
                (api.get_promiscuous_mode)(handle, number) == 1,
            )
        };
        if rc != 0 {
            return Err(locked.failed(api, CALL).on(self.port_name(port)));
        }
        let has = |bit| status & bit != 0;
        Ok(PortStatus {
            enabled,
            link: has(ids::port_status::LINK),
            signal: has(ids::port_status::SIGNAL),
            speed_mbps,
            mac,
            promiscuous,
            rx_time_ready: !has(ids::port_status::RX_TIME_BAD),
            tx_time_ready: !has(ids::port_status::TX_TIME_BAD),
        })
    }

    /// A port's counters (`exanic_get_port_stats`).
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn counters(&self, port: u32) -> Result<PortCounters, SetupError> {
        let mut stats = exanic_port_stats_t {
            tx_count: 0,
            rx_count: 0,
            rx_ignored_count: 0,
            rx_error_count: 0,
            rx_dropped_count: 0,
        };
        let locked = library::lock();
        // SAFETY: a live handle, a port number that the library checks, and room for the struct.
        if unsafe { (self.api.get_port_stats)(self.raw(), port as i32, &raw mut stats) } != 0 {
            let failed = locked.failed(self.api, "exanic_get_port_stats");
            return Err(failed.on(self.port_name(port)));
        }
        Ok(PortCounters {
            tx: stats.tx_count,
            rx: stats.rx_count,
            rx_ignored: stats.rx_ignored_count,
            rx_error: stats.rx_error_count,
            rx_dropped: stats.rx_dropped_count,
        })
    }
}
