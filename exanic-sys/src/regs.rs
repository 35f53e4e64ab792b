//! Registers of a card: 32-bit words, addressed by index. `register_read` and the address macros
//! of the vendor's headers.
//!
//! A read crosses the bus and takes about a microsecond; keep it off the hot path.

use std::sync::atomic::{AtomicU32, Ordering};

/// Version of the PCIe interface; 1 is the only one known. Read only: a write is the vendor's
/// way to push earlier writes out to the card.
pub const PCIE_IF_VER: u32 = 0;
/// Model: see [`crate::ids::hardware_name`].
pub const HW_ID: u32 = 1;
/// Firmware date, seconds since the epoch.
pub const HW_REV_DATE: u32 = 3;
/// What the card is used as: see [`crate::ids::function`].
pub const FUNCTION_ID: u32 = 8;
/// Low 32 bits of the card's clock.
pub const HW_TIME: u32 = 9;
/// Clock rate in ticks per second.
pub const CLK_HZ: u32 = 13;
/// Capability bits: see [`crate::ids::caps`].
pub const CAPS: u32 = 14;
/// High 32 bits of the card's clock, with [`crate::ids::caps::HW_TIME_HI`] only.
pub const HW_TIME_HI: u32 = 15;
/// Filter buffers per port.
pub const NUM_FILTER_BUFFERS: u32 = 33;

/// Port register: is the port on?
pub const PORT_ENABLED: u32 = 0;
/// Port register: speed in Mb/s.
pub const PORT_SPEED: u32 = 1;
/// Port register: [`crate::ids::port_status`] bits.
pub const PORT_STATUS: u32 = 2;
/// Port register: last three bytes of the MAC address.
pub const PORT_MAC_NIC: u32 = 3;
/// Port register: [`crate::ids::port_flags`] bits.
pub const PORT_FLAGS: u32 = 4;
/// Port register: a store sends the chunk at that offset of the transmit region.
pub const PORT_TX_COMMAND: u32 = 8;
/// Port register: where the port's transmit memory begins.
pub const PORT_TX_REGION_OFFSET: u32 = 9;
/// Port register: how much there is.
pub const PORT_TX_REGION_SIZE: u32 = 10;
/// Port register: when the first byte of the last frame left, low 32 bits, whoever sent it.
pub const PORT_TX_LAST_TIME: u32 = 11;
/// Port register: first three bytes of the MAC address.
pub const PORT_MAC_OUI: u32 = 12;

/// Port counter: frames sent, by everybody.
pub const STAT_TX: u32 = 1;
/// Port counter: good frames delivered.
pub const STAT_RX: u32 = 2;
/// Port counter: good frames for other MAC addresses.
pub const STAT_RX_IGNORED: u32 = 3;
/// Port counter: bad frames.
pub const STAT_RX_ERROR: u32 = 4;
/// Port counter: frames the card dropped.
pub const STAT_RX_DROPPED: u32 = 5;

/// Bytes of registers that are mapped.
pub const REGION_BYTES: usize = 2 * 4096;

/// Index of a port register (`REG_PORT_INDEX`).
#[inline]
#[must_use]
pub const fn port(port: u32, reg: u32) -> u32 {
    if port >= 8 { 0x1200 / 4 + 16 * (port - 8) + reg } else { 0x200 / 4 + 16 * port + reg }
}

/// Index of a port counter (`REG_PORT_STAT_INDEX`).
#[inline]
#[must_use]
pub const fn port_stat(port: u32, reg: u32) -> u32 {
    if port >= 8 { 0x1400 / 4 + 16 * (port - 8) + reg } else { 0x400 / 4 + 16 * port + reg }
}

/// Reads a register (`exanic_register_read`).
///
/// # Safety
///
/// `registers` is the mapping of a live handle and `index` lies within [`REGION_BYTES`].
#[inline]
#[must_use]
pub unsafe fn read(registers: *mut u32, index: u32) -> u32 {
    // SAFETY: the caller keeps index and mapping valid; words are aligned. An atomic load, so
    // that a simulated card may write the word from another thread.
    unsafe { AtomicU32::from_ptr(registers.add(index as usize)).load(Ordering::Relaxed) }
}

/// Writes a register (`exanic_register_write`).
///
/// # Safety
///
/// As [`read`]; and the card does what the register says: see the constants.
#[inline]
pub unsafe fn write(registers: *mut u32, index: u32, value: u32) {
    // SAFETY: the caller keeps index and mapping valid. Volatile: two stores are two commands.
    unsafe { registers.add(index as usize).write_volatile(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_ports_live_in_the_second_page() {
        assert_eq!(port(0, PORT_TX_COMMAND), 136);
        assert_eq!(port(1, PORT_TX_COMMAND), 152);
        assert_eq!(port(8, PORT_TX_COMMAND), 1160);
        assert_eq!(port_stat(0, STAT_TX), 257);
        assert!(port_stat(15, STAT_RX_DROPPED) as usize * 4 < REGION_BYTES);
    }
}
