//! AF_XDP queues whose kernel hands over any descriptor, and any index, between true ones.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linerate_afxdp::fuzz::descriptors(data));
