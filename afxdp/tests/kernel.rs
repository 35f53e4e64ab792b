//! Frames over a veth pair between two namespaces.

mod rig;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use linerate_afxdp::{BusyPoll, Direction, Mode, Queues, Stamps, Steering, open};
use linerate_common::clock::now_ns;
use linerate_common::pool::{Huge, Pool};
use linerate_common::{
    BufTx, ClockDomain, Clocked, ErrorKind, FrameRx, FrameRxExt, FrameTx, RxFlags, Steer, TxStamps,
    forward, wait_readable,
};
use linerate_lab::lab_or_skip;
use rig::{PATIENCE, collect, feed, halves, open_pair, options, send_all, udp_frame, until};

#[test]
fn frames_cross_in_every_mode() {
    let lab = lab_or_skip!();
    for mode in [Mode::Auto, Mode::Native, Mode::Generic] {
        let mut options = feed();
        options.mode = mode;
        let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &options);
        let frames: Vec<_> = (0..100).map(|i| udp_frame("239.1.1.1:5000", i, 1 + i * 14)).collect();
        send_all(&mut tx, &frames);
        assert_eq!(collect(&mut rx, frames.len()), frames, "{mode:?}");
        assert_eq!((rx.stats().frames, rx.stats().lost()), (100, 0), "{mode:?}");
        assert_eq!((tx.stats().frames, tx.stats().lost()), (100, 0), "{mode:?}");
    }
}

#[test]
fn a_group_larger_than_one_call_sends_leaves_with_one_kick() {
    let lab = lab_or_skip!();
    let ((mut rx_a, mut tx), (mut rx, _)) = open_pair(&lab, &feed());
    // What kernels before 6.17 always do: 32 frames a sendto. They do not know the option.
    let (fd, frames_a_call) = (rx_a.waitable().unwrap().fd().as_raw_fd(), 32u32);
    // SAFETY: a value of the length said.
    unsafe { libc::setsockopt(fd, 283, 9, std::ptr::from_ref(&frames_a_call).cast(), 4) };
    let frames: Vec<_> = (0..250).map(|i| udp_frame("239.1.1.1:5000", i, 60)).collect();
    send_all(&mut tx, &frames);
    assert_eq!(collect(&mut rx, 250), frames);
}

#[test]
fn the_mode_is_reported_and_a_demand_is_kept() {
    let lab = lab_or_skip!();
    lab.in_a(|| {
        let mut options = feed();
        let port = open("v0", &options).unwrap();
        assert_eq!(port.mode(), Mode::Native);
        assert!(port.notices().iter().any(|n| n.contains("no zero-copy")), "{:?}", port.notices());
        // A second port shares the program, but not in another mode.
        options.mode = Mode::Generic;
        let e = open("v0", &options).unwrap_err();
        assert!(e.to_string().contains("in native mode"), "{e}");
        drop(port);
        assert_eq!(open("v0", &options).unwrap().mode(), Mode::Generic);
        // veth has no zero-copy: the demand is an error that names the way out.
        options.mode = Mode::ZeroCopy;
        let e = open("v0", &options).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        assert!(e.remedy_text().contains("mode=auto"), "{e}");
    });
}

#[test]
fn what_nobody_asked_for_stays_with_the_kernel() {
    let lab = lab_or_skip!();
    let mut options = options();
    options.flows = vec!["239.1.1.1:5000".parse().unwrap()];
    let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &options);
    let socket = lab.in_b(|| UdpSocket::bind("10.99.0.2:7000").unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = lab.in_a(|| UdpSocket::bind("10.99.0.1:0").unwrap());
    let mut buf = [0; 64];
    for i in 0..50 {
        send_all(&mut tx, &[udp_frame("239.1.1.1:5000", i, 100)]);
        // Address resolution goes through the kernels as well.
        sender.send_to(&[i as u8; 20], "10.99.0.2:7000").unwrap();
        assert_eq!(socket.recv(&mut buf).unwrap(), 20);
        assert_eq!(buf[0], i as u8);
    }
    assert_eq!(collect(&mut rx, 50).len(), 50);
    lab.in_a(|| rig::ping("10.99.0.2"));
    assert_eq!(rx.stats().frames, 50);
}

#[test]
fn without_a_flow_nothing_is_taken() {
    let lab = lab_or_skip!();
    let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &options());
    send_all(&mut tx, &[udp_frame("239.1.1.1:5000", 1, 100)]);
    rx.add(&"239.1.1.1:5000".parse().unwrap()).unwrap();
    let second = udp_frame("239.1.1.1:5000", 2, 100);
    send_all(&mut tx, std::slice::from_ref(&second));
    assert_eq!(collect(&mut rx, 1), [second]);
}

#[test]
fn a_sleeping_reader_is_woken() {
    let lab = lab_or_skip!();
    let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &feed());
    let short = Some(Duration::from_millis(20));
    assert_eq!(rx.poll(64, |_| ()).unwrap(), 0);
    assert!(!wait_readable(rx.waitable().unwrap().fd(), short).unwrap());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let waitable = rx.waitable().unwrap();
            waitable.arm().unwrap();
            while !wait_readable(waitable.fd(), Some(PATIENCE)).unwrap() {}
            rx.poll(64, |_| ()).unwrap()
        });
        send_all(&mut tx, &[udp_frame("239.1.1.1:5000", 1, 100)]);
        assert_eq!(reader.join().unwrap(), 1);
    });
}

#[test]
fn frames_carry_software_stamps_that_say_so() {
    let lab = lab_or_skip!();
    for stamps in [Stamps::Best, Stamps::Software, Stamps::Off] {
        let mut options = feed();
        options.stamps = stamps;
        let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &options);
        let before = now_ns();
        send_all(&mut tx, &[udp_frame("239.1.1.1:5000", 1, 100)]);
        until(|| rx.acquire(1).unwrap() == 1);
        let meta = rx.frame(0).meta;
        if stamps == Stamps::Off {
            assert_eq!((meta.timestamp(), meta.flags), (None, RxFlags::NONE));
            assert_eq!(rx.clock().domain, ClockDomain::None);
        } else {
            assert!((before..=now_ns()).contains(&meta.ts_ns));
            assert_eq!(meta.flags, RxFlags::TS_SW);
            assert_eq!(rx.clock().domain, ClockDomain::Realtime);
        }
    }
    lab.in_a(|| {
        let mut options = feed();
        options.stamps = Stamps::Hardware;
        let e = open("v0", &options).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    });
}

#[test]
fn marks_name_the_rule() {
    let lab = lab_or_skip!();
    for mode in [Mode::Native, Mode::Generic] {
        let mut options = options();
        options.marks = true;
        options.mode = mode;
        let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &options);
        let one = rx.add(&"239.1.1.1:5000".parse().unwrap()).unwrap();
        let two = rx.add(&"239.1.1.2:5000".parse().unwrap()).unwrap();
        // More than there are buffers, so that each is used again with its old metadata.
        for i in 0..1200 {
            let (dst, rule) =
                if i % 3 == 0 { ("239.1.1.1:5000", one) } else { ("239.1.1.2:5000", two) };
            send_all(&mut tx, &[udp_frame(dst, i, 60 + i)]);
            let mut mark = None;
            until(|| rx.poll(1, |frame| mark = Some(frame.meta.mark)).unwrap() == 1);
            assert_eq!(mark, Some(rule.0), "frame {i} in {mode:?}");
        }
    }
}

#[test]
fn sent_frames_are_stamped_in_order() {
    let lab = lab_or_skip!();
    let mut options = feed();
    options.tx_stamps = true;
    let a = match lab.in_a(|| open("v0", &options)) {
        Ok(port) => port,
        Err(e) if e.remedy_text().contains("6.8") => {
            return linerate_lab::skip("sent_frames_are_stamped_in_order", &e.to_string());
        }
        Err(e) => panic!("{e}"),
    };
    let (_rx, mut tx) = halves(a);
    let before = now_ns();
    let mut stamps = Vec::new();
    for i in 0..700 {
        send_all(&mut tx, &[udp_frame("10.99.0.2:5000", i, 100)]);
        tx.reap_with(&mut |stamp| stamps.push(stamp));
    }
    until(|| {
        tx.reap_with(&mut |stamp| stamps.push(stamp));
        stamps.len() == 700
    });
    let after = now_ns();
    let second = 1_000_000_000;
    for (i, stamp) in stamps.iter().enumerate() {
        assert_eq!(stamp.seq, i as u64);
        assert_eq!(stamp.flags, RxFlags::TS_SW, "{stamp:?}");
        // The kernel's TAI and UTC clocks are read apart: a second's play, not the 37 between them.
        assert!((before - second..after + second).contains(&stamp.ts_ns), "{stamp:?}");
    }
    assert!(stamps.is_sorted_by_key(|s| s.seq));
}

#[test]
fn frames_too_long_for_a_buffer_are_counted_not_mangled() {
    let lab = lab_or_skip!();
    lab.ip_a(&["link", "set", "v0", "mtu", "9000"]).unwrap();
    lab.ip_b(&["link", "set", "v1", "mtu", "9000"]).unwrap();
    let mut options = feed();
    options.direction = Direction::Rx;
    options.flows = vec!["udp:10.99.0.2:9".parse().unwrap()];
    let port = lab.in_b(|| open("v1", &options).unwrap());
    assert!(port.notices().iter().any(|n| n.contains("truncated")), "{:?}", port.notices());
    assert_eq!(port.mode(), Mode::Native, "a jumbo MTU must not cost native mode");
    let mut rx = port.into_parts().0.pop().unwrap();
    let flow = "10.99.0.2:9".parse::<std::net::SocketAddr>().unwrap();
    let sender = lab.in_a(|| UdpSocket::bind("10.99.0.1:4000").unwrap());
    lab.ip_a(&["neigh", "replace", "10.99.0.2", "lladdr", "02:00:00:00:00:02", "dev", "v0"])
        .unwrap();
    let mut short = 0;
    for len in [3600, 8000, 3600, 100, 8900] {
        sender.send_to(&vec![7; len], flow).unwrap();
    }
    until(|| {
        rx.poll(64, |f| short += u32::from([100 + 42, 3600 + 42].contains(&f.bytes.len())))
            .unwrap();
        short == 3 && rx.stats().truncated >= 2
    });
    assert_eq!((rx.stats().truncated, rx.stats().no_buffer), (2, 0));
    // The rule has counted all of their buffers.
    let hits = rx.rules().unwrap()[0].hits;
    assert_eq!((hits.frames, hits.bytes), (5, 3600 + 8000 + 3600 + 100 + 8900 + 5 * 42));
}

#[test]
fn losses_of_a_slow_reader_have_names() {
    let lab = lab_or_skip!();
    let mut small = feed();
    small.ring_slots = 64;
    let (_, mut tx) = halves(lab.in_a(|| open("v0", &feed()).unwrap()));
    let (mut rx, _) = halves(lab.in_b(|| open("v1", &small).unwrap()));
    let frames: Vec<_> = (0..200).map(|i| udp_frame("239.1.1.1:5000", i, 100)).collect();
    for group in frames.chunks(50) {
        send_all(&mut tx, group);
    }
    until(|| tx.reap() == 0 && rx.stats().lost() + 64 >= 200);
    let got = collect(&mut rx, 64);
    assert_eq!(got, frames[..64]);
    assert_eq!(rx.stats().lost(), 136, "{:?}", rx.stats());
    // And it works on.
    send_all(&mut tx, &frames[..10]);
    assert_eq!(collect(&mut rx, 10), frames[..10]);
}

#[test]
fn frames_are_forwarded_between_interfaces_without_a_copy() {
    let lab = lab_or_skip!();
    lab.add_pair("w0", "w1").unwrap();
    let pool = Pool::builder().frames(4096).huge(Huge::Never).build().unwrap();
    let (_, mut source) = halves(lab.in_a(|| open("v0", &feed()).unwrap()));
    let (mut sink, _) = halves(lab.in_a(|| open("w0", &feed()).unwrap()));
    let mut options = feed();
    options.pool = Some(pool.clone());
    let (mut rx, _t) = halves(lab.in_b(|| open("v1", &options).unwrap()));
    let (_r, mut tx) = halves(lab.in_b(|| open("w1", &options).unwrap()));
    assert!(_r.shares_registration() && !rx.shares_registration());

    let mut forwarded = 0;
    // Several times round all buffers of the pool.
    for round in 0..200 {
        let frames: Vec<_> =
            (0..50).map(|i| udp_frame("239.1.1.1:5000", round * 50 + i, 20 + i * 20)).collect();
        send_all(&mut source, &frames);
        until(|| {
            forwarded += forward(&mut rx, &mut tx, 64, |_| true).unwrap();
            forwarded == (round + 1) * 50
        });
        assert_eq!(collect(&mut sink, 50), frames, "round {round}");
    }
    until(|| {
        tx.reap();
        tx.room() == 512
    });
    drop((rx, _t, _r, tx));
    assert_eq!((pool.outstanding(), pool.free_frames()), (0, 4096));
}

#[test]
fn a_taken_buffer_is_the_applications() {
    let lab = lab_or_skip!();
    let ((_, mut tx), (mut rx, mut back)) = open_pair(&lab, &feed());
    let pool = rx.pool().clone();
    let frame = udp_frame("239.1.1.1:5000", 3, 200);
    send_all(&mut tx, &[frame.clone(), frame.clone()]);
    let mut kept = Vec::new();
    until(|| {
        let mut burst = rx.burst(64).unwrap();
        for i in 0..burst.len() {
            kept.extend(burst.take(i));
            assert!(burst.take(i).is_none(), "taken twice");
        }
        kept.len() == 2
    });
    assert_eq!(pool.outstanding(), 2);
    assert_eq!(pool.bytes(&kept[0]).unwrap(), frame);
    // Not overwritten by what comes next.
    for i in 0..600 {
        send_all(&mut tx, &[udp_frame("239.9.9.9:1", i, 200)]);
        until(|| rx.poll(1, |_| ()).unwrap() == 1);
    }
    assert_eq!(pool.bytes(&kept[0]).unwrap(), frame);
    back.push(kept.pop().unwrap()).unwrap();
    back.kick().unwrap();
    pool.free(kept.pop().unwrap()).unwrap();
    assert_eq!(pool.outstanding(), 0);
    let foreign = Pool::builder().frames(16).huge(Huge::Never).build().unwrap();
    let buf = foreign.alloc(100).unwrap();
    foreign.free(back.push(buf).unwrap_err()).unwrap();
}

#[test]
fn a_panic_in_the_closure_loses_no_buffer() {
    let lab = lab_or_skip!();
    let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &feed());
    for i in 0..600 {
        send_all(&mut tx, &[udp_frame("239.1.1.1:5000", i, 100)]);
        until(|| {
            let poll = std::panic::AssertUnwindSafe(|| {
                rx.poll(1, |_| std::panic::resume_unwind(Box::new(())))
            });
            std::panic::catch_unwind(poll).is_err()
        });
    }
    let last = udp_frame("239.1.1.1:5000", 1000, 100);
    send_all(&mut tx, std::slice::from_ref(&last));
    assert_eq!(collect(&mut rx, 1), [last]);
    assert_eq!(rx.stats().lost(), 0);
}

#[test]
fn busy_polling_and_no_wakeup_flag_work_too() {
    let lab = lab_or_skip!();
    for (busy_poll, need_wakeup) in [(Some(BusyPoll::default()), true), (None, false)] {
        let mut options = feed();
        options.busy_poll = busy_poll;
        options.need_wakeup = need_wakeup;
        let ((_, mut tx), (mut rx, _)) = open_pair(&lab, &options);
        let frames: Vec<_> = (0..200).map(|i| udp_frame("239.1.1.1:5000", i, 100)).collect();
        send_all(&mut tx, &frames);
        assert_eq!(collect(&mut rx, 200), frames);
    }
}

#[test]
fn one_direction_and_no_program() {
    let lab = lab_or_skip!();
    let mut options = options();
    options.direction = Direction::Tx;
    // Sends beside a foreign program and without one of ours.
    let (rx, mut tx) = lab.in_a(|| open("v0", &options).unwrap()).into_parts();
    assert!(rx.is_empty());
    let (mut rx, _) = halves(lab.in_b(|| open("v1", &feed()).unwrap()));
    let frame = udp_frame("239.1.1.1:5000", 1, 100);
    send_all(&mut tx[0], std::slice::from_ref(&frame));
    assert_eq!(collect(&mut rx, 1), [frame]);
    drop(rx);

    options.direction = Direction::Both;
    options.steering = Steering::QueueOnly;
    let (mut rx, _) = halves(lab.in_b(|| open("v1", &options).unwrap()));
    let e = rx.add(&"all".parse().unwrap()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
}

#[test]
fn mistakes_have_remedies() {
    let lab = lab_or_skip!();
    lab.in_a(|| {
        let error = |name: &str, change: &dyn Fn(&mut linerate_afxdp::Options)| {
            let mut options = options();
            change(&mut options);
            let e = open(name, &options).unwrap_err();
            assert!(!e.remedy_text().is_empty(), "{e}");
            assert!(e.to_string().starts_with(&format!("afxdp:{name}: ")), "{e}");
            e
        };
        error("nosuch0", &|_| ());
        error("v0", &|o| o.queues = Queues::List(vec![7]));
        error("v0", &|o| o.queues = Queues::List(vec![]));
        error("v0", &|o| o.ring_slots = 100);
        error("v0", &|o| {
            o.pool = Some(Pool::builder().frames(64).huge(Huge::Never).build().unwrap());
        });
        let _first = open("v0", &options()).unwrap();
        let busy = error("v0", &|_| ());
        assert!(busy.errno() == libc::EBUSY && busy.remedy_text().contains("queue"), "{busy}");
    });
    lab.ip_a(&["link", "set", "v0", "down"]).unwrap();
    let e = lab.in_a(|| open("v0", &options()).unwrap_err());
    assert_eq!(e.kind(), ErrorKind::LinkDown);
    assert!(e.remedy_text().contains("ip link set v0 up"), "{e}");
}
