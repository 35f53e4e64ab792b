//! The program in the kernel against `FlowSpec::matches`, on random frames and rules: the same in
//! every run, or other ones for as many seconds as `LINERATE_DIFFERENTIAL` says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use linerate_common::{FlowKind, FlowSpec, Proto};

use super::{Action, Rule, Steering};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// A small, repeatable generator (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

// Few values, so that rules and frames meet often and masked keys collide.
const V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(239, 1, 1, 1),
    Ipv4Addr::new(239, 1, 1, 2),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::UNSPECIFIED,
];
const V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xef01, 0x0101, 0, 0, 0, 0, 0, 0), // begins like 239.1.1.1
    Ipv6Addr::UNSPECIFIED,
];
const PORTS: [u16; 3] = [0, 5000, 5001];
const MACS: [[u8; 6]; 3] = [[1, 0, 0x5e, 1, 1, 1], [2, 0, 0, 0, 0, 1], [0; 6]];
const VLANS: [u16; 4] = [0, 5, 905, 4094];
const TYPES: [u16; 6] = [0x0800, 0x86dd, 0x0806, 0x88cc, 0x8100, 0];

fn ip(r: &mut Random) -> IpAddr {
    if r.one_in(2) { r.pick(&V4).into() } else { r.pick(&V6).into() }
}

/// An address of the family of `like`.
fn ip_like(r: &mut Random, like: IpAddr) -> IpAddr {
    if like.is_ipv4() { r.pick(&V4).into() } else { r.pick(&V6).into() }
}

fn flow(r: &mut Random) -> FlowSpec {
    let address = ip(r);
    let other = ip_like(r, address);
    let dst = SocketAddr::new(address, r.pick(&PORTS));
    let src = SocketAddr::new(other, r.pick(&PORTS));
    let proto = r.pick(&[Proto::Udp, Proto::Tcp]);
    let kind = match r.below(13) {
        0 => FlowKind::All,
        1 => FlowKind::Mac(r.pick(&MACS)),
        2 => FlowKind::EtherType(r.pick(&TYPES)),
        3..=6 => FlowKind::Group {
            group: address,
            source: r.one_in(2).then_some(other),
            port: r.one_in(2).then(|| dst.port()),
        },
        7..=9 => FlowKind::To { proto, dst },
        _ => FlowKind::Between { proto, dst, src },
    };
    let vlan = r.one_in(3).then(|| r.pick(&VLANS));
    FlowSpec { kind, vlan }
}

/// A frame that is often well-formed, sometimes cut off, sometimes nonsense.
fn frame(r: &mut Random) -> Vec<u8> {
    let mut f = r.pick(&MACS).to_vec();
    f.extend([2, 0, 0, 0, 0, 9]);
    let tags = if r.one_in(2) { 0 } else { r.below(7) };
    for _ in 0..tags {
        f.extend(r.pick(&[0x8100u16, 0x88a8, 0x9100]).to_be_bytes());
        f.extend((r.pick(&VLANS) | r.pick(&[0, 0xe000, 0x1000])).to_be_bytes());
    }
    match r.below(8) {
        0 => f.extend(r.pick(&TYPES).to_be_bytes()),
        1..=4 => ipv4(r, &mut f),
        _ => ipv6(r, &mut f),
    }
    if r.one_in(4) {
        f.truncate(r.below(f.len() as u64) as usize);
    } else {
        f.resize(f.len() + r.below(30) as usize, 0xa5);
    }
    if r.one_in(8) && !f.is_empty() {
        let at = r.below(f.len() as u64) as usize;
        f[at] = r.next() as u8;
    }
    // BPF_PROG_TEST_RUN takes no less; no card delivers less either.
    f.resize(f.len().max(14), 0);
    f
}

fn ipv4(r: &mut Random, f: &mut Vec<u8>) {
    f.extend(0x0800u16.to_be_bytes());
    let words = if r.one_in(3) { 5 + r.below(11) as u8 } else { 5 };
    let version = if r.one_in(20) { 0x60 } else { 0x40 };
    let words = if r.one_in(30) { r.below(5) as u8 } else { words };
    let fragment = if r.one_in(5) { r.pick(&[0x2000u16, 0x4000, 1, 0x2001, 0x1fff]) } else { 0 };
    f.extend([version | words, 0, 0, 60, 0, 1]);
    f.extend(fragment.to_be_bytes());
    f.extend([64, r.pick(&[17, 17, 6, 2, 1]), 0, 0]);
    f.extend(r.pick(&V4).octets());
    f.extend(r.pick(&V4).octets());
    f.resize(f.len() + usize::from(words.saturating_sub(5)) * 4, 1);
    f.extend(r.pick(&PORTS).to_be_bytes());
    f.extend(r.pick(&PORTS).to_be_bytes());
    f.extend([0, 8, 0, 0]);
}

fn ipv6(r: &mut Random, f: &mut Vec<u8>) {
    f.extend(0x86ddu16.to_be_bytes());
    let extensions: Vec<u8> = (0..if r.one_in(2) { 0 } else { r.below(7) })
        .map(|_| r.pick(&[0, 43, 60, 44, 44, 50]))
        .collect();
    let upper = r.pick(&[17u8, 17, 6, 58]);
    let version = if r.one_in(20) { 0x40 } else { 0x60 };
    f.extend([version, 0, 0, 0, 0, 40, extensions.first().copied().unwrap_or(upper), 64]);
    f.extend(r.pick(&V6).octets());
    f.extend(r.pick(&V6).octets());
    for (i, kind) in extensions.iter().enumerate() {
        let next = extensions.get(i + 1).copied().unwrap_or(upper);
        let units = if *kind == 44 { 0 } else { r.pick(&[0, 0, 1, 3, 255]) };
        let offset = if r.one_in(3) { r.pick(&[1u16, 8, 9, 0xfff8]) } else { r.pick(&[0, 1]) };
        f.extend([next, units]);
        f.extend(offset.to_be_bytes());
        f.extend([0; 4]);
        // 255 units would be 2 KiB: the frame ends before, as it must be allowed to.
        f.resize(f.len() + usize::from(units.min(3)) * 8, 0);
    }
    f.extend(r.pick(&PORTS).to_be_bytes());
    f.extend(r.pick(&PORTS).to_be_bytes());
    f.extend([0, 8, 0, 0]);
}

/// The rule that decides by the definition: the first in order, ids growing.
fn expected<'a>(rules: &'a [(Rule, u32)], frame: &[u8]) -> Option<&'a (Rule, u32)> {
    rules
        .iter()
        .filter(|(rule, _)| rule.flow.matches(frame))
        .min_by_key(|(rule, id)| (rule.order, *id))
}

#[test]
fn the_kernel_decides_as_the_definition_says() {
    let test = "the_kernel_decides_as_the_definition_says";
    let steering = match Steering::unattached() {
        Ok(steering) => steering,
        Err(e) if e.errno() == libc::EPERM => return linerate_lab::skip(test, &e.to_string()),
        Err(e) => panic!("{e}"),
    };
    let seconds = std::env::var("LINERATE_DIFFERENTIAL").ok().and_then(|s| s.parse().ok());
    let end = seconds.map(|s| Instant::now() + Duration::from_secs(s));
    let seed = match end {
        None => 0x9e37_79b9_7f4a_7c15,
        Some(_) => linerate_common::clock::now_ns() | 1,
    };
    println!("seed {seed:#x}");
    let mut r = Random(seed);
    let mut rules: Vec<(Rule, u32)> = Vec::new();
    let mut counted = std::collections::HashMap::<u32, u64>::new();
    let (mut passed, mut delivered, mut dropped) = (0, 0, 0);
    let mut round = 0;
    while round < 150 || end.is_some_and(|end| Instant::now() < end) {
        round += 1;
        // Rules come and go while the program stays.
        while rules.len() > r.below(12) as usize {
            let (_, id) = rules.swap_remove(r.below(rules.len() as u64) as usize);
            counted.remove(&id);
            steering.remove(linerate_common::RuleId(id)).unwrap();
        }
        for _ in 0..r.below(8) {
            let flow = flow(&mut r);
            let rule = if r.one_in(3) { Rule::drop(flow) } else { Rule::deliver(flow) };
            let rule = if r.one_in(4) { rule.order(r.below(3) as u16 * 500) } else { rule };
            rules.push((rule, steering.add(&[rule]).unwrap()[0].0));
        }
        for _ in 0..200 {
            let frame = frame(&mut r);
            let verdict = steering.run(&frame).unwrap();
            let rule = expected(&rules, &frame);
            // Where there is no socket, delivery ends as PASS: the rule's count tells.
            let want = match rule {
                Some((rule, _)) if rule.action == Action::Drop => XDP_DROP,
                _ => XDP_PASS,
            };
            assert_eq!(verdict, want, "round {round}: {rule:?} for {frame:02x?}\n{rules:#?}");
            match rule {
                None => passed += 1,
                Some((rule, id)) => {
                    *counted.entry(*id).or_default() += 1;
                    *if rule.action == Action::Drop { &mut dropped } else { &mut delivered } += 1;
                }
            }
        }
        for status in steering.rules().unwrap() {
            let want = counted.get(&status.id.0).copied().unwrap_or(0);
            assert_eq!(status.hits.frames, want, "round {round}: {status:?}");
        }
    }
    println!("{round} sets of rules: {passed} passed, {delivered} delivered, {dropped} dropped");
    assert!(passed > 2000 && delivered > 2000 && dropped > 500, "{passed} {delivered} {dropped}");
}
