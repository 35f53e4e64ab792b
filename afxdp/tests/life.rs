//! What happens to an interface while its queues are in use.
#![allow(clippy::unwrap_used)]

mod rig;

use std::net::UdpSocket;
use std::process::Command;

use linerate_afxdp::{Mode, XdpRx, XdpTx, open};
use linerate_common::{ErrorKind, FrameRx, FrameTx};
use linerate_lab::{Lab, lab_or_skip, skip};
use rig::{collect, feed, halves, open_pair, options, send_all, udp_frame, until};

fn exchange(tx: &mut XdpTx, rx: &mut XdpRx, len: usize) {
    let frames: Vec<_> = (0..20).map(|i| udp_frame("239.1.1.1:5000", i, len)).collect();
    send_all(tx, &frames);
    assert_eq!(collect(rx, 20), frames);
    until(|| tx.reap() == 0 && tx.room() > 400);
}

#[test]
fn a_name_an_address_and_an_mtu_may_change() {
    let lab = lab_or_skip!();
    for mode in [Mode::Native, Mode::Generic] {
        let mut options = feed();
        options.mode = mode;
        let ((_ra, mut tx), (mut rx, _tb)) = open_pair(&lab, &options);
        exchange(&mut tx, &mut rx, 100);
        // Another name: the queue belongs to the interface, not to what it is called. The link
        // goes down for it and comes back.
        for (from, to) in [("v1", "x1"), ("x1", "v1")] {
            lab.ip_b(&["link", "set", from, "down"]).unwrap();
            lab.ip_b(&["link", "set", from, "name", to]).unwrap();
            lab.ip_b(&["link", "set", to, "up"]).unwrap();
            until(|| {
                send_all(&mut tx, &[udp_frame("239.9.9.9:1", 1, 60)]);
                rx.poll(64, |_| ()).unwrap() > 0
            });
            while rx.poll(64, |_| ()).unwrap() > 0 {}
        }
        lab.ip_b(&["addr", "del", "10.99.0.2/24", "dev", "v1"]).unwrap();
        lab.ip_b(&["addr", "add", "10.99.0.2/24", "dev", "v1"]).unwrap();
        let mac = ["link", "set", "v1", "address", "02:00:00:00:00:77"];
        lab.ip_b(&mac).unwrap();
        exchange(&mut tx, &mut rx, 200);
        // A smaller MTU, and the old one again. What is longer than the buffers is counted.
        for mtu in ["600", "1500"] {
            lab.ip_a(&["link", "set", "v0", "mtu", mtu]).unwrap();
            lab.ip_b(&["link", "set", "v1", "mtu", mtu]).unwrap();
            exchange(&mut tx, &mut rx, 300);
        }
        assert_eq!((rx.stats().lost(), tx.stats().lost()), (0, 0));
    }
}

/// A pair with four queues each, of which one is in use in B.
fn four_queues(lab: &Lab) -> Result<(), String> {
    let (a, b) = (lab.a(), lab.b());
    let link = format!(
        "link add q0 netns {a} numrxqueues 4 numtxqueues 4 type veth \
         peer q1 netns {b} numrxqueues 4 numtxqueues 4"
    );
    let out = Command::new("ip").args(link.split_whitespace()).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    for (ns, dev, address) in [(a, "q0", "10.97.0.1/24"), (b, "q1", "10.97.0.2/24")] {
        let ip = |args: &[&str]| {
            Command::new("ip").args(["-n", ns]).args(args).status().unwrap().success()
        };
        assert!(ip(&["addr", "add", address, "dev", dev]) && ip(&["link", "set", dev, "up"]));
    }
    assert!(lab.ip_a(&["route", "add", "239.0.0.0/8", "dev", "q0"]).is_ok());
    use_queues(lab, 1)
}

fn use_queues(lab: &Lab, n: u32) -> Result<(), String> {
    let n = n.to_string();
    let out = Command::new("ip")
        .args(["netns", "exec", lab.b(), "ethtool", "-L", "q1", "rx", &n, "tx", &n])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("ethtool -L: {}", text.trim())) }
}

#[test]
fn a_reader_that_sleeps_notices_queues_that_come_later() {
    let lab = lab_or_skip!();
    if let Err(why) = four_queues(&lab) {
        return skip("a_reader_that_sleeps_notices_queues_that_come_later", &why);
    }
    let (mut rx, _tx) = halves(lab.in_b(|| open("q1", &options()).unwrap()));
    rx.waitable().unwrap().arm().unwrap();
    use_queues(&lab, 4).unwrap();
    // It never asks for its counters.
    until(|| rx.waitable().unwrap().arm().is_err());
    assert_eq!(rx.poll(64, |_| ()).unwrap_err().kind, ErrorKind::QueueLost);
}

#[test]
fn queues_that_come_later_are_noticed() {
    let lab = lab_or_skip!();
    if let Err(why) = four_queues(&lab) {
        return skip("queues_that_come_later_are_noticed", &why);
    }
    let mut options = options();
    options.flows = vec!["239.1.1.1:5000".parse().unwrap()];
    let (mut rx, _tx) = halves(lab.in_b(|| open("q1", &options).unwrap()));
    // Flows of many ports, so that they spread.
    let send = || {
        lab.in_a(|| {
            for _ in 0..64 {
                let socket = UdpSocket::bind("10.97.0.1:0").unwrap();
                socket.send_to(&[1; 60], "239.1.1.1:5000").unwrap();
            }
        });
    };
    send();
    collect(&mut rx, 64);
    rx.stats();
    assert_eq!(rx.poll(64, |_| ()).unwrap(), 0);

    // The kernel keeps what it does not find a socket for: nobody can count that, so that the
    // queue says that it is not whole any more.
    use_queues(&lab, 4).unwrap();
    send();
    let before = rx.stats().frames;
    until(|| rx.poll(64, |_| ()).is_err());
    assert!(rx.stats().frames - before < 64, "all on one queue: nothing was tried");
    let e = rx.poll(64, |_| ()).unwrap_err();
    assert_eq!(e.kind, ErrorKind::QueueLost);
    assert!(e.to_string().contains("open it again"), "{e}");
    assert_eq!(rx.waitable().unwrap().arm().unwrap_err().kind, ErrorKind::QueueLost);

    // Opened again it has all of them.
    drop((rx, _tx));
    let (mut queues, _tx) = lab.in_b(|| open("q1", &options).unwrap()).into_parts();
    assert_eq!(queues.len(), 4);
    send();
    let mut got = 0;
    until(|| {
        queues.iter_mut().for_each(|rx| got += rx.poll(64, |_| ()).unwrap());
        got == 64
    });
    // Fewer than have sockets are refused by the kernel, or by the interface.
    assert!(use_queues(&lab, 1).is_err(), "queues were taken from under their sockets");
}
