//! What becomes of a running `capture` and `forward` when their interface changes: each goes on,
//! or ends with status 1 and a line that says why. What came before is kept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::UdpSocket;
use std::process::Command;

use common::{Ended, Running, Scratch, frames};
use linerate_lab::Lab;

/// A cable between the namespaces, and routes for what is sent to the group.
fn lab() -> Result<Lab, String> {
    let lab = Lab::new()?;
    lab.ip_a(&["route", "add", "239.0.0.0/8", "dev", "v0"])?;
    Ok(lab)
}

macro_rules! lab {
    () => {
        match lab() {
            Ok(lab) => lab,
            Err(why) => {
                return linerate_lab::skip(std::thread::current().name().unwrap_or("test"), &why);
            }
        }
    };
}

fn send(lab: &Lab, n: u64) {
    lab.in_a(|| {
        let socket = UdpSocket::bind("10.99.0.1:0").unwrap();
        (0..n).for_each(|i| {
            socket.send_to(&[i as u8; 100], "239.1.1.1:5000").unwrap();
        });
    });
}

/// Waits until the running command has seen so many frames.
fn sees(running: &mut Running, n: u64) {
    running.wait_until(|line| line["frames"].as_u64() >= Some(n));
}

/// Sends one frame after the other until one more has come: the carrier takes its time.
fn until_one_comes(lab: &Lab, running: &mut Running, before: u64) {
    running.wait_until(|line| {
        send(lab, 1);
        line["frames"].as_u64() > Some(before)
    });
}

/// A capture of ten frames, in which `change` happens, and what it came to.
fn through(lab: &Lab, port: &str, change: &dyn Fn(), goes_on: bool) -> Ended {
    let dir = Scratch::new(&format!("life-{}-{}", port.replace(':', "-"), lab.b()));
    let out = dir.path("out.pcapng");
    let args = ["capture", "-i", port, "-g", "239.1.1.1:5000", "-w", &out];
    let mut capture = lab.in_b(|| Running::start(&args));
    send(lab, 10);
    sees(&mut capture, 10);
    change();
    let ended = if goes_on {
        until_one_comes(lab, &mut capture, 10);
        capture.interrupt()
    } else {
        capture.finish()
    };
    let last = &ended.last;
    assert_eq!(ended.code, Some(i32::from(!goes_on)), "{port}: {ended:?}");
    assert_eq!((&last["unexplained"], last["dropped"].as_object().unwrap().len()), (&0.into(), 0));
    let kept = frames(&out).len() as u64;
    assert_eq!(last["delivered"].as_u64(), Some(kept), "{port}: {ended:?}");
    assert!(kept >= 10 && (goes_on || kept == 10), "{port}: {ended:?}");
    ended
}

fn link_and_addresses(port: &str) {
    let lab = lab!();
    let ip = |args: &[&str]| lab.ip_b(args).unwrap();
    let down_and_up = || {
        ip(&["link", "set", "v1", "down"]);
        ip(&["link", "set", "v1", "up"]);
    };
    through(&lab, port, &down_and_up, true);
    // The far end: a switch that restarts. The route goes with its link.
    let peer = || {
        lab.ip_a(&["link", "set", "v0", "down"]).unwrap();
        lab.ip_a(&["link", "set", "v0", "up"]).unwrap();
        lab.ip_a(&["route", "replace", "239.0.0.0/8", "dev", "v0"]).unwrap();
    };
    through(&lab, port, &peer, true);
    let mtu_and_address = || {
        ip(&["link", "set", "v1", "mtu", "1400"]);
        ip(&["link", "set", "v1", "mtu", "1500"]);
        ip(&["addr", "del", "10.99.0.2/24", "dev", "v1"]);
        ip(&["addr", "add", "10.99.0.7/24", "dev", "v1"]);
    };
    through(&lab, port, &mtu_and_address, true);
}

fn name_and_identity(port: &str) {
    let lab = lab!();
    // Sockets follow the interface under its new name, and find the new one of the old name. The
    // others are tied to one interface, and a capture is of a name: what is called so now may be
    // another card.
    let udp = port.starts_with("udp");
    let name = |from: &str, to: &str| {
        lab.ip_b(&["link", "set", from, "down"]).unwrap();
        lab.ip_b(&["link", "set", from, "name", to]).unwrap();
        lab.ip_b(&["link", "set", to, "up"]).unwrap();
    };
    let ended = through(&lab, port, &|| name("v1", "x1"), udp);
    assert!(udp || told(&ended, "v1"), "{port}: {ended:?}");
    name("x1", "v1");

    let make_anew = || {
        lab.ip_b(&["link", "del", "v1"]).unwrap();
        lab.add_pair("v0", "v1").unwrap();
        lab.ip_a(&["addr", "add", "10.99.0.1/24", "dev", "v0"]).unwrap();
        lab.ip_a(&["route", "add", "239.0.0.0/8", "dev", "v0"]).unwrap();
        lab.ip_b(&["addr", "add", "10.99.0.2/24", "dev", "v1"]).unwrap();
    };
    let ended = through(&lab, port, &make_anew, udp);
    assert!(udp || told(&ended, "v1"), "{port}: {ended:?}");
}

#[test]
fn packet_sockets_outlive_changes_of_link_and_address() {
    link_and_addresses("afpacket:v1");
}

#[test]
fn udp_sockets_outlive_changes_of_link_and_address() {
    link_and_addresses("udp:v1");
}

#[test]
fn xdp_sockets_outlive_changes_of_link_and_address() {
    link_and_addresses("afxdp:v1");
}

#[test]
fn packet_sockets_end_with_their_interface() {
    name_and_identity("afpacket:v1");
}

#[test]
fn udp_sockets_follow_the_interface() {
    name_and_identity("udp:v1");
}

#[test]
fn xdp_sockets_end_with_their_interface() {
    name_and_identity("afxdp:v1");
}

/// Is there one line about it, with what to do?
fn told(ended: &Ended, what: &str) -> bool {
    let text = ended.last["error"].as_str().unwrap_or_default();
    text.contains(what) && text.contains("kept") && !text.contains('\n')
}

/// Two cables that end in B, with a forwarder between them.
fn forwarder(lab: &Lab, backend: &str) -> Running {
    lab.in_b(|| Running::start(&["forward", &format!("{backend}:v1"), &format!("{backend}:w1")]))
}

#[test]
fn a_forwarder_outlives_a_link_that_was_down_and_says_when_its_interface_is_gone() {
    let lab = lab!();
    for backend in ["afpacket", "afxdp"] {
        lab.add_pair("w0", "w1").unwrap();
        lab.ip_a(&["addr", "add", "10.98.0.1/24", "dev", "w0"]).unwrap();
        let mut forward = forwarder(&lab, backend);
        let mut seen =
            lab.in_a(|| Running::start(&["capture", "-i", "afpacket:w0", "-g", "239.1.1.1:5000"]));
        until_one_comes(&lab, &mut seen, 0);
        for link in ["v1", "w1"] {
            lab.ip_b(&["link", "set", link, "down"]).unwrap();
            send(&lab, 3);
            lab.ip_b(&["link", "set", link, "up"]).unwrap();
        }
        let before = std::cell::Cell::new(0);
        seen.wait_until(|line| line["frames"].as_u64().inspect(|n| before.set(*n)).is_some());
        until_one_comes(&lab, &mut seen, before.get());
        lab.ip_b(&["link", "del", "w1"]).unwrap();
        // One that sends to it finds out; so does one that only receives from it.
        send(&lab, 3);
        let ended = forward.finish();
        assert_eq!(ended.code, Some(1), "{backend}: {ended:?}");
        let text = ended.last["error"].as_str().unwrap_or_default();
        assert!(text.contains("w1") && !text.contains('\n'), "{backend}: {ended:?}");
        drop(seen);
    }
}

/// Killed at some point of its life, from the first system call on: what it attached is gone, and
/// the next one starts.
#[test]
fn a_killed_forwarder_leaves_nothing_attached() {
    let lab = lab!();
    lab.add_pair("w0", "w1").unwrap();
    let args = ["forward", "afxdp:v1?ring_slots=64", "afxdp:w1?ring_slots=64"];
    for round in 0..24u64 {
        let mut child = lab.in_b(|| common::linerate(&args).spawn().unwrap());
        // Up to the time that opening takes on a busy machine, a little later each time.
        std::thread::sleep(std::time::Duration::from_millis(round * round / 2));
        child.kill().unwrap();
        child.wait().unwrap();
        let out = Command::new("ip").args(["-n", lab.b(), "-d", "link"]).output().unwrap();
        let links = String::from_utf8(out.stdout).unwrap();
        assert!(!links.contains("xdp") && !links.contains("promiscuity 1"), "{round}: {links}");
    }
    let mut forward = lab.in_b(|| Running::start(&args));
    assert_eq!(forward.interrupt().code, Some(0));
}

/// The same for other commands, and for a card of which slots were written ahead.
#[test]
fn killed_commands_leave_nothing_attached() {
    let lab = lab!();
    let commands: [&[&str]; 4] = [
        &["capture", "-i", "afxdp:v1?ring_slots=64", "-g", "239.1.1.1:5000"],
        &["sink", "afxdp:v1?ring_slots=64", "-g", "239.1.1.1:5000"],
        &["top", "afxdp:v1?ring_slots=64", "--json"],
        &["ping", "afxdp:v1?ring_slots=64", "--tx", "preload", "--timeout", "1", "-d", "600"],
    ];
    for args in commands {
        for round in 0..10u64 {
            let mut child = lab.in_b(|| common::linerate(args).spawn().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(round * round * 2));
            child.kill().unwrap();
            child.wait().unwrap();
            let out = Command::new("ip").args(["-n", lab.b(), "-d", "link"]).output().unwrap();
            let links = String::from_utf8(out.stdout).unwrap();
            let clean = !links.contains("xdp") && !links.contains("promiscuity 1");
            assert!(clean, "{args:?}, {round}: {links}");
            let maddr = ["-n", lab.b(), "maddr", "show", "dev", "v1"];
            let groups = Command::new("ip").args(maddr).output().unwrap();
            assert!(!String::from_utf8(groups.stdout).unwrap().contains("239.1.1.1"), "{round}");
        }
        let next: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--json").collect();
        let mut next = lab.in_b(|| Running::start(&next));
        let ended = next.interrupt();
        assert!(ended.last["error"].is_null(), "{args:?}: {ended:?}");
    }
}
