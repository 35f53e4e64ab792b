//! Transmit memory: the header of a chunk, and the store fence (`fifo_if.h`, `platform.h`).
//!
//! Transmit memory is on the card, mapped write-combining. Never read it back.

/// Bytes of the header in front of a chunk's payload.
pub const HEADER_BYTES: usize = 8;
/// Bytes between the header and a raw frame (`exanic_payload_padding_bytes`).
pub const PADDING_BYTES: usize = 2;
/// Bytes in front of a raw frame.
pub const FRAME_OFFSET: usize = HEADER_BYTES + PADDING_BYTES;
/// Chunk type: a raw frame, to which the card appends the check sequence.
pub const TYPE_RAW: u8 = 1;
/// In the slot index: the card writes no feedback for this chunk.
pub const NO_FEEDBACK: u16 = 0x8000;
/// Bytes of transmit memory per entry of a port's command queue.
pub const BYTES_PER_COMMAND: usize = 512;

/// The header of a chunk that holds a raw frame of `frame_bytes`, padding included.
#[inline]
#[must_use]
pub fn raw_header(feedback_id: u16, feedback_slot: u16, frame_bytes: u16) -> [u8; FRAME_OFFSET] {
    // The first eight bytes as a word: they go to the card in one store.
    let word = u64::from(feedback_id)
        | u64::from(feedback_slot) << 16
        | u64::from(frame_bytes.wrapping_add(PADDING_BYTES as u16)) << 32
        | u64::from(TYPE_RAW) << 48;
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [a, b, c, d, e, f, g, h, 0, 0]
}

/// Everything written to transmit memory so far reaches the card before anything written later
/// (`iowb`): write-combining stores are otherwise unordered.
#[inline]
pub fn store_fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every x86-64 has the instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_counts_the_padding() {
        let header = raw_header(0x1234, 7 | NO_FEEDBACK, 60);
        assert_eq!(header, [0x34, 0x12, 7, 0x80, 62, 0, 1, 0, 0, 0]);
    }
}
