//! Which frames reach which queue.

#![allow(clippy::unwrap_used)]

mod bench;

use bench::{Bench, FLOW, drain, frame, send};
use linerate_common::{ErrorKind, FlowKind, FlowSpec, FrameRx, FrameTx, Steer};
use linerate_efvi::{EfviRx, Everything, open_rx, open_set};
use linerate_sim::efvi::{Kind, Settings};

#[test]
fn flows_of_other_programs_on_a_shared_queue_are_dropped_by_name() {
    let bench = Bench::manual(Kind::Shared);
    let options = bench.options();
    let mut rx = open_rx(bench.b.interface(), &options).unwrap();
    rx.add(&"udp:10.0.0.7:5000".parse().unwrap()).unwrap();
    let EfviRx::Shared(mut rx) = rx else { panic!("a shared card") };
    let mut tx = bench.tx(&options);
    bench.b.other_traffic(true);
    send(&mut tx, 0, 2);
    bench.step();
    assert_eq!(drain(&mut rx), [0, 1], "they come unless they are dropped");
    rx.own_flows_only(true);
    send(&mut tx, 2, 4);
    bench.step();
    assert_eq!(drain(&mut rx), [0; 0]);
    assert_eq!(rx.stats().filtered, 2);
    rx.add(&FLOW).unwrap();
    send(&mut tx, 4, 5);
    bench.step();
    assert_eq!(drain(&mut rx), [4]);
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn filters_select_what_they_say_and_refuse_what_they_cannot() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let mut rx = open_rx(bench.b.interface(), &options).unwrap();
    let mut tx = bench.tx(&options);
    let udp = |src: &str, dst: &str| {
        let template =
            linerate_common::packet::UdpTemplate::new(src.parse().unwrap(), dst.parse().unwrap());
        let mut bytes = [0; 100];
        let n = template.unwrap().write(&mut bytes, b"payload").unwrap();
        bytes[..n.max(60)].to_vec()
    };
    let frames = [
        udp("10.0.0.1:9", "239.1.1.1:5000"),
        udp("10.0.0.1:9", "239.1.1.1:5001"),
        udp("10.0.0.2:9", "10.0.0.7:5000"),
        udp("10.0.0.2:10", "10.0.0.7:5000"),
        udp("[fd00::1]:9", "[ff15::7]:5000"),
        frame(0, 60),
    ];
    let cases: [(&str, &[usize]); 6] = [
        ("239.1.1.1:5000", &[0]),
        ("udp:10.0.0.7:5000", &[2, 3]),
        ("udp:10.0.0.7:5000,10.0.0.2:10", &[3]),
        ("[ff15::7]:5000", &[4]),
        ("mac:02:00:00:00:00:02", &[5]),
        ("all", &[0, 1, 2, 3, 4, 5]),
    ];
    for (text, want) in cases {
        let rule = rx.add(&text.parse().unwrap()).unwrap();
        for f in &frames {
            assert!(tx.send(f).unwrap());
        }
        tx.kick().unwrap();
        bench.step();
        tx.reap();
        let mut got = Vec::new();
        rx.poll(64, |f| got.push(frames.iter().position(|x| x == f.bytes).unwrap())).unwrap();
        assert_eq!(got, want, "{text}");
        rx.remove(rule).unwrap();
        assert!(rx.remove(rule).is_err());
    }
    for text in ["239.1.1.1", "10.0.0.9,239.1.1.1:5000", "vlan:7"] {
        let e = rx.add(&text.parse().unwrap()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{text}");
        assert!(e.to_string().contains("5-tuples") && !e.remedy_text().is_empty(), "{e}");
    }
    drop(rx);
    // The kinds that the driver cannot find again.
    let mut options = bench.options();
    options.everything = Everything::Take;
    let mut rx = open_rx(bench.b.interface(), &options).unwrap();
    let rule = rx.add(&FlowSpec::ALL).unwrap();
    assert_eq!(rx.remove(rule).unwrap_err().kind(), ErrorKind::Unsupported);
    drop((rx, tx));
    bench.is_empty();
}

#[test]
fn the_filters_of_a_cluster_are_not_ours() {
    let mut settings = Settings::default();
    settings.manual = true;
    settings.cluster = true;
    let bench = Bench::with(Kind::Ring, settings);
    let mut rx = open_rx(bench.b.interface(), &bench.options()).unwrap();
    let e = rx.add(&FLOW).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("cluster daemon"), "{e}");
}

#[test]
fn multicast_reaches_every_queue_that_wants_it() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let (mut one, mut two) = (
        open_rx(bench.b.interface(), &options).unwrap(),
        open_rx(bench.b.interface(), &options).unwrap(),
    );
    let group = FlowSpec::of(FlowKind::Mac([1, 0, 0x5e, 1, 1, 1]));
    one.add(&group).unwrap();
    two.add(&group).unwrap();
    let mut tx = bench.tx(&options);
    let mut bytes = frame(0, 60);
    bytes[..6].copy_from_slice(&[1, 0, 0x5e, 1, 1, 1]);
    assert!(tx.send(&bytes).unwrap());
    tx.kick().unwrap();
    bench.step();
    assert_eq!((one.poll(8, |_| ()), two.poll(8, |_| ())), (Ok(1), Ok(1)));
    drop((one, two, tx));
    bench.is_empty();
}

#[test]
fn a_set_spreads_conversations_over_its_queues() {
    let bench = Bench::manual(Kind::Ring);
    let options = bench.options();
    let mut queues = open_set(bench.b.interface(), 3, &options).unwrap();
    queues[0].add(&"udp:10.0.0.7:5000".parse().unwrap()).unwrap();
    let mut tx = bench.tx(&options);
    for round in 0..2 {
        for port in 1000..1100_u16 {
            let src = std::net::SocketAddr::from(([10, 0, 0, 1], port));
            let dst = "10.0.0.7:5000".parse().unwrap();
            let mut bytes = [0; 64];
            let template = linerate_common::packet::UdpTemplate::new(src, dst).unwrap();
            template.write(&mut bytes, &[round]).unwrap();
            assert!(tx.send(&bytes).unwrap());
        }
    }
    tx.kick().unwrap();
    bench.step();
    let mut owner = std::collections::HashMap::new();
    let mut counts = [0; 3];
    for (i, rx) in queues.iter_mut().enumerate() {
        while rx
            .poll(64, |f| {
                counts[i] += 1;
                let port = u16::from_be_bytes([f.bytes[34], f.bytes[35]]);
                assert_eq!(*owner.entry(port).or_insert(i), i, "one conversation, one queue");
            })
            .unwrap()
            > 0
        {}
    }
    assert_eq!(counts.iter().sum::<u32>(), 200);
    assert!(counts.iter().all(|n| *n > 0), "{counts:?}");
    drop((queues, tx));
    bench.is_empty();
}
