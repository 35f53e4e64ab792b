//! The programs run in the kernel: attached to one end of a socket pair, where each datagram is
//! a frame. What comes through must be what the reference matcher takes.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use linerate_common::packet::UdpTemplate;

use super::*;

/// A filter program at work.
struct Kernel {
    tx: UnixDatagram,
    rx: UnixDatagram,
}

impl Kernel {
    fn new() -> Self {
        let (tx, rx) = UnixDatagram::pair().unwrap();
        rx.set_nonblocking(true).unwrap();
        Self { tx, rx }
    }

    fn attach(&self, program: &[sock_filter]) {
        let filter = program.as_ptr().cast_mut();
        let program = libc::sock_fprog { len: program.len() as u16, filter };
        // SAFETY: a valid descriptor and a program that outlives the call.
        let rc = unsafe {
            libc::setsockopt(
                self.rx.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as u32,
            )
        };
        assert_eq!(rc, 0, "the kernel refuses: {}", std::io::Error::last_os_error());
    }

    /// How many bytes of the frame come through.
    fn run(&self, frame: &[u8]) -> usize {
        self.tx.send(frame).unwrap();
        let mut buf = [0; 4096];
        match self.rx.recv(&mut buf) {
            Ok(len) => len,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => panic!("recv: {e}"),
        }
    }
}

/// Random numbers that are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Every form a flow can have, over few enough addresses that random frames meet them.
const FORMS: [&str; 30] = [
    "239.1.1.1:5000",
    "239.1.1.2:5001",
    "239.1.1.3",
    "10.0.0.1,239.1.1.1:5001",
    "10.0.0.2,239.1.1.4",
    "[ff02::1]:5000",
    "ff02::2",
    "fe80::1,[ff02::3]:5000",
    "fe80::2,ff02::1",
    "udp:10.0.0.1:5000",
    "udp:10.0.0.1:5001",
    "tcp:10.0.0.1:5000",
    "udp:[fe80::1]:5000",
    "tcp:[fe80::2]:5001",
    "tcp:10.0.0.2:5000,10.0.0.1:5001",
    "udp:10.0.0.1:5000,10.0.0.2:5000",
    "udp:[fe80::1]:5000,[fe80::2]:5001",
    "udp:239.1.1.2:5000,10.0.0.2:5001",
    "mac:01:00:5e:01:01:01",
    "mac:02:00:00:00:00:01",
    "ether:0x0800",
    "ether:0x86dd",
    "ether:0x88cc",
    "vlan:0",
    "vlan:905",
    "vlan:905,239.1.1.1:5001",
    "vlan:7,udp:10.0.0.2:5000",
    "vlan:7,ether:0x88cc",
    "vlan:905,mac:01:00:5e:01:01:01",
    "vlan:7,fe80::1,[ff02::2]:5001",
];

fn flow(text: &str) -> FlowSpec {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

/// A frame near the flows of [`FORMS`], often broken somewhere.
fn random_frame(r: &mut Random) -> Vec<u8> {
    let v4 = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    let v4_to =
        ["239.1.1.1", "239.1.1.2", "239.1.1.3", "239.1.1.4", "239.1.1.5", "10.0.0.1", "10.0.0.2"];
    let v6 = ["fe80::1", "fe80::2", "fe80::3"];
    let v6_to = ["ff02::1", "ff02::2", "ff02::3", "ff02::4", "ff03::1", "fe80::1", "fe80::2"];
    let is_v4 = r.one_in(2);
    let (from, to) = if is_v4 { (&v4, &v4_to) } else { (&v6, &v6_to) };
    let ports = [5000, 5001, 5002, 0];
    let end = |ip: &str, port| std::net::SocketAddr::new(ip.parse().unwrap(), port);
    let (src, dst) = (end(r.pick(from), r.pick(&ports)), end(r.pick(to), r.pick(&ports)));
    let mut template = UdpTemplate::new(src, dst).unwrap();
    if r.one_in(3) {
        template.dst_mac = r.pick(&[[2, 0, 0, 0, 0, 1], [1, 0, 0x5e, 1, 1, 1], [0xff; 6]]);
    }
    let mut f = vec![0; 200];
    let len = template.write(&mut f, &[0xab; 20][..r.below(20)]).unwrap();
    f.truncate(len);

    if r.one_in(3) {
        let proto = r.pick(&[6, 6, 6, 6, 6, 2, 0, 44, 60, 255]);
        f[if is_v4 { 23 } else { 20 }] = proto;
    }
    if is_v4 {
        if r.one_in(4) {
            f[20..22].copy_from_slice(&r.pick(&[
                [0x20, 0],
                [0x20, 1],
                [0, 9],
                [0x40, 0],
                [0x80, 0],
            ]));
        }
        if r.one_in(4) {
            let words = r.below(11);
            f[14] = 0x45 + words as u8;
            f.splice(34..34, vec![1; words * 4]);
        }
        if r.one_in(20) {
            f[14] = r.pick(&[0x44, 0x55, 0x40, 0x4f]);
        }
    } else {
        for _ in 0..r.pick(&[0, 0, 0, 1, 2, 5, 6]) {
            let kind = r.pick(&[0, 43, 60, 44, 51]);
            let next = std::mem::replace(&mut f[20], kind);
            let header = if kind == 44 {
                let offset = r.pick(&[[0, 0], [0, 1], [0, 8], [0x10, 0]]);
                vec![next, 0, offset[0], offset[1], 0, 0, 0, 1]
            } else {
                let units = r.pick(&[0, 0, 1, 3]);
                let mut h = vec![0; (units as usize + 1) * 8];
                (h[0], h[1]) = (next, units);
                h
            };
            f.splice(54..54, header);
        }
        if r.one_in(20) {
            f[14] = 0x45;
        }
    }
    if r.one_in(8) {
        f[12..14].copy_from_slice(&r.pick(&[
            [0x88, 0xcc],
            [0x08, 6],
            [0, 40],
            [0x86, 0xdd],
            [8, 0],
        ]));
    }
    for _ in 0..r.pick(&[0, 0, 0, 1, 1, 2, 4, 5]) {
        let tpid = r.pick(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]);
        let tci = r.pick(&[[0, 7], [0x23, 0x89], [0xe0, 0], [0, 9]]);
        f.splice(12..12, [tpid[0], tpid[1], tci[0], tci[1]]);
    }
    if r.one_in(6) {
        f.truncate(14 + r.below(f.len() - 13));
    }
    if r.one_in(10) {
        let at = r.below(f.len());
        f[at] = r.next() as u8;
    }
    f
}

fn compare(kernel: &Kernel, flows: &[FlowSpec], r: &mut Random, frames: usize) -> usize {
    kernel.attach(&compile(flows, 0x40000, false).unwrap());
    let mut taken = 0;
    for _ in 0..frames {
        let frame = random_frame(r);
        let expected = flows.iter().any(|f| f.matches(&frame));
        let passed = kernel.run(&frame);
        assert_eq!(passed, if expected { frame.len() } else { 0 }, "{flows:?} on {frame:02x?}");
        taken += usize::from(expected);
    }
    taken
}

#[test]
fn each_form_alone_takes_what_the_matcher_takes() {
    let (kernel, mut r) = (Kernel::new(), Random(1));
    for text in FORMS {
        let flows = [flow(text)];
        // Rare meetings (a TCP 5-tuple) need more tries: go on until there were three.
        let mut taken = 0;
        for _ in 0..100 {
            taken += compare(&kernel, &flows, &mut r, 500);
            if taken >= 3 {
                break;
            }
        }
        assert!(taken >= 3, "{text}: the random frames meet it {taken} times only");
    }
}

#[test]
fn mixed_lists_take_what_the_matcher_takes() {
    let (kernel, mut r) = (Kernel::new(), Random(2));
    for round in 0..200 {
        let n = 1 + r.below(if round % 10 == 0 { 30 } else { 6 });
        let flows: Vec<_> = (0..n).map(|_| flow(r.pick(&FORMS))).collect();
        compare(&kernel, &flows, &mut r, 200);
    }
}

#[test]
fn everything_and_nothing() {
    let (kernel, mut r) = (Kernel::new(), Random(3));
    kernel.attach(&nothing());
    assert_eq!(kernel.run(&random_frame(&mut r)), 0);
    kernel.attach(&compile(&[], 64, false).unwrap());
    assert_eq!(kernel.run(&random_frame(&mut r)), 0);
    kernel.attach(&compile(&[flow("239.9.9.9:1"), FlowSpec::ALL], 64, false).unwrap());
    assert_eq!(kernel.run(&[7; 200]), 64);
    assert_eq!(kernel.run(&[7; 60]), 60);
}

/// Frames to `n` groups far apart, each with its own port, and to their neighbours.
fn scattered(n: u32) -> Vec<FlowSpec> {
    let group = |i: u32| (0xef00_0000 + i * 7919).to_be_bytes();
    (0..n).map(|i| FlowSpec::group(group(i).into(), 10_000 + i as u16)).collect()
}

#[test]
fn hundreds_of_groups_are_told_apart() {
    let kernel = Kernel::new();
    let pairs =
        (0..50).flat_map(|n| FlowSpec::parse_list(&format!("239.2.{n}.7:{}+2", 7 + n)).unwrap());
    for flows in [
        scattered(128),
        scattered(450),
        pairs.collect(),
        FlowSpec::parse_list("239.1.1.7:5+4096").unwrap(),
    ] {
        let program = compile(&flows, 0x40000, false).unwrap();
        assert!(program.len() <= MAX_PROGRAM);
        kernel.attach(&program);
        let mut f = [0; 60];
        for (i, flow) in flows.iter().enumerate().step_by(1 + flows.len() / 300) {
            let FlowKind::Group { group: IpAddr::V4(group), port: Some(port), .. } = flow.kind
            else {
                panic!("no group")
            };
            for (step, port_step) in [(0, 0), (1, 0), (u32::MAX, 0), (0, 1)] {
                let to = group.to_bits().wrapping_add(step).to_be_bytes();
                let dst = std::net::SocketAddr::from((to, port + port_step));
                let template = UdpTemplate::new("10.0.0.1:1".parse().unwrap(), dst).unwrap();
                let len = template.write(&mut f, b"x").unwrap();
                let expected = flows.iter().any(|flow| flow.matches(&f[..len]));
                assert_eq!(kernel.run(&f[..len]) != 0, expected, "flow {i} step {step}");
            }
        }
    }
}

#[test]
fn the_sizes_in_the_documentation_hold() {
    assert_eq!(compile(&[FlowSpec::ALL], 64, false).unwrap().len(), 5);
    let one = compile(&scattered(1), 64, false).unwrap().len();
    let range = FlowSpec::parse_list("239.1.1.0:5000+256").unwrap();
    assert!(compile(&range, 64, false).unwrap().len() <= one + 1);
    let len = compile(&scattered(128), 64, false).unwrap().len();
    assert!((900..1150).contains(&len), "128 scattered groups take {len} instructions");
    let too_many = compile(&scattered(2000), 64, false).unwrap_err();
    assert!(too_many > MAX_PROGRAM);
}

/// The frames of the real kernel: their outermost VLAN tag is not inline but in the metadata.
#[test]
fn on_a_real_interface_flows_take_what_the_matcher_takes() {
    use linerate_common::{FrameRx, FrameTx};

    let lab = linerate_lab::lab_or_skip!();
    // Frames sent from two CPUs may overtake each other, the marker the others.
    // SAFETY: a CPU set is plain data that outlives the calls, and the kernel's CPU number fits.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
    let open = |side: &str, flows: Vec<FlowSpec>| {
        let mut options = crate::Options::default();
        (options.receive, options.transmit) = (side == "v1", side == "v0");
        (options.flows, options.ring) = (flows, crate::Ring::LOW_LATENCY);
        match side {
            "v0" => lab.in_a(|| crate::open("v0", &options)).unwrap(),
            _ => lab.in_b(|| crate::open("v1", &options)).unwrap(),
        }
    };
    let mut r = Random(4);
    let mut tx = open("v0", vec![]).into_tx().unwrap();
    let mut taken_tagged = 0;
    let mut marker = [0; 60];
    marker[12..14].copy_from_slice(&[0x88, 0xb7]);
    for round in 0..12 {
        let n = if round == 0 { FORMS.len() } else { 1 + r.below(5) };
        let mut flows: Vec<_> = match n == FORMS.len() {
            true => FORMS.iter().map(|text| flow(text)).collect(),
            false => (0..n).map(|_| flow(r.pick(&FORMS))).collect(),
        };
        flows.push(flow("ether:0x88b7"));
        // What the whole port sees, and what the flows take of it.
        let mut all = open("v1", vec![FlowSpec::ALL]).into_rx().unwrap();
        let mut some = open("v1", flows.clone()).into_rx().unwrap();
        for _ in 0..500 {
            let frame = random_frame(&mut r);
            tx.send(&frame[..frame.len().min(1514)]).unwrap();
        }
        tx.send(&marker).unwrap();
        tx.kick().unwrap();
        let collect = |rx: &mut crate::PacketRx| {
            let mut frames: Vec<Vec<u8>> = Vec::new();
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while frames.last().is_none_or(|f| *f != marker) {
                rx.poll(1, |f| frames.push(f.bytes.to_vec())).unwrap();
                assert!(std::time::Instant::now() < end, "no marker within ten seconds");
            }
            // The interface's own chatter may reach one port and not yet the other.
            frames.retain(|f| f[6..12] == [2, 0, 0, 0, 0, 0]);
            frames
        };
        let (mut expected, got) = (collect(&mut all), collect(&mut some));
        assert!(expected.len() >= 400 && all.stats().lost() == 0);
        expected.retain(|f| flows.iter().any(|flow| flow.matches(f)));
        taken_tagged += got.iter().filter(|f| f[12] != 8 && f[12] != 0x86).count();
        assert_eq!(got, expected, "{flows:?}");
    }
    assert!(taken_tagged > 100, "{taken_tagged} tagged frames");
}
