//! Backends chained in a ring: each frame goes over every link in turn and comes back to where it
//! began. What is lost, changed, repeated or overtaken anywhere on the way is seen there.

use std::collections::VecDeque;

use super::*;

/// One hop: what goes into `tx` comes out of `rx`.
struct Link {
    name: &'static str,
    tx: AnyTx,
    rx: AnyRx,
    /// Frames that came out of the link before and are not sent yet.
    waiting: VecDeque<Vec<u8>>,
    /// Buffers of frames, to be used again.
    spare: Vec<Vec<u8>>,
    passed: u64,
}

impl Link {
    fn new(name: &'static str, tx: AnyTx, rx: AnyRx) -> Self {
        Self { name, tx, rx, waiting: VecDeque::new(), spare: Vec::new(), passed: 0 }
    }

    fn queue(&mut self, frame: &[u8]) {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.waiting.push_back(copy);
    }

    fn send(&mut self) {
        while let Some(frame) = self.waiting.pop_front() {
            if !self.tx.send(&frame).unwrap() {
                self.waiting.push_front(frame);
                break;
            }
            self.spare.push(frame);
        }
        // Busy: the next turn tries again.
        let _ = self.tx.kick();
        self.tx.reap();
    }
}

/// Frames on the way round at any time: no ring or backlog overflows.
const WINDOW: u64 = 48;

fn go_round(links: &mut [Link], n: u64) {
    let longest = links.iter().map(|link| link.tx.max_len()).min().unwrap().min(1514);
    let src: SocketAddr = "10.99.0.1:4000".parse().unwrap();
    let to = |i: usize| SocketAddr::new([239, 1, 1, 1].into(), 5000 + i as u16);
    let templates: Vec<_> = (0..FLOWS).map(|i| UdpTemplate::new(src, to(i)).unwrap()).collect();
    let mut r = Random(0x1357_9bdf_2468_ace1);
    let (mut payload, mut frame) = (vec![0; longest], vec![0; longest]);
    let (mut sent, mut back, mut moved) = (0, 0, Instant::now());
    let mut last = [None; FLOWS];
    while back < n {
        let burst = 1 + r.below(WINDOW);
        for _ in 0..burst.min(n - sent).min(WINDOW - (sent - back)) {
            let len = length(&mut r, longest);
            let payload = &mut payload[..len - HEAD];
            fill(payload, sent);
            let flow = sent as usize % FLOWS;
            let written = templates[flow].write(&mut frame, payload).unwrap();
            links[0].queue(&frame[..written]);
            sent += 1;
        }
        let before = back;
        for i in 0..links.len() {
            let (here, onward) = links.split_at_mut(i + 1);
            let (here, mut onward) = (&mut here[i], onward.first_mut());
            here.send();
            let mut passed = 0;
            here.rx
                .poll(1 + r.below(64) as usize, |f| {
                    let Some(id) = number(f.bytes) else { return };
                    passed += 1;
                    if let Some(next) = &mut onward {
                        return next.queue(f.bytes);
                    }
                    let flow = id as usize % FLOWS;
                    assert!(last[flow].is_none_or(|last| last < id), "{id} after {:?}", last[flow]);
                    last[flow] = Some(id);
                    back += 1;
                })
                .unwrap();
            here.passed += passed;
        }
        if back > before {
            moved = Instant::now();
        } else if moved.elapsed() > QUIET {
            let passed: Vec<_> = links.iter().map(|link| (link.name, link.passed)).collect();
            panic!("{back} of {sent} came back: {passed:?}");
        } else {
            thread::yield_now();
        }
    }
}

#[test]
fn a_ring_of_all_backends_conserves_every_frame() {
    let test = "a_ring_of_all_backends_conserves_every_frame";
    let lab = lab_or_skip!();
    let _alone = alone();
    lab.add_pair("w0", "w1").unwrap();
    let pool = || Pool::builder().frames(2048).huge(Huge::Never).lock(false).build().unwrap();
    let (mut links, mut guards, mut pools) = (Vec::new(), Vec::new(), vec![pool()]);
    let options =
        loopback::Options { pool: Some(pools[0].clone()), ..loopback::Options::default() };
    let (tx, rx) = loopback::pair(&options).unwrap();
    links.push(Link::new("loopback", AnyTx::Custom(Box::new(tx)), AnyRx::Custom(Box::new(rx))));
    let mut join = |name, a: Port, b: Port| {
        let pools = [a.pool(), b.pool()].into_iter().flatten().cloned().collect::<Vec<_>>();
        let (_, tx, guard) = a.into_parts();
        let (mut rx, _, other) = b.into_parts();
        guards.push((guard, other));
        links.push(Link::new(name, tx.unwrap(), rx.remove(0)));
        pools
    };
    for (name, uri) in [
        ("sim:efvi", "sim:efvi?cable=ring-e&kind=ring"),
        ("sim:verbs", "sim:verbs?cable=ring-v&mode=steal"),
        ("sim:exanic", "sim:exanic?cable=ring-x&promiscuous=on"),
    ] {
        let pool = pool();
        if let Some((a, b)) = cards(test, uri, Some(&pool)) {
            pools.extend(join(name, a, b));
        }
    }
    let (a, b) = kernel(&lab, "afpacket", ("", ""));
    pools.extend(join("afpacket", a, b));
    lab.ip_b(&["addr", "add", "10.98.0.2/24", "dev", "w1"]).unwrap();
    let flow = |i| format!("239.1.1.1:{}", 5000 + i).parse::<FlowSpec>().unwrap();
    let flows = (0..FLOWS).map(flow);
    let a = lab.in_a(|| linerate::port("afxdp:w0?queue=0").direction(Direction::Tx).open());
    let b = lab.in_b(|| linerate::port("afxdp:w1?queue=0").flows(flows).open());
    pools.extend(join("afxdp", a.unwrap(), b.unwrap()));

    // A tenth first, to have everything touched; what is resident then stays it.
    let (n, begun, mut sizes) = (frames(), Instant::now(), Vec::new());
    for part in [n / 10, n - n / 10] {
        go_round(&mut links, part);
        sizes.push(resident());
    }
    let names: Vec<_> = links.iter().map(|link| link.name).collect();
    println!(
        "ring of {}: {n} frames went round, resident {} KiB after a tenth and {} KiB at the end, {:.1} s",
        names.join(", "),
        sizes[0],
        sizes[1],
        begun.elapsed().as_secs_f64()
    );
    for link in &mut links {
        let lost = link.rx.stats().lost() + link.tx.stats().lost();
        assert_eq!((link.passed, lost), (n, 0), "{}", link.name);
    }
    assert!(sizes[1] < sizes[0] + 4096, "grew from {} to {} KiB", sizes[0], sizes[1]);
    drop(links);
    assert!(pools.iter().all(|pool| pool.outstanding() == 0), "buffers are missing");
}
