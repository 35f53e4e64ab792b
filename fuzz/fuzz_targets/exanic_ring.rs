//! An ExaNIC ring whose card writes any chunk at any moment.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linerate_exanic::fuzz::chunks(data));
