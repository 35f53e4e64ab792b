//! What arrives on a veth pair, and what is said about it.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::*;
use linerate_afpacket::{Options, Ring};
use linerate_common::{
    ClockInfo, Clocked, FlowSpec, FrameRx, FrameRxExt, FrameTx, RxFlags, Steer, clock,
    wait_readable,
};
use linerate_lab::lab_or_skip;

#[test]
fn a_hundred_thousand_frames_come_whole_and_in_order() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        let (mut rx, mut tx) = (rx(&lab, &options(ring)), tx(&lab));
        let before = clock::now_ns();
        let len = |n: u32| 14 + (n as usize * 7919) % 1501;
        let mut next = 0;
        let mut last_ts = 0;
        while next < 100_000 {
            let upto = next + 250;
            for n in next..upto {
                send(&mut tx, &frame(n, len(n)));
            }
            tx.kick().unwrap();
            let end = Instant::now() + Duration::from_secs(10);
            while next < upto {
                rx.poll(64, |f| {
                    assert!(f.bytes == frame(next, len(next)), "frame {next} of {ring:?}");
                    assert_eq!(f.meta.wire_len as usize, f.bytes.len());
                    assert_eq!(
                        f.meta.flags.bits() & !RxFlags::CSUM_OK.bits(),
                        RxFlags::TS_SW.bits()
                    );
                    assert!(f.meta.ts_ns >= last_ts);
                    last_ts = f.meta.ts_ns;
                    next += 1;
                })
                .unwrap();
                assert!(Instant::now() < end, "stuck at {next}: {:?}", rx.stats());
            }
        }
        assert!((before..=clock::now_ns()).contains(&last_ts));
        let (stats, sent) = (rx.stats(), tx.stats());
        assert_eq!((stats.frames, stats.lost(), stats.flagged), (100_000, 0, 0));
        assert_eq!((sent.frames, sent.completed, sent.lost()), (100_000, 100_000, 0));
        assert_eq!(stats.bytes, sent.bytes);
        assert_eq!(rx.clock(), ClockInfo::KERNEL);
    }
}

#[test]
fn windows_and_polls_may_take_turns() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        let (mut rx, mut tx) = (rx(&lab, &options(ring)), tx(&lab));
        (0..500).for_each(|n| send(&mut tx, &frame(n, 60)));
        tx.kick().unwrap();
        let mut seen = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        for turn in 0.. {
            match turn % 3 {
                0 => {
                    let burst = rx.burst(7).unwrap();
                    seen.extend(burst.iter().map(|f| number(f.bytes)));
                }
                1 => {
                    let n = rx.acquire(100).unwrap();
                    assert!(n <= 64);
                    seen.extend((0..n).map(|i| number(rx.frame(i).bytes)));
                }
                _ => {
                    rx.poll(5, |f| seen.push(number(f.bytes))).unwrap();
                }
            }
            if seen.len() == 500 {
                break;
            }
            assert!(Instant::now() < end);
        }
        assert!(seen.iter().copied().eq(0..500));
    }
}

#[test]
fn vlan_tags_are_back_in_place() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        let mut options = options(ring);
        options.flows = vec![FlowSpec::ALL];
        let (mut rx, mut tx) = (rx(&lab, &options), tx(&lab));
        let stacks: [&[u8]; 6] = [
            &[0x81, 0, 0x23, 0x89],
            &[0x88, 0xa8, 0, 7],
            &[0x81, 0, 0xe0, 0],
            &[0x81, 0, 0x1f, 0xff],
            &[0x88, 0xa8, 0x30, 1, 0x81, 0, 0x20, 2],
            &[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x91, 0, 0, 3],
        ];
        for (n, stack) in stacks.iter().enumerate() {
            for len in [18, 60, 1514] {
                let mut sent = frame(n as u32, len);
                sent.splice(12..12, stack.iter().copied());
                // The kernel lets one 802.1Q tag go beyond the MTU, and nothing else.
                sent.truncate(if stack.starts_with(&[0x81]) { 1518 } else { 1514 });
                send(&mut tx, &sent);
                tx.kick().unwrap();
                // The interface's own chatter may come between.
                let (bytes, meta) = loop {
                    let got = receive(&mut rx, 1).remove(0);
                    if got.0[..12] == sent[..12] {
                        break got;
                    }
                };
                assert_eq!(bytes, sent, "{ring:?}");
                assert_eq!(meta.wire_len as usize, sent.len());
                assert!(meta.flags.contains(RxFlags::VLAN_RESTORED), "{meta:?}");
                assert!(!meta.flags.contains(RxFlags::TRUNCATED), "{meta:?}");
            }
        }
    }
}

#[test]
fn every_frame_is_delivered_or_counted_as_lost() {
    let lab = lab_or_skip!();
    let tiny = [
        Ring::Blocks { block_bytes: 64 << 10, blocks: 2, retire_ms: 1 },
        Ring::Frames { frame_bytes: 2048, frames: 64 },
    ];
    for ring in tiny {
        let mut witness = rx(&lab, &options(Ring::LOW_LATENCY));
        let (mut rx, mut tx) = (rx(&lab, &options(ring)), tx(&lab));
        for _ in 0..3 {
            for _ in 0..8 {
                // Nobody reads `rx` meanwhile.
                (0..500).for_each(|n| send(&mut tx, &frame(n, 100)));
                tx.kick().unwrap();
                receive(&mut witness, 500);
            }
            wait(&mut rx);
            rx.poll(usize::MAX, |_| ()).unwrap();
        }
        // A marker that finds room: the ring has been read.
        receive_all(&mut rx, &mut tx);
        let sent = 3 * 8 * 500 + 1;
        let stats = rx.stats();
        assert!(stats.kernel_drop > 3000, "{ring:?}: {stats:?}");
        assert_eq!(stats.frames + stats.kernel_drop, sent, "{ring:?}: {stats:?}");
        assert_eq!(stats.lost(), stats.kernel_drop);
    }
}

#[test]
fn the_first_frame_behind_a_loss_says_so() {
    let lab = lab_or_skip!();
    let tiny = [
        Ring::Blocks { block_bytes: 64 << 10, blocks: 2, retire_ms: 1 },
        Ring::Frames { frame_bytes: 2048, frames: 64 },
    ];
    for ring in tiny {
        let (mut rx, mut tx) = (rx(&lab, &options(ring)), tx(&lab));
        (0..4000).for_each(|n| send(&mut tx, &frame(n, 100)));
        tx.kick().unwrap();
        let mut lossy = Vec::new();
        let mut last = None;
        let end = Instant::now() + Duration::from_secs(10);
        // The frames before the loss, then as many behind it as it takes to see one.
        for n in 4000.. {
            send(&mut tx, &frame(n, 100));
            tx.kick().unwrap();
            rx.poll(usize::MAX, |f| {
                let n = number(f.bytes);
                if f.meta.flags.contains(RxFlags::LOSS_BEFORE) {
                    lossy.push((last, n));
                }
                last = Some(n);
            })
            .unwrap();
            if last.is_some_and(|n| n > 4000) {
                break;
            }
            assert!(Instant::now() < end);
        }
        let (before, after) = lossy[0];
        assert!(before.is_none_or(|before| before + 1 < after), "{ring:?}: {lossy:?}");
        assert_eq!(lossy.len(), 1, "{ring:?}: {lossy:?}");
    }
}

#[test]
fn what_is_cut_off_is_flagged_and_its_length_known() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        let mut options = options(ring);
        options.snaplen = 100;
        let (mut rx, mut tx) = (rx(&lab, &options), tx(&lab));
        let mut tagged = frame(3, 500);
        tagged.splice(12..12, [0x81, 0, 0, 9]);
        for sent in [frame(1, 100), frame(2, 101), tagged] {
            send(&mut tx, &sent);
            tx.kick().unwrap();
            let (bytes, meta) = receive(&mut rx, 1).remove(0);
            assert_eq!(bytes, sent[..100]);
            assert_eq!(meta.wire_len as usize, sent.len());
            assert_eq!(meta.flags.contains(RxFlags::TRUNCATED), sent.len() > 100);
        }
        assert_eq!(rx.stats().flagged, 2);
    }
    // A slot too short for the frame does the same.
    let ring = Ring::Frames { frame_bytes: 256, frames: 256 };
    let (mut rx, mut tx) = (rx(&lab, &options(ring)), tx(&lab));
    let sent = frame(1, 1000);
    send(&mut tx, &sent);
    tx.kick().unwrap();
    let (bytes, meta) = receive(&mut rx, 1).remove(0);
    assert!(bytes.len() > 128 && bytes == sent[..bytes.len()]);
    assert!(meta.wire_len == 1000 && meta.flags.contains(RxFlags::TRUNCATED));
}

#[test]
fn own_frames_are_received_only_when_asked_for() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        for outgoing in [false, true] {
            let mut options = options(ring);
            options.outgoing = outgoing;
            options.qdisc_bypass = false;
            let port = lab.in_b(|| linerate_afpacket::open("v1", &options)).unwrap();
            let (mut here, there) = (port.into_parts(), tx(&lab));
            let (mut rx, mut tx) = (here.0.remove(0), there);
            let own = here.1.as_mut().unwrap();
            send(own, &frame(1, 60));
            own.kick().unwrap();
            send(&mut tx, &frame(2, 60));
            tx.kick().unwrap();
            let seen: Vec<_> = receive(&mut rx, 1 + usize::from(outgoing))
                .iter()
                .map(|(bytes, meta)| (number(bytes), meta.flags.contains(RxFlags::OUTGOING)))
                .collect();
            let expected: &[_] = if outgoing { &[(1, true), (2, false)] } else { &[(2, false)] };
            assert_eq!(seen, expected, "{ring:?}");
        }
    }
}

#[test]
fn flows_come_and_go_while_the_queue_runs() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        let mut options = options(ring);
        options.flows = vec!["ether:0x88b5".parse().unwrap()];
        let (mut rx, mut tx) = (rx(&lab, &options), tx(&lab));
        let mut other = frame(7, 60);
        other[12..14].copy_from_slice(&[0x88, 0xb6]);
        let numbers = |rx: &mut _, tx: &mut _| -> Vec<u32> {
            send(tx, &other);
            send(tx, &frame(1, 60));
            receive_all(rx, tx).iter().map(|(bytes, _)| number(bytes)).collect()
        };
        assert_eq!(numbers(&mut rx, &mut tx), [1]);
        let rule = rx.add(&"ether:0x88b6".parse().unwrap()).unwrap();
        assert_eq!(numbers(&mut rx, &mut tx), [7, 1]);
        let ids: Vec<_> = rx.rules().map(|(id, flow)| (id.0, flow.to_string())).collect();
        assert_eq!(ids, [(1, "ether:0x88b5".into()), (2, "ether:0x88b6".into())]);
        rx.remove(rule).unwrap();
        assert_eq!(numbers(&mut rx, &mut tx), [1]);
        let e = rx.remove(rule).unwrap_err().to_string();
        assert!(e.contains("no rule 2"), "{e}");
        let impossible = FlowSpec::group("10.0.0.1".parse().unwrap(), 5);
        assert!(rx.add(&impossible).unwrap_err().to_string().contains("no multicast group"));
        assert_eq!(rx.rules().len(), 1);
    }
}

#[test]
fn too_many_flows_are_refused_and_the_old_ones_stay() {
    let lab = lab_or_skip!();
    let (mut rx, mut tx) = (rx(&lab, &options(Ring::THROUGHPUT)), tx(&lab));
    let mut n = 0_u32;
    let e = loop {
        let group = (0xef00_0000 + n * 7919).to_be_bytes();
        match rx.add(&FlowSpec::group(group.into(), 1 + n as u16)) {
            Ok(_) => n += 1,
            Err(e) => break e.to_string(),
        }
    };
    assert!(n >= 400, "{n} scattered groups");
    assert!(e.contains("instructions of 4096") && e.contains("239.1.1.0:5000+256"), "{e}");
    assert_eq!(rx.rules().len() as u32, n + 1);
    send(&mut tx, &frame(1, 60));
    assert_eq!(receive_all(&mut rx, &mut tx).len(), 1);
}

#[test]
fn a_sleeper_is_woken_by_a_frame() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        let (mut rx, mut tx) = (rx(&lab, &options(ring)), tx(&lab));
        let waitable = rx.waitable().unwrap();
        waitable.arm().unwrap();
        assert!(!wait_readable(waitable.fd(), Some(Duration::from_millis(1))).unwrap());
        send(&mut tx, &frame(1, 60));
        tx.kick().unwrap();
        assert!(wait_readable(waitable.fd(), Some(Duration::from_secs(10))).unwrap());
        assert_eq!(receive(&mut rx, 1).len(), 1);
        let waitable = rx.waitable().unwrap();
        waitable.arm().unwrap();
        assert!(!wait_readable(waitable.fd(), Some(Duration::from_millis(1))).unwrap());
    }
}

#[test]
fn a_panic_in_the_handler_ends_the_window() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        let (mut rx, mut tx) = (rx(&lab, &options(ring)), tx(&lab));
        (0..10).for_each(|n| send(&mut tx, &frame(n, 60)));
        tx.kick().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let mut seen = Vec::new();
        while seen.is_empty() && Instant::now() < end {
            let turn = std::panic::AssertUnwindSafe(|| {
                rx.poll(10, |f| {
                    seen.push(number(f.bytes));
                    assert!(seen.len() < 3, "on purpose");
                })
            });
            let _ = std::panic::catch_unwind(turn);
        }
        assert_eq!(seen, [0, 1, 2]);
        let later = receive_all(&mut rx, &mut tx);
        let later: Vec<_> = later.iter().map(|(bytes, _)| number(bytes)).collect();
        assert_eq!(later, [3, 4, 5, 6, 7, 8, 9], "once each");
        (20..2000).for_each(|n| {
            send(&mut tx, &frame(n, 60));
            if n % 50 == 0 {
                let got = receive_all(&mut rx, &mut tx);
                assert_eq!(got.last().map(|(bytes, _)| number(bytes)), Some(n));
            }
        });
        assert_eq!(rx.stats().lost(), 0, "a leaked slot or block would fill the ring");
    }
}

#[test]
fn frames_of_the_host_stack_carry_their_flags() {
    let lab = lab_or_skip!();
    let mut options = Options::default();
    options.flows =
        vec!["udp:10.99.0.2:7000".parse().unwrap(), "tcp:10.99.0.2:7001".parse().unwrap()];
    let mut rx = rx(&lab, &options);
    let _sink = lab.in_b(|| UdpSocket::bind("10.99.0.2:7000").unwrap());
    lab.in_a(|| {
        UdpSocket::bind("10.99.0.1:0").unwrap().send_to(&[7; 50], "10.99.0.2:7000").unwrap()
    });
    let (bytes, meta) = receive(&mut rx, 1).remove(0);
    assert_eq!(bytes.len(), 92);
    assert!(meta.flags.contains(RxFlags::CSUM_PARTIAL), "{meta:?}");

    // TCP hands the veth segments of up to 64 KiB: nothing of the kind was on a wire.
    let listener = lab.in_b(|| TcpListener::bind("10.99.0.2:7001").unwrap());
    let mut client = lab.in_a(|| TcpStream::connect("10.99.0.2:7001").unwrap());
    let (mut server, _) = listener.accept().unwrap();
    let mut merged = 0;
    let mut buf = vec![0; 1 << 20];
    for _ in 0..20 {
        client.write_all(&buf[..200_000]).unwrap();
        server.read_exact(&mut buf[..200_000]).unwrap();
        rx.poll(usize::MAX, |f| {
            let long = f.meta.wire_len > 1522;
            assert!(!long || f.meta.flags.contains(RxFlags::MERGED), "{f:?}");
            assert!(!f.meta.flags.contains(RxFlags::TRUNCATED));
            merged += u32::from(long);
        })
        .unwrap();
    }
    assert!(merged > 0);
}
