//! Names of ports: one line of error, or an open that fails because there is no such interface.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // No file, no simulated card and no interface of this machine is to be opened.
    let options = text.replace(['\0'], "");
    for port in ["afpacket:nosuch0", "udp:nosuch0", "afxdp:nosuch0", "efvi:nosuch0", "exanic:nosuch0"] {
        let error = linerate::open(&format!("{port}?{options}")).expect_err("there is none");
        assert!(!error.to_string().is_empty());
    }
    if let Some((scheme, target)) = text.split_once(':')
        && !["pcap", "sim"].contains(&scheme)
    {
        let error = linerate::open(&format!("{scheme}:nosuch0{target}")).expect_err("there is none");
        assert!(!error.to_string().is_empty());
    }
});
