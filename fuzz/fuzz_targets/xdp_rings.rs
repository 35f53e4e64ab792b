//! AF_XDP rings whose other side stores any index.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linerate_afxdp::fuzz::rings(data));
