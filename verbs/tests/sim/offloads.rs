//! What the card does for the program: checksums, and stamps of sent frames.

use linerate_common::packet::{Ethernet, IpView, UdpTemplate, transport_checksum};
use linerate_common::{Clocked, FrameRx, FrameTx, NO_TS, RxFlags, TxStamps, clock::now_ns};
use linerate_sim::verbs::StampKind;
use linerate_verbs::Options;

use crate::frames::{frame, queues, until};

/// A UDP frame without its checksums.
fn unsummed() -> Vec<u8> {
    let template =
        UdpTemplate::new("10.0.0.1:4000".parse().unwrap(), "239.1.1.1:5000".parse().unwrap());
    let mut bytes = vec![0; 128];
    let len = template.unwrap().write(&mut bytes, b"a payload of odd length").unwrap();
    bytes.truncate(len);
    bytes[24..26].fill(0);
    bytes[40..42].fill(0);
    bytes
}

#[test]
fn the_card_fills_checksums_in_and_checks_them() {
    let pair = pair_or_skip!();
    let (_, mut rx) = queues(&pair, |_| ());
    for filled in [false, true] {
        let mut options = Options::default();
        options.tx_checksums = filled;
        let (_, mut tx) = pair.open(&pair.a, &options).split();
        assert!(tx.send(&unsummed()).unwrap());
        tx.kick().unwrap();
        let mut seen = None;
        until("the frame", || {
            rx.poll(1, |f| seen = Some((f.bytes.to_vec(), f.meta.flags))).unwrap() == 1
        });
        let (bytes, flags) = seen.unwrap();
        assert_eq!(flags.contains(RxFlags::CSUM_OK), filled);
        if !filled {
            assert_eq!(bytes, unsummed());
            continue;
        }
        let Some(IpView::V4(ip)) = Ethernet::parse(&bytes).unwrap().ip() else { panic!() };
        assert!(ip.checksum_ok());
        let sum = transport_checksum(ip.src().into(), ip.dst().into(), 17, ip.payload());
        assert!(matches!(sum, 0 | 0xffff), "{sum:#x}");
    }
}

#[test]
fn every_sent_frame_gets_its_stamp() {
    for stamps in [StampKind::Wallclock, StampKind::Ticks, StampKind::None] {
        let pair = pair_or_skip!(stamps);
        let (_, _rx) = queues(&pair, |_| ());
        let mut options = Options::default();
        options.tx_timestamps = true;
        let port = pair.open(&pair.a, &options);
        let noticed = port.notices().iter().any(|n| n.contains("stamps no sent frames"));
        assert_eq!(noticed, stamps == StampKind::None);
        let (_, mut tx) = port.split();
        let before = now_ns();
        for n in 0..10 {
            assert!(tx.send(&frame(n, 60)).unwrap());
        }
        tx.kick().unwrap();
        let mut seen = Vec::new();
        until("ten completions", || {
            tx.reap_with(&mut |stamp| seen.push(stamp));
            seen.len() == 10
        });
        let after = now_ns();
        for (seq, stamp) in (0..).zip(&seen) {
            assert_eq!(stamp.seq, seq);
            if stamps == StampKind::None {
                assert_eq!(stamp.ts_ns, NO_TS);
                continue;
            }
            assert!(stamp.flags.contains(RxFlags::TS_HW));
            let slack = 1_000_000;
            assert!((before - slack..after + slack).contains(&stamp.ts_ns), "{stamp:?}");
        }
        let known = tx.clock().domain != linerate_common::ClockDomain::None;
        assert_eq!(known, stamps != StampKind::None);
    }
}
