//! Opening, failing to open, and interfaces that come and go.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::process::Command;
use std::time::{Duration, Instant};

use common::*;
use linerate_afpacket::{Fanout, Options, PacketRx, Ring, Stamps, open};
use linerate_common::loops::{EventLoop, StopHandle, Strategy};
use linerate_common::packet::UdpTemplate;
use linerate_common::{ErrorKind, FrameRx, FrameTx};
use linerate_lab::{Lab, lab_or_skip, skip};

#[test]
fn without_rights_the_error_names_the_capability() {
    let lab = lab_or_skip!();
    let e = lab.in_b(|| {
        // The raw system call: it changes this thread alone.
        // SAFETY: no pointers.
        let rc = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(rc, 0);
        open("v1", &Options::default()).unwrap_err()
    });
    assert_eq!(e.kind(), ErrorKind::Denied);
    let text = e.to_string();
    assert!(text.starts_with("afpacket:v1: socket(AF_PACKET): Operation not permitted"), "{text}");
    assert!(text.contains("sudo setcap cap_net_raw+ep /"), "{text}");
}

#[test]
fn impossible_options_are_refused_in_one_line() {
    let lab = lab_or_skip!();
    type Change = fn(&mut Options);
    let cases: [(Change, &str); 12] = [
        (|o| o.snaplen = 13, "at least 14"),
        (|o| o.queues = 0, "1 to 256"),
        (|o| o.tx_slots = 0, "1 to 1024"),
        (|o| o.tx_slots = 2000, "1 to 1024"),
        (|o| (o.receive, o.transmit) = (false, false), "neither"),
        (
            |o| o.ring = Ring::Blocks { block_bytes: 5000, blocks: 4, retire_ms: 1 },
            "multiple of 4096",
        ),
        (|o| o.ring = Ring::Blocks { block_bytes: 0, blocks: 4, retire_ms: 1 }, "multiple of 4096"),
        (|o| o.ring = Ring::Blocks { block_bytes: 4096, blocks: 4, retire_ms: 0 }, "after 1 ms"),
        (|o| o.ring = Ring::Frames { frame_bytes: 1000, frames: 64 }, "power of two"),
        (|o| o.ring = Ring::Frames { frame_bytes: 2048, frames: 33 }, "multiple of 32"),
        (|o| o.flows[0].vlan = Some(5000), "no VLAN id"),
        (|o| o.stamps = Stamps::Hardware, "ethtool -T v1"),
    ];
    lab.in_b(|| {
        for (change, part) in cases {
            let mut options = Options::default();
            change(&mut options);
            let text = open("v1", &options).unwrap_err().to_string();
            assert!(text.contains(part) && !text.contains('\n'), "{text}");
        }
        for name in ["nosuch0", "", "a name that is much too long", "nul\0"] {
            let e = open(name, &Options::default()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::DeviceGone);
            assert!(e.to_string().contains("interfaces here: lo, v1"), "{e}");
        }
    });
    lab.ip_b(&["link", "set", "v1", "down"]).unwrap();
    let e = lab.in_b(|| open("v1", &Options::default()).unwrap_err());
    assert_eq!(e.kind(), ErrorKind::LinkDown);
    assert!(e.to_string().ends_with("sudo ip link set v1 up"), "{e}");
}

#[test]
fn memberships_last_as_long_as_the_queue() {
    let lab = lab_or_skip!();
    let flags = || {
        let text = lab.in_b(|| std::fs::read_to_string("/sys/class/net/v1/flags").unwrap());
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap()
            & (libc::IFF_PROMISC | libc::IFF_ALLMULTI) as u32
    };
    assert_eq!(flags(), 0);
    let mut options = Options::default();
    options.promiscuous = true;
    let promiscuous = rx(&lab, &options);
    assert_eq!(flags(), libc::IFF_PROMISC as u32);
    drop(promiscuous);
    assert_eq!(flags(), 0);
    options.promiscuous = false;
    options.all_multicast = true;
    let all_multicast = rx(&lab, &options);
    assert_eq!(flags(), libc::IFF_ALLMULTI as u32);
    drop(all_multicast);
    assert_eq!(flags(), 0);
}

/// Asks until the queue reports the error, or for ten seconds.
fn await_error(rx: &mut PacketRx, kind: ErrorKind) {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        rx.stats();
        match rx.poll(1, |_| ()) {
            Err(e) if e.kind == kind => return,
            _ => std::thread::yield_now(),
        }
    }
    panic!("no {kind:?} within ten seconds");
}

#[test]
fn an_interface_that_goes_is_reported_and_one_that_returns_recovers() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        let (mut rx, mut tx) = (rx(&lab, &options(ring)), tx(&lab));
        send(&mut tx, &frame(1, 60));
        tx.kick().unwrap();
        wait(&mut rx);
        lab.ip_b(&["link", "set", "v1", "down"]).unwrap();

        // What was in the ring still comes, then the error, and it stays.
        rx.stats();
        assert_eq!(number(&receive_despite_errors(&mut rx)), 1);
        await_error(&mut rx, ErrorKind::LinkDown);
        assert_eq!(rx.acquire(1).unwrap_err().kind, ErrorKind::LinkDown);
        assert_eq!(rx.waitable().unwrap().arm().unwrap_err().kind, ErrorKind::LinkDown);

        // The other end has lost its carrier: what is committed waits.
        assert!(tx.send(&frame(2, 60)).unwrap());
        assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::LinkDown);
        let end = Instant::now() + Duration::from_secs(20);
        lab.ip_b(&["link", "set", "v1", "up"]).unwrap();
        while tx.kick().is_err() {
            assert!(Instant::now() < end, "no carrier within twenty seconds");
            std::thread::yield_now();
        }
        assert_eq!(number(&receive_despite_errors(&mut rx)), 2);
        rx.check_link().unwrap();
        assert_eq!(rx.acquire(1), Ok(0));

        // Down and up again between two looks leaves nothing behind.
        lab.ip_a(&["link", "set", "v0", "down"]).unwrap();
        assert!(tx.send(&frame(3, 60)).unwrap());
        assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::LinkDown);
        lab.ip_a(&["link", "set", "v0", "up"]).unwrap();
        while tx.kick().is_err() {
            assert!(Instant::now() < end, "no carrier within twenty seconds");
            std::thread::yield_now();
        }
        assert_eq!(number(&receive_despite_errors(&mut rx)), 3);
    }
}

fn receive_despite_errors(rx: &mut PacketRx) -> Vec<u8> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut bytes = Vec::new();
    while bytes.is_empty() {
        let _ = rx.poll(1, |f| bytes = f.bytes.to_vec());
        assert!(Instant::now() < end, "no frame within ten seconds: {:?}", rx.stats());
    }
    bytes
}

#[test]
fn an_interface_that_is_removed_is_gone_for_good() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        lab.add_pair("w0", "w1").unwrap();
        let options = options(ring);
        let port = lab.in_b(|| open("w1", &options)).unwrap();
        let (mut rx, tx) = port.into_parts();
        let mut tx = tx.unwrap();
        lab.ip_b(&["link", "del", "w1"]).unwrap();
        await_error(&mut rx[0], ErrorKind::DeviceGone);
        assert_eq!(rx[0].acquire(1).unwrap_err().kind, ErrorKind::DeviceGone);
        assert!(tx.send(&frame(1, 60)).unwrap());
        assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::DeviceGone);
    }
}

/// A sleeping loop is woken by an error that the kernel tells only once: whoever takes it must not
/// keep it from the queue, or the interface's end goes unnoticed.
#[test]
fn a_loop_that_slept_through_both_learns_of_a_link_that_went_down_and_then_away() {
    let lab = lab_or_skip!();
    for ring in RINGS {
        lab.add_pair("w0", "w1").unwrap();
        let mut receiving = options(ring);
        receiving.transmit = false;
        let (mut rx, _) = lab.in_b(|| open("w1", &receiving)).unwrap().into_parts();
        let stop = StopHandle::new().unwrap();
        let strategy = Strategy::blocking().with_max_sleep(Duration::from_millis(20));
        let mut events = EventLoop::new(strategy, &stop);
        events.add(rx.remove(0), ()).unwrap();
        let mut run = || {
            let end = Instant::now() + Duration::from_secs(10);
            let in_time = |_: &_| match Instant::now() < end {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            };
            events.run_with(|(), _| (), in_time)
        };
        let down = std::thread::scope(|scope| {
            scope.spawn(|| {
                // So that it sleeps, most probably, and the sleeper hears of it first.
                std::thread::sleep(Duration::from_millis(100));
                lab.ip_b(&["link", "set", "w1", "down"]).unwrap();
            });
            run()
        });
        assert_eq!(down.unwrap_err().error.kind, ErrorKind::LinkDown);
        lab.ip_b(&["link", "del", "w1"]).unwrap();
        let gone = run();
        assert_eq!(gone.expect_err("it is gone").error.kind, ErrorKind::DeviceGone);
    }
}

#[test]
fn a_fanout_splits_without_loss_or_duplicate() {
    let lab = lab_or_skip!();
    for (fanout, ring) in [
        (Fanout::Hash, RINGS[0]),
        (Fanout::Hash, RINGS[1]),
        (Fanout::LoadBalance, RINGS[0]),
        (Fanout::Cpu, RINGS[1]),
        (Fanout::CardQueue, RINGS[0]),
    ] {
        let mut options = Options::default();
        options.flows = vec!["239.1.1.1".parse().unwrap()];
        options.ring = ring;
        options.transmit = false;
        options.queues = 3;
        options.fanout = fanout;
        let (mut rx, _) = lab.in_b(|| open("v1", &options)).unwrap().into_parts();
        let mut tx = tx(&lab);
        let mut buf = [0; 100];
        let mut seen: Vec<(u32, usize)> = Vec::new();
        for n in 0..1500_u32 {
            let src = format!("10.0.0.1:{}", 1 + n % 50).parse().unwrap();
            let template = UdpTemplate::new(src, "239.1.1.1:5000".parse().unwrap()).unwrap();
            let len = template.write(&mut buf, &n.to_be_bytes()).unwrap();
            send(&mut tx, &buf[..len]);
            if (n + 1) % 500 != 0 {
                continue;
            }
            tx.kick().unwrap();
            let end = Instant::now() + Duration::from_secs(10);
            while seen.len() <= n as usize && Instant::now() < end {
                for (queue, rx) in rx.iter_mut().enumerate() {
                    rx.poll(64, |f| {
                        let n = u32::from_be_bytes(f.bytes[42..46].try_into().unwrap());
                        seen.push((n, queue));
                    })
                    .unwrap();
                }
            }
        }
        seen.sort_unstable();
        assert!(seen.iter().map(|(n, _)| *n).eq(0..1500), "{fanout:?}: {} frames", seen.len());
        let mut counts = [0; 3];
        seen.iter().for_each(|(_, queue)| counts[*queue] += 1);
        match fanout {
            Fanout::LoadBalance => assert_eq!(counts, [500; 3]),
            Fanout::Hash => {
                let mut queue_of = HashMap::new();
                for (n, queue) in &seen {
                    let first = *queue_of.entry(n % 50).or_insert(*queue);
                    assert_eq!(first, *queue, "a flow in two queues");
                }
                assert!(counts.iter().all(|n| *n > 0), "{counts:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn a_frame_that_the_kernel_refuses_does_not_hold_up_the_others() {
    let lab = lab_or_skip!();
    let (mut rx, mut tx) = (rx(&lab, &options(Ring::LOW_LATENCY)), tx(&lab));
    assert_eq!(tx.max_len(), 1518);
    for len in [60, 13, 1518, 61] {
        // 13 bytes are no Ethernet header; 1518 without a VLAN tag are over the MTU.
        let f = frame(1, len.max(14));
        assert!(tx.send(&f[..len]).unwrap());
    }
    tx.kick().unwrap();
    let lens: Vec<_> = receive(&mut rx, 2).iter().map(|(bytes, _)| bytes.len()).collect();
    assert_eq!(lens, [60, 61]);
    let stats = tx.stats();
    assert_eq!((stats.frames, stats.refused, stats.completed), (2, 2, 4));
    assert_eq!(tx.send(&[0; 1519]).unwrap_err().kind, ErrorKind::BadLength);
    assert_eq!(tx.send(&[]).unwrap_err().kind, ErrorKind::BadLength);
    assert_eq!(tx.room(), 256);
}

/// Runs `tc ARGS` in namespace A.
fn tc(lab: &Lab, args: &str) -> Result<(), String> {
    let all = format!("netns exec {} tc {args}", lab.a());
    let out = Command::new("ip").args(all.split(' ')).output().map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
    }
}

#[test]
fn a_full_queue_is_waited_for_and_nothing_is_lost_or_sent_twice() {
    let lab = lab_or_skip!();
    lab.ip_a(&["link", "set", "v0", "mtu", "65000"]).unwrap();
    lab.ip_b(&["link", "set", "v1", "mtu", "65000"]).unwrap();
    let mut sending = Options::default();
    (sending.receive, sending.qdisc_bypass) = (false, false);
    let open_tx = || lab.in_a(|| open("v0", &sending)).unwrap().into_tx().unwrap();
    // A qdisc that lets nothing through and holds much: the socket's buffer is soon full. One that
    // holds little: it drops, and says so.
    for (limit, errno) in [("40mb", libc::EAGAIN), ("100kb", libc::ENOBUFS)] {
        let closed = format!("tbf rate 8kbit burst 70kb limit {limit}");
        if let Err(why) = tc(&lab, &format!("qdisc add dev v0 root {closed}")) {
            return skip("a_full_queue_is_waited_for_and_nothing_is_lost_or_sent_twice", &why);
        }
        let (mut rx, mut tx, mut other) =
            (rx(&lab, &options(Ring::THROUGHPUT)), open_tx(), open_tx());
        stay_on_this_cpu();
        for n in 0..200 {
            assert!(tx.send(&frame(n, 60_000)).unwrap());
        }
        let e = tx.kick().unwrap_err();
        assert_eq!((e.kind, e.errno), (ErrorKind::Os, errno));
        assert!(tx.stats().frames < 200);

        // Opened, it needs one more frame to notice.
        let open = closed.replace("8kbit", "1gbit");
        tc(&lab, &format!("qdisc change dev v0 root {open}")).unwrap();
        let mut stranger = frame(0, 60);
        stranger[12..14].copy_from_slice(&[0x88, 0xb6]);
        let end = Instant::now() + Duration::from_secs(20);
        while tx.kick().is_err() {
            assert!(Instant::now() < end, "still full: {:?}", tx.stats());
            let _ = other.send(&stranger).and_then(|_| other.kick());
        }
        let numbers: Vec<_> =
            receive(&mut rx, 200).iter().map(|(bytes, _)| number(bytes)).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..200), "{numbers:?}");
        assert_eq!((tx.stats().frames, tx.stats().lost(), tx.room()), (200, 0, 256));
        tc(&lab, "qdisc del dev v0 root").unwrap();
    }
}

#[test]
fn the_loopback_interface_shows_each_frame_once() {
    let lab = lab_or_skip!();
    let (mut rx, tx) = lab.in_a(|| open("lo", &options(Ring::LOW_LATENCY))).unwrap().into_parts();
    let mut tx = tx.unwrap();
    (0..10).for_each(|n| send(&mut tx, &frame(n, 60)));
    let numbers: Vec<_> =
        receive_all(&mut rx[0], &mut tx).iter().map(|(bytes, _)| number(bytes)).collect();
    assert!(numbers.iter().copied().eq(0..10), "{numbers:?}");
}

#[test]
fn an_interface_without_ethernet_is_refused() {
    let lab = lab_or_skip!();
    if let Err(why) = lab.ip_b(&["tuntap", "add", "t0", "mode", "tun"]) {
        return skip("an_interface_without_ethernet_is_refused", &why);
    }
    let e = lab.in_b(|| open("t0", &Options::default()).unwrap_err());
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("not Ethernet"), "{e}");
}
