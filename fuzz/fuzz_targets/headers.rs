//! Frames of any content through the header views and the reference matcher.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use linerate_common::FlowSpec;
use linerate_common::packet::{Ethernet, IpView, Tcp, Udp, Upper};

const FLOWS: [&str; 9] = [
    "all",
    "239.1.1.1:5000",
    "10.0.0.1,239.1.1.1:5000",
    "udp:10.0.0.1:80",
    "tcp:10.0.0.1:80",
    "tcp:[fd99::1]:80,[fd99::2]:81",
    "ether:0x88b5",
    "mac:01:00:5e:01:01:01",
    "vlan:905",
];

fuzz_target!(|data: &[u8]| {
    if let Some(ethernet) = Ethernet::parse(data) {
        assert!(ethernet.header_len() + ethernet.payload().len() <= data.len());
        black_box((ethernet.dst(), ethernet.src(), ethernet.vlan(), ethernet.ethertype()));
        black_box(ethernet.tags().count());
        if let Some(ip) = ethernet.ip() {
            black_box((ip.src(), ip.dst()));
            match &ip {
                IpView::V4(v4) => {
                    black_box((v4.checksum_ok(), v4.options(), v4.payload(), v4.more_fragments()));
                }
                IpView::V6(v6) => {
                    black_box((v6.flow_label(), v6.hop_limit()));
                }
            }
            upper(ip.upper(), data);
        }
    }
    for text in FLOWS {
        let flow: FlowSpec = text.parse().expect("it is a flow");
        black_box(flow.matches(data));
    }
});

fn upper(upper: Upper<'_>, frame: &[u8]) {
    if let Some(udp) = Udp::parse(upper.payload) {
        assert!(udp.payload().len() <= frame.len());
        black_box((udp.src_port(), udp.checksum(), udp.length()));
    }
    if let Some(tcp) = Tcp::parse(upper.payload) {
        assert!(tcp.payload().len() <= frame.len());
        black_box((tcp.seq(), tcp.flags(), tcp.header_len()));
    }
}
