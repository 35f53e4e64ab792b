//! `Membership` against the real kernel, seen through /proc/net of a network namespace.

// The helpers of a test may unwrap like the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use linerate_common::membership::Membership;
use linerate_common::{ErrorKind, MembershipState};
use linerate_lab::syscalls::{Call, judged};
use linerate_lab::{lab_or_skip, skip};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `count` groups from 239.66.0.1 on.
fn groups(count: u32) -> impl Iterator<Item = (IpAddr, Option<IpAddr>)> {
    let first = u32::from(Ipv4Addr::new(239, 66, 0, 1));
    (first..first + count).map(|n| (Ipv4Addr::from(n).into(), None))
}

fn proc_net(file: &str) -> String {
    // Not /proc/net, which is the main thread's namespace.
    fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap()
}

/// The IPv4 groups that the calling thread's namespace has joined on `dev`, with user counts.
fn joined_v4(dev: &str) -> Vec<(Ipv4Addr, u32)> {
    let mut on_dev = false;
    let mut found = Vec::new();
    for line in proc_net("igmp").lines().skip(1) {
        let mut words = line.split_whitespace();
        if line.starts_with(char::is_whitespace) {
            let group = u32::from_str_radix(words.next().unwrap(), 16).unwrap();
            let users = words.next().unwrap().parse().unwrap();
            if on_dev {
                found.push((Ipv4Addr::from(group.to_ne_bytes()), users));
            }
        } else {
            on_dev = words.nth(1) == Some(dev);
        }
    }
    found.retain(|(g, _)| g.octets()[0] != 224);
    found
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_hundred_and_twenty_eight_groups_are_joined_and_all_left() {
    let lab = lab_or_skip!();
    lab.in_a(|| {
        let feed = Membership::new("v0").unwrap();
        feed.join_all(groups(128)).unwrap();
        feed.join_all(groups(128)).unwrap();
        let status = feed.status();
        assert_eq!((status.wanted, status.joined), (128, 128));
        assert_eq!(status.state, MembershipState::Joined);
        // The namespace has the default limit of 20 joins a socket.
        assert_eq!(status.sockets, 7);

        let mut seen = joined_v4("v0");
        seen.sort_unstable();
        let want: Vec<_> = groups(128).map(|(g, _)| (g, 1)).collect();
        let seen: Vec<_> = seen.into_iter().map(|(g, n)| (IpAddr::V4(g), n)).collect();
        assert_eq!(seen, want, "each group once, asked for twice or not");
        assert!(joined_v4("lo").is_empty());

        assert!(feed.leave(ip("239.66.0.5"), None));
        assert!(!feed.leave(ip("239.66.0.5"), None));
        assert_eq!(joined_v4("v0").len(), 127);
        assert_eq!(feed.groups().len(), 127);
        drop(feed);
        assert_eq!(joined_v4("v0"), []);
    });
}

#[test]
fn sources_reach_the_kernels_filter_beyond_the_limit_of_one_socket() {
    let lab = lab_or_skip!();
    lab.in_a(|| {
        let feed = Membership::new("v0").unwrap();
        let group = ip("232.66.0.1");
        // Default limit: 10 sources of a group on a socket.
        for host in 1..=25u8 {
            feed.join(group, Some(IpAddr::from([10, 99, 0, host]))).unwrap();
        }
        let filter = proc_net("mcfilter");
        for host in 1..=25u32 {
            let source = format!("0xe8420001 0x{:08x}", 0x0a63_0000 + host);
            assert!(filter.contains(&source), "{source} is not in\n{filter}");
        }
        assert_eq!(feed.status().sockets, 3);

        // An any-source join of the same group must widen, not narrow.
        feed.join(group, None).unwrap();
        assert_eq!(feed.status().joined, 26);
        assert!(feed.leave(group, None));
        assert!(proc_net("mcfilter").contains("0xe8420001 0x0a630019"));
    });
}

#[test]
fn ipv6_groups_are_joined_from_any_source_and_from_one() {
    let lab = lab_or_skip!();
    lab.in_a(|| {
        let index = fs::read_to_string("/sys/class/net/v0/ifindex").unwrap();
        let feed = Membership::new(index.trim().parse::<u32>().unwrap()).unwrap();
        for n in 1..=40 {
            feed.join(ip(&format!("ff15::66:{n:x}")), None).unwrap();
        }
        feed.join(ip("ff35::66:1"), Some(ip("fd99::2"))).unwrap();
        let all = proc_net("igmp6");
        for n in 1..=40 {
            let group = format!("v0              ff1500000000000000000000006600{n:02x}");
            assert!(all.contains(&group), "{group} is not in\n{all}");
        }
        let filter = proc_net("mcfilter6");
        let want = "ff350000000000000000000000660001 fd990000000000000000000000000002";
        assert!(filter.contains(want), "{filter}");
        drop(feed);
        assert!(!proc_net("igmp6").contains("ff15"));
    });
}

#[test]
fn an_interface_that_comes_back_is_joined_again() {
    let lab = lab_or_skip!();
    let feed = lab.in_a(|| {
        let feed = Membership::new("v0").unwrap();
        feed.join_all(groups(50)).unwrap();
        feed.join(ip("ff15::66:1"), None).unwrap();
        feed
    });
    let before = feed.status().index;

    lab.ip_a(&["link", "del", "v0"]).unwrap();
    wait_for("the loss to be seen", || feed.status().state == MembershipState::WaitingForInterface);
    let status = feed.status();
    assert_eq!((status.wanted, status.joined, status.index), (51, 0, None));
    // Noted for later.
    lab.in_a(|| feed.join(ip("239.66.9.9"), None)).unwrap();

    lab.add_pair("v0", "v1").unwrap();
    // Without an address IGMP reports would have no sender: IPv4 waits, IPv6 does not.
    wait_for("the IPv6 join", || feed.status().joined == 1);
    assert_eq!(feed.status().state, MembershipState::WaitingForAddress);
    lab.ip_a(&["addr", "add", "10.99.0.1/24", "dev", "v0"]).unwrap();
    wait_for("all joins", || feed.status().state == MembershipState::Joined);

    let status = feed.status();
    assert_eq!((status.joined, status.rejoins, status.last_error), (52, 1, None));
    assert_ne!(status.index, before, "the test must see another index");
    lab.in_a(|| assert_eq!(joined_v4("v0").len(), 51));
    drop(feed);
    lab.in_a(|| assert_eq!(joined_v4("v0"), []));
}

/// The watcher is refused each call of its once: it must still see that the interface returns.
#[test]
fn a_watcher_that_is_refused_a_call_goes_on() {
    let lab = lab_or_skip!();
    for refused in ["poll", "recvfrom", "ioctl"] {
        let (watching, mut done) = (AtomicBool::new(false), false);
        let judge = |call: &Call| {
            let asked = call.name == refused && watching.load(Ordering::Relaxed);
            let unlucky = !done && asked && call.thread_name() == "linerate-member";
            done |= unlucky;
            if unlucky { libc::ENOMEM } else { 0 }
        };
        let life = || {
            let feed = Membership::new("v0").unwrap();
            feed.join_all(groups(3)).unwrap();
            watching.store(true, Ordering::Relaxed);
            lab.ip_a(&["link", "del", "v0"]).unwrap();
            wait_for("the loss to be seen", || feed.status().index.is_none());
            lab.add_pair("v0", "v1").unwrap();
            lab.ip_a(&["addr", "add", "10.99.0.1/24", "dev", "v0"]).unwrap();
            wait_for("all joins", || feed.status().state == MembershipState::Joined);
            assert_eq!(joined_v4("v0").len(), 3, "{refused}");
            drop(feed);
            assert_eq!(joined_v4("v0"), []);
        };
        if let Err(why) = lab.in_a(|| judged(judge, life)) {
            return skip("a_watcher_that_is_refused_a_call_goes_on", &why);
        }
        assert!(done, "the watcher made no call of {refused}");
    }
}

#[test]
fn an_interface_replaced_by_one_with_the_same_index_is_joined_again() {
    let lab = lab_or_skip!();
    let create = || {
        let pair = ["link", "add", "d0", "index", "4242", "type", "veth", "peer", "name", "d1"];
        lab.ip_a(&pair).unwrap();
        lab.ip_a(&["addr", "add", "10.98.0.1/24", "dev", "d0"]).unwrap();
    };
    create();
    let feed = lab.in_a(|| {
        let feed = Membership::new("d0").unwrap();
        feed.join_all(groups(3)).unwrap();
        feed
    });
    lab.ip_a(&["link", "del", "d0"]).unwrap();
    create();
    wait_for("the joins", || lab.in_a(|| joined_v4("d0").len()) == 3);
    wait_for("the count", || feed.status().rejoins >= 1);
    assert_eq!(feed.status().index, Some(4242));
}

#[test]
fn what_cannot_be_joined_says_why_and_what_helps() {
    let lab = lab_or_skip!();
    lab.add_pair("bare0", "bare1").unwrap();
    lab.in_a(|| {
        let e = Membership::new("nosuch").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DeviceGone);
        assert_eq!(Membership::new(0).unwrap_err().kind(), ErrorKind::BadArgument);

        let feed = Membership::new("v0").unwrap();
        let text = |r: Result<(), linerate_common::SetupError>| r.unwrap_err().to_string();
        let e = text(feed.join(ip("10.1.2.3"), None));
        assert!(e.starts_with("v0: join: 10.1.2.3 is not a multicast address"), "{e}");
        let e = text(feed.join(ip("232.1.1.1"), Some(ip("fd99::1"))));
        assert!(e.contains("different families"), "{e}");
        let e = text(feed.join(ip("232.1.1.1"), Some(ip("232.1.1.2"))));
        assert!(e.contains("not a sender's address"), "{e}");
        assert_eq!(feed.status().wanted, 0);

        let e = text(Membership::new("bare0").unwrap().join(ip("239.1.1.1"), None));
        assert!(e.contains("no IPv4 address") && e.contains("ip address add"), "{e}");

        fs::write("/proc/sys/net/ipv4/igmp_max_memberships", "0").unwrap();
        let e = text(feed.join(ip("239.1.1.1"), None));
        assert!(e.contains("sysctl -w net.ipv4.igmp_max_memberships"), "{e}");
        assert_eq!(feed.status().sockets, 0, "the socket that was too much is closed");
    });
}
