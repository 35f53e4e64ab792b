//! TPACKET rings that say anything at all: no frame outside the ring, and every block goes back.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linerate_afpacket::fuzz::rings(data));
