//! What a card or its driver refuses when a port is opened comes with a remedy.

#![allow(clippy::unwrap_used)]

mod bench;

use bench::{Bench, FLOW};
use linerate_common::Steer;
use linerate_efvi::{open, open_rx};
use linerate_sim::efvi::Kind;

#[test]
fn what_the_card_refuses_comes_with_a_remedy() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    for (function, errno, word) in [
        ("ef_vi_alloc_from_pd", libc::EBUSY, "no virtual interface left"),
        ("ef_memreg_alloc", libc::ENOMEM, "ulimit -l"),
        ("ef_pd_alloc_by_name", libc::EPERM, "administratively"),
    ] {
        bench.b.refuse(function, errno);
        let e = open_rx(bench.b.interface(), &options).unwrap_err();
        assert_eq!((e.op(), e.errno()), (function, errno));
        let text = e.to_string();
        assert!(text.starts_with("efvi:simefb"), "{text}");
        assert!(text.contains(word) || word == "administratively" && text.contains("disabled"));
        bench.is_empty();
    }
    let mut rx = open_rx(bench.b.interface(), &options).unwrap();
    bench.b.refuse("ef_vi_filter_add", libc::EPERM);
    let e = rx.add(&FLOW).unwrap_err();
    assert!(e.to_string().contains("CAP_NET_ADMIN"), "{e}");
    assert!(open_rx("no-such-card", &options).unwrap_err().to_string().contains("physical"));
    let mut odd = options.clone();
    odd.rx_ring = 100;
    let e = open(bench.b.interface(), &odd).unwrap_err().to_string();
    assert!(e.contains("100 slots") && e.contains("512"), "{e}");
    let mut unlinked = options;
    unlinked.library = None;
    if linerate_efvi::SDK.library.is_empty() {
        let e = open("eth0", &unlinked).unwrap_err();
        assert!(e.to_string().contains("openonload-devel"), "{e}");
    }
}
