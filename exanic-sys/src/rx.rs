//! The receive ring: its format, and the inline functions of `fifo_rx.h`.
//!
//! A ring is 2 MiB of host memory in 16,384 chunks. The card writes a chunk's payload, then its
//! metadata, then the next chunk, round and round, whether or not anybody reads: there is no
//! consumer index. A chunk is valid when its generation is the one the reader expects, not yet
//! written when it is one less, and anything else means that the card has lapped the reader.
//!
//! **The card may write any of it at any time**, so nothing here makes a `&[u8]`: all access is
//! by atomic 64-bit words, which on x86-64 are plain moves.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Api, exanic_cycles32_t, exanic_rx_t};

/// Chunks in a ring.
pub const RING_CHUNKS: u32 = 16_384;
/// Bytes of a chunk, metadata included.
pub const CHUNK_BYTES: usize = 128;
/// Bytes of the frame in a full chunk.
pub const PAYLOAD_BYTES: usize = 120;
/// 64-bit words of the frame in a full chunk.
pub const PAYLOAD_WORDS: usize = PAYLOAD_BYTES / 8;
/// Bytes of a ring.
pub const RING_BYTES: usize = RING_CHUNKS as usize * CHUNK_BYTES;

/// Frame status: good.
pub const FRAME_OK: u8 = 0;
/// Frame status: the sender aborted it.
pub const FRAME_ABORTED: u8 = 1;
/// Frame status: wrong frame check sequence.
pub const FRAME_CORRUPT: u8 = 2;
/// Frame status: the card lost frames (bus or memory too slow).
pub const FRAME_HWOVFL: u8 = 3;
/// Returned negated: the reader was lapped.
pub const FRAME_SWOVFL: isize = 256;
/// Returned negated by the library: the caller's buffer was too small.
pub const FRAME_TRUNCATED: isize = 257;
/// The error bits of a frame status.
pub const FRAME_ERROR_MASK: u8 = 0x0f;

/// Filter region of MAC rules.
pub const REGION_MAC: u8 = 0;
/// Filter region of IP rules.
pub const REGION_IP: u8 = 1;

/// One chunk as the card writes it.
#[derive(Debug)]
#[repr(C)]
pub struct Chunk {
    /// The frame's bytes, in memory order.
    pub payload: [AtomicU64; PAYLOAD_WORDS],
    /// [`Info`], written after the payload.
    pub info: AtomicU64,
}

const _: () = assert!(size_of::<Chunk>() == CHUNK_BYTES);

/// Metadata of a chunk, loaded in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info(pub u64);

impl Info {
    /// Packs the fields (for simulated cards).
    #[must_use]
    pub const fn new(timestamp: u32, status: u8, length: u8, matched: u8, generation: u8) -> Self {
        Self(
            timestamp as u64
                | (status as u64) << 32
                | (length as u64) << 40
                | (matched as u64) << 48
                | (generation as u64) << 56,
        )
    }

    /// Start of the frame, low 32 bits of the card's clock.
    #[inline]
    #[must_use]
    pub const fn timestamp(self) -> u32 {
        self.0 as u32
    }

    /// `FRAME_*`; meaningful in a frame's last chunk only.
    #[inline]
    #[must_use]
    pub const fn status(self) -> u8 {
        (self.0 >> 32) as u8 & FRAME_ERROR_MASK
    }

    /// `REGION_*` of the rule that matched.
    #[inline]
    #[must_use]
    pub const fn region(self) -> u8 {
        (self.0 >> 36) as u8 & 0x0f
    }

    /// Bytes in a frame's last chunk, 0 in the others.
    #[inline]
    #[must_use]
    pub const fn length(self) -> u8 {
        (self.0 >> 40) as u8
    }

    /// The rule that matched, in a filter buffer.
    #[inline]
    #[must_use]
    pub const fn matched(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// Counts the card's laps around the ring.
    #[inline]
    #[must_use]
    pub const fn generation(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

/// What an in-place call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InPlace {
    /// No new chunk.
    Nothing,
    /// A chunk: where it is, its id for [`receive_chunk_recheck`], and its metadata.
    Chunk {
        /// In the ring; the card may overwrite it at any time.
        chunk: *const Chunk,
        /// Generation times [`RING_CHUNKS`] plus index.
        id: u32,
        /// Its metadata. Length 0: a full chunk, more follow.
        info: Info,
    },
    /// The reader was lapped and has been moved to the newest end of a frame.
    Lapped,
}

/// `exanic_receive_chunk_inplace_ex`: the next chunk, bad frames included.
/// `exanic_receive_chunk_inplace` is the same with the caller looking at [`Info::status`].
///
/// # Safety
///
/// `reader` is a live handle of the library behind `api`, used by one thread.
#[inline]
pub unsafe fn receive_chunk_inplace_ex(api: &Api, reader: *mut exanic_rx_t) -> InPlace {
    // SAFETY: the handle is live and the ring it names is mapped as long as it is; `next_chunk`
    // stays below RING_CHUNKS by the wrap below and by the library's catch-up.
    unsafe {
        let r = &mut *reader;
        let index = r.next_chunk;
        let chunk = r.buffer.cast::<Chunk>().cast_const().add(index as usize);
        let info = Info((*chunk).info.load(Ordering::Acquire));
        if info.generation() == r.generation {
            let id = u32::from(r.generation) * RING_CHUNKS + index;
            r.next_chunk += 1;
            if r.next_chunk == RING_CHUNKS {
                r.next_chunk = 0;
                r.generation = r.generation.wrapping_add(1);
            }
            return InPlace::Chunk { chunk, id, info };
        }
        if info.generation() == r.generation.wrapping_sub(1) {
            return InPlace::Nothing;
        }
        (api.rx_catchup)(reader);
        InPlace::Lapped
    }
}

/// `exanic_receive_chunk_recheck`: does chunk `id` still carry its generation?
///
/// **Not enough to trust its bytes**: the card writes the payload before the metadata, so a chunk
/// that is being overwritten still passes. Check the chunk *before* it instead.
///
/// # Safety
///
/// As [`receive_chunk_inplace_ex`], with an `id` of that reader.
#[inline]
#[must_use]
pub unsafe fn receive_chunk_recheck(reader: *const exanic_rx_t, id: u32) -> bool {
    // SAFETY: the ring is mapped and the index is reduced to its size.
    unsafe { info_of(reader, id).generation() == (id / RING_CHUNKS) as u8 }
}

/// `exanic_receive_chunk_timestamp`: the start of the chunk's frame, undefined if overwritten.
///
/// # Safety
///
/// As [`receive_chunk_recheck`].
#[inline]
#[must_use]
pub unsafe fn receive_chunk_timestamp(reader: *const exanic_rx_t, id: u32) -> exanic_cycles32_t {
    // SAFETY: as in `receive_chunk_recheck`.
    unsafe { info_of(reader, id).timestamp() }
}

/// `exanic_receive_abort`, without its endless spin: skips chunks of the frame at hand as far as
/// they have arrived. `None`: the end has not arrived, call again. Otherwise the frame's status,
/// or [`InPlace::Lapped`] as `Some(Err(()))`.
///
/// # Safety
///
/// As [`receive_chunk_inplace_ex`].
pub unsafe fn receive_abort(api: &Api, reader: *mut exanic_rx_t) -> Option<Result<u8, ()>> {
    loop {
        // SAFETY: passed on.
        match unsafe { receive_chunk_inplace_ex(api, reader) } {
            InPlace::Nothing => return None,
            InPlace::Lapped => return Some(Err(())),
            InPlace::Chunk { info, .. } if info.length() != 0 => return Some(Ok(info.status())),
            InPlace::Chunk { .. } => {}
        }
    }
}

/// # Safety
///
/// `reader` is live.
unsafe fn info_of(reader: *const exanic_rx_t, id: u32) -> Info {
    // SAFETY: the ring of a live reader is mapped; the index is reduced to its size.
    unsafe {
        let ring = (*reader).buffer.cast::<Chunk>().cast_const();
        Info((*ring.add((id % RING_CHUNKS) as usize)).info.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_fields_are_where_the_card_puts_them() {
        let info = Info::new(0x1122_3344, 0x13, 0x78, 0x55, 0x66);
        assert_eq!(info.0.to_le_bytes(), [0x44, 0x33, 0x22, 0x11, 0x13, 0x78, 0x55, 0x66]);
        assert_eq!((info.timestamp(), info.length()), (0x1122_3344, 0x78));
        assert_eq!((info.status(), info.region()), (FRAME_HWOVFL, REGION_IP));
        assert_eq!((info.matched(), info.generation()), (0x55, 0x66));
    }
}
