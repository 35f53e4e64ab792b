//! The vendor's inline functions as `linerate-exanic-sys` has them, and the traps of the library
//! and driver that the simulated card copies: the safe crate is built around them.

mod rig;

use std::ffi::CString;

use linerate_exanic_sys::rx::{
    FRAME_CORRUPT, InPlace, RING_CHUNKS, receive_abort, receive_chunk_inplace_ex,
    receive_chunk_recheck, receive_chunk_timestamp,
};
use linerate_exanic_sys::{Api, exanic_ip_filter_t, exanic_rx_t, exanic_t};
use linerate_sim::exanic::{Card, FrameState};
use rig::frame;

struct Raw {
    card: Card,
    api: &'static Api,
    handle: *mut exanic_t,
}

impl Raw {
    fn new() -> Self {
        let (card, api) = (Card::builder().manual_clock(rig::START).build(), Card::api());
        let name = CString::new(card.name()).expect("a name");
        // SAFETY: a NUL-terminated name.
        let handle = unsafe { (api.acquire_handle)(name.as_ptr()) };
        assert!(!handle.is_null());
        Self { card, api, handle }
    }

    fn reader(&self, buffer: i32) -> *mut exanic_rx_t {
        // SAFETY: a live handle.
        let reader = unsafe { (self.api.acquire_rx_buffer)(self.handle, 0, buffer) };
        assert!(!reader.is_null());
        reader
    }

    fn release(&self, reader: *mut exanic_rx_t) {
        // SAFETY: a live reader, released once.
        unsafe { (self.api.release_rx_buffer)(reader) };
    }

    fn next(&self, reader: *mut exanic_rx_t) -> InPlace {
        // SAFETY: a live reader of this table.
        unsafe { receive_chunk_inplace_ex(self.api, reader) }
    }

    fn abort(&self, reader: *mut exanic_rx_t) -> Option<Result<u8, ()>> {
        // SAFETY: a live reader of this table.
        unsafe { receive_abort(self.api, reader) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: acquired once in `new`.
        unsafe { (self.api.release_handle)(self.handle) };
        assert_eq!(self.card.handle_count(), 0, "readers were left open");
    }
}

#[test]
fn chunks_in_place_and_their_ids() {
    let raw = Raw::new();
    let reader = raw.reader(0);
    assert_eq!(raw.next(reader), InPlace::Nothing);
    raw.card.inject(0, &frame(200, 1));
    let InPlace::Chunk { id, info, chunk } = raw.next(reader) else { panic!("a chunk") };
    assert_eq!((id, info.length(), info.generation()), (0, 0, 0));
    // SAFETY: within the ring of a live reader.
    let first = unsafe { (*chunk).payload[0].load(std::sync::atomic::Ordering::Relaxed) };
    assert_eq!(first.to_ne_bytes(), frame(200, 1)[..8]);
    // SAFETY: a live reader and its id.
    unsafe {
        assert!(receive_chunk_recheck(reader, id));
        assert_eq!(receive_chunk_timestamp(reader, id), info.timestamp());
    }
    let InPlace::Chunk { id, info, .. } = raw.next(reader) else { panic!("a chunk") };
    assert_eq!((id, info.length()), (1, 84), "200 bytes and the check sequence");
    assert_eq!(raw.next(reader), InPlace::Nothing);

    // One lap less one chunk: the ids are of the next generation behind the wrap.
    raw.card.flood(0, &frame(60, 2), u64::from(RING_CHUNKS) - 1);
    for expected in 2..RING_CHUNKS + 1 {
        let InPlace::Chunk { id, .. } = raw.next(reader) else { panic!("chunk {expected}") };
        assert_eq!(id, expected);
    }
    raw.card.flood(0, &frame(60, 3), 2 * u64::from(RING_CHUNKS));
    assert_eq!(raw.next(reader), InPlace::Lapped);
    assert_eq!(raw.next(reader), InPlace::Nothing);
    raw.release(reader);
}

#[test]
fn aborting_a_frame_does_not_wait_for_its_end() {
    let raw = Raw::new();
    let reader = raw.reader(0);
    let mut arriving = raw.card.arriving(0, &frame(500, 1), FrameState::Corrupt).unwrap();
    arriving.chunk();
    assert!(matches!(raw.next(reader), InPlace::Chunk { .. }));
    assert_eq!(raw.abort(reader), None, "the library would spin here");
    arriving.finish();
    assert_eq!(raw.abort(reader), Some(Ok(FRAME_CORRUPT)));
    raw.release(reader);
}

/// Why the safe crate checks the chunk before: the vendor's recheck does not see this.
#[test]
fn the_recheck_of_a_chunk_misses_that_it_is_being_overwritten() {
    let raw = Raw::new();
    let reader = raw.reader(0);
    raw.card.inject(0, &frame(60, 1));
    let InPlace::Chunk { id, .. } = raw.next(reader) else { panic!("a chunk") };
    raw.card.flood(0, &frame(60, 2), u64::from(RING_CHUNKS) - 1);
    let mut arriving = raw.card.arriving(0, &frame(60, 3), FrameState::Good).unwrap();
    arriving.payload();
    // SAFETY: a live reader and its id.
    assert!(unsafe { receive_chunk_recheck(reader, id) }, "and yet its bytes are another's");
    drop(arriving);
    raw.release(reader);
}

/// Why a filter buffer has one reader in a process.
#[test]
fn one_readers_release_takes_the_buffer_from_the_other() {
    let raw = Raw::new();
    let (one, two) = (raw.reader(1), raw.reader(1));
    let rule =
        exanic_ip_filter_t { src_addr: 0, dst_addr: 0, src_port: 0, dst_port: 0, protocol: 17 };
    // SAFETY: live handles and a rule that outlives the call.
    assert_eq!(unsafe { (raw.api.filter_add_ip)(raw.handle, one, &raw const rule) }, 0);
    raw.release(one);
    assert_eq!((raw.card.rules(0), raw.card.is_allocated(0, 1)), (0, false));
    raw.release(two);
}

/// Why hash readers are released together.
#[test]
fn one_hash_readers_release_ends_hashing() {
    let raw = Raw::new();
    // SAFETY: a live handle.
    assert_eq!(unsafe { (raw.api.enable_flow_hashing)(raw.handle, 0, 2, 0) }, 2);
    let (one, two) = (raw.reader(1), raw.reader(2));
    raw.release(one);
    assert!(!raw.card.is_hashing(0));
    raw.release(two);
}
