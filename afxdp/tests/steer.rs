//! Rules, and who may be on an interface.
#![allow(clippy::unwrap_used)]

mod rig;

use std::net::UdpSocket;

use linerate_afxdp::{Action, Mode, Options, Queues, Rule, open};
use linerate_common::{FlowSpec, FrameRx, FrameTx, RuleId, Steer};
use linerate_lab::lab_or_skip;
use rig::{all, child, collect, feed, halves, open_pair, options, send_all, udp_frame, until};

/// Marks the end of a volley: nothing else has this ethertype.
const LAST: &str = "ether:0x88b6";

fn last() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[0x88, 0xb6]);
    frame
}

/// `frame` behind VLAN tags.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    for (tpid, tci) in tags {
        out.extend(tpid.to_be_bytes());
        out.extend(tci.to_be_bytes());
    }
    out.extend(&frame[12..]);
    out
}

/// A UDP frame over IPv6, or over any protocol number and fragment offset over IPv4.
fn ipv4(proto: u8, src: [u8; 4], dst: [u8; 4], ports: (u16, u16), fragment: u16) -> Vec<u8> {
    let mut f = vec![1, 0, 0x5e, dst[1] & 0x7f, dst[2], dst[3], 2, 0, 0, 0, 0, 1, 8, 0];
    f.extend([0x45, 0, 0, 40, 0, 1]);
    f.extend(fragment.to_be_bytes());
    f.extend([9, proto, 0, 0]);
    f.extend(src);
    f.extend(dst);
    f.extend(ports.0.to_be_bytes());
    f.extend(ports.1.to_be_bytes());
    f.resize(60, 0);
    f
}

/// Frames of every kind that rules tell apart.
fn catalogue() -> Vec<Vec<u8>> {
    let group = udp_frame("239.1.1.1:5000", 1, 50);
    let v6 = {
        let template = linerate_common::packet::UdpTemplate::new(
            "[fd99::1]:4000".parse().unwrap(),
            "[ff0e::1]:5000".parse().unwrap(),
        );
        let mut frame = vec![0; 128];
        let len = template.unwrap().write(&mut frame, b"tick").unwrap();
        frame.truncate(len);
        frame
    };
    vec![
        group.clone(),
        udp_frame("239.1.1.1:5001", 2, 50),
        udp_frame("239.1.1.2:5000", 3, 50),
        udp_frame("10.99.0.2:5000", 4, 50),
        ipv4(17, [10, 99, 0, 7], [239, 1, 1, 1], (4000, 5000), 0),
        ipv4(6, [10, 99, 0, 1], [10, 99, 0, 2], (4000, 5000), 0),
        ipv4(17, [10, 99, 0, 1], [239, 1, 1, 1], (4000, 5000), 0x2000),
        ipv4(17, [10, 99, 0, 1], [239, 1, 1, 1], (4000, 5000), 0x0010),
        ipv4(2, [10, 99, 0, 1], [239, 1, 1, 1], (0, 0), 0),
        tagged(&group, &[(0x8100, 905)]),
        tagged(&group, &[(0x8100, 0xe000 | 5)]),
        tagged(&group, &[(0x88a8, 905), (0x8100, 5)]),
        tagged(&v6, &[(0x8100, 905)]),
        v6,
    ]
}

const FLOWS: [&str; 15] = [
    "all",
    "239.1.1.1",
    "239.1.1.1:5000",
    "10.99.0.7,239.1.1.1:5000",
    "10.99.0.7,239.1.1.1",
    "udp:10.99.0.2:5000",
    "tcp:10.99.0.2:5000",
    "tcp:10.99.0.2:5000,10.99.0.1:4000",
    "udp:[ff0e::1]:5000",
    "udp:[ff0e::1]:5000,[fd99::1]:4000",
    "vlan:905",
    "vlan:905,239.1.1.1:5000",
    "vlan:5",
    "mac:01:00:5e:01:01:02",
    "ether:0x86dd",
];

/// What comes of the catalogue, up to the frame that ends it.
fn volley(tx: &mut impl FrameTx, rx: &mut impl FrameRx, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    for frame in frames.iter().chain([&last()]) {
        until(|| tx.send(frame).unwrap());
    }
    tx.kick().unwrap();
    let mut got = Vec::new();
    until(|| {
        rx.poll(64, |frame| got.push(frame.bytes.to_vec())).unwrap();
        got.last().is_some_and(|frame| *frame == last())
    });
    got.pop();
    got
}

#[test]
fn each_form_of_flow_selects_its_frames_live() {
    let lab = lab_or_skip!();
    for mode in [Mode::Native, Mode::Generic] {
        let mut options = options();
        options.mode = mode;
        options.flows = vec![LAST.parse().unwrap()];
        let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &options);
        let frames = catalogue();
        for text in FLOWS {
            let flow: FlowSpec = text.parse().unwrap();
            let mut want = frames.clone();
            want.retain(|frame| flow.matches(frame));
            assert!(!want.is_empty(), "{text} selects nothing of the catalogue");
            let rule = rx.add(&flow).unwrap();
            let mut got = volley(&mut tx, &mut rx, &frames);
            // The kernels' own frames may match "all" and others too.
            got.retain(|frame| frames.contains(frame));
            assert_eq!(got, want, "{text} in {mode:?}");
            let hits = rx.rules().unwrap().into_iter().find(|r| r.id == rule).unwrap().hits;
            assert!(hits.frames >= want.len() as u64, "{text}: {hits:?}");
            rx.remove(rule).unwrap();
            let after = volley(&mut tx, &mut rx, &frames);
            assert!(after.is_empty(), "{text} in {mode:?} after its removal: {after:02x?}");
        }
    }
}

#[test]
fn a_flood_is_dropped_and_counted_and_the_rest_delivered() {
    let lab = lab_or_skip!();
    let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &all());
    let flood = Rule::drop("udp:10.99.0.2:53".parse().unwrap());
    let id = rx.add_rule(&flood).unwrap();
    // An exception ahead of the drop.
    let friend = "udp:10.99.0.2:53,10.99.0.7:9".parse().unwrap();
    rx.add_rule(&Rule::deliver(friend).order(1)).unwrap();
    let flood = udp_frame("10.99.0.2:53", 1, 100);
    let friend = ipv4(17, [10, 99, 0, 7], [10, 99, 0, 2], (9, 53), 0);
    let other = udp_frame("10.99.0.2:54", 2, 100);
    let frames: Vec<_> = [&flood, &flood, &other, &flood, &friend].into_iter().cloned().collect();
    let mut got = volley(&mut tx, &mut rx, &frames);
    got.retain(|frame| frames.contains(frame));
    assert_eq!(got, [other, friend]);
    let status = rx.rules().unwrap().into_iter().find(|r| r.id == id).unwrap();
    assert_eq!((status.action, status.hits.frames), (Action::Drop, 3));
    assert_eq!(status.hits.bytes, 3 * flood.len() as u64);
    rx.remove(id).unwrap();
    assert!(rx.remove(id).is_err());
    assert!(volley(&mut tx, &mut rx, &frames).contains(&flood));
}

#[test]
fn hundreds_of_rules_come_and_go() {
    let lab = lab_or_skip!();
    let mut options = options();
    options.flows = vec![LAST.parse().unwrap()];
    let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &options);
    let flow = |i: usize| -> FlowSpec {
        format!("239.2.{}.{}:{}", i / 256, i % 256, 1000 + i).parse().unwrap()
    };
    let frames: Vec<_> = (0..500)
        .map(|i| udp_frame(&format!("239.2.{}.{}:{}", i / 256, i % 256, 1000 + i), i, 60))
        .collect();
    let rules: Vec<RuleId> = (0..500).map(|i| rx.add(&flow(i)).unwrap()).collect();
    for group in frames.chunks(100) {
        assert_eq!(volley(&mut tx, &mut rx, group), group);
    }
    for rule in rules.iter().step_by(2) {
        rx.remove(*rule).unwrap();
    }
    let left: Vec<_> = frames.iter().skip(1).step_by(2).cloned().collect();
    for (group, want) in frames.chunks(100).zip(left.chunks(50)) {
        assert_eq!(volley(&mut tx, &mut rx, group), want);
    }
    assert!(rx.rules().unwrap().iter().all(|r| r.hits.frames > 0));
    assert_eq!(rx.rules().unwrap().len(), 251);
}

#[test]
fn rules_change_without_a_gap() {
    let lab = lab_or_skip!();
    let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &feed());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                send_all(&mut tx, &[udp_frame("239.1.1.1:5000", sent, 60)]);
                sent += 1;
                std::thread::yield_now();
            }
            sent
        });
        // Shapes appear before and behind the one in use, and the plan is replaced each time.
        for i in 0..30 {
            let texts = ["mac:02:00:00:00:00:77", "vlan:77", "tcp:10.0.0.1:1,10.0.0.2:2"];
            let flow = texts[i % 3].parse().unwrap();
            let rule = rx.add_rule(&Rule::deliver(flow).order(i as u16 % 2 * 2000)).unwrap();
            rx.poll(512, |_| ()).unwrap();
            rx.remove(rule).unwrap();
            rx.poll(512, |_| ()).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        sender.join().unwrap()
    });
    until(|| {
        rx.poll(64, |_| ()).unwrap();
        let stats = rx.stats();
        stats.frames + stats.lost() >= sent as u64
    });
    let stats = rx.stats();
    // None went to the kernel in between. (A slow turn of this thread may fill the ring.)
    assert_eq!(stats.frames + stats.lost(), sent as u64);
    let passed = rx.rules().unwrap().iter().map(|r| r.hits.frames).sum::<u64>();
    assert_eq!(passed, sent as u64);
}

#[test]
fn ports_of_one_process_share_the_program() {
    let lab = lab_or_skip!();
    // Two queues, on cards that begin with one: a veth pair takes their number when it is made.
    lab.ip_a(&["link", "add", "q0", "numrxqueues", "2", "numtxqueues", "2", "type", "veth"])
        .and_then(|()| lab.ip_a(&["link", "set", "q0", "up"]))
        .unwrap();
    lab.in_a(|| {
        let queue = |n: u32, flow: &str| {
            let mut options = options();
            options.queues = Queues::List(vec![n]);
            options.flows = vec![flow.parse().unwrap()];
            open("q0", &options)
        };
        let first = match queue(1, "239.1.1.1:5000") {
            Ok(port) => port,
            Err(e) => panic!("{e}"),
        };
        let second = queue(0, "239.1.1.1:5000").unwrap();
        let (first, second) = (halves(first), halves(second));
        assert_ne!(first.0.rules().unwrap()[0].id, second.0.rules().unwrap()[0].id);
        // The first goes, the program stays with the second.
        drop(first);
        assert_eq!(second.0.rules().unwrap().len(), 1);
        let again = queue(1, "all").unwrap();
        drop((second, again));
        let both = open("q0", &options()).unwrap();
        let (rx, tx) = both.into_parts();
        assert_eq!((rx.len(), tx.len(), rx[1].queue()), (2, 2, 1));
        assert!(rx[1].shares_registration());
    });
}

/// The other process of `a_killed_process_leaves_nothing`.
#[test]
#[ignore = "started by another test"]
fn child_takes_everything() {
    let _port = open("v1", &all()).unwrap();
    println!("ready");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_leaves_nothing() {
    let lab = lab_or_skip!();
    let mut child = child(lab.b(), "child_takes_everything");
    child.wait_for("ready");
    lab.in_b(|| {
        let e = open("v1", &all()).unwrap_err();
        assert!(e.to_string().contains("another linerate process"), "{e}");
        assert!(e.remedy_text().contains("xdp off"), "{e}");
    });
    child.kill();
    // The interface is the kernel's again at once, and free for the next.
    let socket = lab.in_b(|| UdpSocket::bind("10.99.0.2:7000").unwrap());
    socket.set_read_timeout(Some(rig::PATIENCE)).unwrap();
    lab.in_a(|| UdpSocket::bind("10.99.0.1:0").unwrap().send_to(b"x", "10.99.0.2:7000").unwrap());
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    lab.in_a(|| rig::ping("10.99.0.2"));
    let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &feed());
    let frame = udp_frame("239.1.1.1:5000", 1, 60);
    send_all(&mut tx, std::slice::from_ref(&frame));
    assert_eq!(collect(&mut rx, 1), [frame]);
}

#[test]
fn the_documented_capabilities_are_enough() {
    let lab = lab_or_skip!();
    if !std::path::Path::new("/usr/bin/setpriv").exists() {
        return linerate_lab::skip("the_documented_capabilities_are_enough", "no setpriv");
    }
    let rights = "-all,+net_admin,+net_raw,+bpf,+ipc_lock";
    let setpriv = ["setpriv", "--inh-caps=-all", &format!("--bounding-set={rights}")];
    // Ends with its error, and fails the test, when they are not.
    rig::child_under(lab.b(), &setpriv, "child_takes_everything").wait_for("ready");
}

#[test]
fn another_process_is_replaced_only_when_told_to() {
    let lab = lab_or_skip!();
    let mut child = child(lab.b(), "child_takes_everything");
    child.wait_for("ready");
    let mut options: Options = feed();
    options.replace = true;
    // Queue 0 has the other's socket still.
    let e = lab.in_b(|| open("v1", &options).unwrap_err());
    assert_eq!(e.errno(), libc::EBUSY, "{e}");
    child.kill();
    lab.in_b(|| open("v1", &options).unwrap());
}
