//! Which releases of libexanic share a struct layout, and whether a live handle fits the layout
//! that this build uses.
//!
//! The library has no version symbol and its headers no version macro, so sizes have to do:
//!
//! | release | `exanic_t` | `exanic_rx_t` | `exanic_tx_t` |
//! |---|---|---|---|
//! | 2.0.1 – 2.2.0 | 176 | 32 | 80 |
//! | 2.2.1 – 2.2.2 | 176 | 32 | 88 |
//! | 2.3.0 – 2.3.1 | 208 | 32 | 88 |
//! | 2.4.0 – 2.4.1 | 288 | 32 | 88 |
//! | 2.5.0 – 2.7.1 | 296 | 32 | 88 |
//! | 2.7.2 – 2.7.6 | 296 | 40 | 88 |

use crate::{exanic_rx_t, exanic_t, exanic_tx_t, regs, rx};

/// Releases with the layout of this build, or `"unknown"`.
#[must_use]
pub const fn release() -> &'static str {
    match (size_of::<exanic_t>(), size_of::<exanic_rx_t>(), size_of::<exanic_tx_t>()) {
        (176, 32, 80) => "2.0.1 to 2.2.0",
        (176, 32, 88) => "2.2.1 to 2.2.2",
        (208, 32, 88) => "2.3",
        (288, 32, 88) => "2.4",
        (296, 32, 88) => "2.5.0 to 2.7.1",
        (296, 40, 88) => "2.7.2 to 2.7.6",
        _ => "unknown",
    }
}

/// Is this build's layout one of the known ones, with the fields that matter in their place?
#[must_use]
pub const fn is_known() -> bool {
    use std::mem::offset_of;
    !matches!(release().as_bytes(), b"unknown")
        && offset_of!(exanic_t, registers) == 16
        && offset_of!(exanic_t, info_page) == 24
        && offset_of!(exanic_rx_t, buffer) == 16
        && offset_of!(exanic_rx_t, next_chunk) == 24
        && offset_of!(exanic_rx_t, generation) == 28
        && offset_of!(exanic_tx_t, feedback) == 16
        && offset_of!(exanic_tx_t, buffer) == 24
        && offset_of!(exanic_tx_t, buffer_offset) == 32
        && offset_of!(exanic_tx_t, buffer_size) == 36
        && offset_of!(exanic_tx_t, queue_len) == 52
}

/// Does a card handle look as this build's headers say? `ports` is what the library's own
/// `exanic_get_num_ports` says. Headers and a library from different sides of the 2.3.0 line
/// disagree on where `num_ports`, `caps` and `tick_hz` are, which shows here.
///
/// # Errors
///
/// Says what does not fit.
///
/// # Safety
///
/// `exanic` is a live handle of the library.
pub unsafe fn check_card(exanic: *const exanic_t, ports: i32) -> Result<(), &'static str> {
    // SAFETY: the caller vouches for the handle. Every field read here lies within the smallest
    // struct of any release; of another release it is merely a wrong number.
    let (registers, num_ports, caps, tick_hz) =
        unsafe { ((*exanic).registers, (*exanic).num_ports, (*exanic).caps, (*exanic).tick_hz) };
    if i64::from(ports) != i64::from(num_ports) {
        return Err("the library counts other ports than its struct shows");
    }
    if registers.is_null() || registers.addr() % 4096 != 0 {
        return Err("the registers are not mapped where the struct says");
    }
    // SAFETY: the registers of a live handle are mapped, and a page holds these two.
    let (card_caps, card_hz) =
        unsafe { (regs::read(registers, regs::CAPS), regs::read(registers, regs::CLK_HZ)) };
    // The library zeroes tick_hz when it cannot expand timestamps.
    if caps != card_caps || (tick_hz != card_hz && tick_hz != 0) {
        return Err("capabilities and clock rate in the struct are not the card's");
    }
    Ok(())
}

/// Does a reader look as this build's headers say?
///
/// # Errors
///
/// Says what does not fit.
///
/// # Safety
///
/// `reader` is a live handle of the library.
pub unsafe fn check_rx(
    reader: *const exanic_rx_t,
    exanic: *const exanic_t,
    port: i32,
) -> Result<(), &'static str> {
    // SAFETY: as for `check_card`.
    let r = unsafe { &*reader };
    let buffer = r.buffer.addr();
    let fits = r.exanic.cast_const() == exanic
        && r.port_number == port
        && r.buffer_number >= 0
        && buffer != 0
        && buffer % 4096 == 0
        && r.next_chunk < rx::RING_CHUNKS;
    if fits { Ok(()) } else { Err("the fields of exanic_rx_t are not where the headers say") }
}

/// Does a fresh sender of `bytes` of transmit memory look as this build's headers say?
///
/// # Errors
///
/// Says what does not fit.
///
/// # Safety
///
/// `sender` is a live handle of the library on which nothing was sent.
pub unsafe fn check_tx(
    sender: *const exanic_tx_t,
    exanic: *const exanic_t,
    port: i32,
    bytes: usize,
) -> Result<(), &'static str> {
    // SAFETY: as for `check_card`.
    let s = unsafe { &*sender };
    let fits = s.exanic.cast_const() == exanic
        && s.port_number == port
        && (0..256).contains(&s.feedback_slot)
        && !s.feedback.is_null()
        && !s.buffer.is_null()
        && s.buffer_size as usize == bytes
        && s.buffer_offset % 4096 == 0
        && s.queue_len > 0;
    if fits { Ok(()) } else { Err("the fields of exanic_tx_t are not where the headers say") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_uses_a_layout_that_the_table_knows() {
        assert!(is_known());
        assert_ne!(release(), "unknown");
        #[cfg(not(exanic_sdk))]
        assert_eq!(release(), "2.7.2 to 2.7.6");
    }
}
