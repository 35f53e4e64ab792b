//! An interface gets more queues under running commands that spin and show nothing: nobody asks
//! them for counters, and each learns of it all the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::linerate;
use linerate_lab::{Lab, lab_or_skip, skip};

const GROUP: &str = "239.1.1.1:5000";
const LIMIT: Duration = Duration::from_secs(100);

fn shell(command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    let out = Command::new(words.next().unwrap()).args(words).output();
    let out = out.map_err(|e| format!("{command}: {e}"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(format!("{command}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// A pair whose end in B could have four receive queues and has one.
fn four_queues(lab: &Lab) -> Result<(), String> {
    let (a, b) = (lab.a(), lab.b());
    shell(&format!(
        "ip link add q0 netns {a} numrxqueues 4 numtxqueues 4 type veth \
         peer q1 netns {b} numrxqueues 4 numtxqueues 4"
    ))?;
    shell(&format!("ip -n {a} link set q0 up"))?;
    shell(&format!("ip -n {b} link set q1 up"))?;
    shell(&format!("ip -n {b} addr add 10.97.0.2/24 dev q1"))?;
    use_queues(lab, 1)
}

fn use_queues(lab: &Lab, n: u32) -> Result<(), String> {
    let b = lab.b();
    shell(&format!("ip netns exec {b} ethtool -L q1 rx {n} tx {n}")).map(drop)
}

/// Kills what did not end by itself.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn learns_of_queues_that_come_later(args: &[&str]) {
    let lab = lab_or_skip!();
    if let Err(why) = four_queues(&lab) {
        return skip("learns_of_queues_that_come_later", &why);
    }
    let mut running = Ending(lab.in_b(|| linerate(args).spawn().unwrap()));
    let mut stderr = running.0.stderr.take().unwrap();
    let begun = Instant::now();
    let mut wait_for = |what: &str, done: &mut dyn FnMut(&mut Child) -> bool| {
        while !done(&mut running.0) {
            assert!(begun.elapsed() < LIMIT, "{args:?}: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // Its program comes when it knows how many queues there are.
    wait_for("it takes the interface", &mut |child| {
        assert!(child.try_wait().unwrap().is_none(), "{args:?} ended at once");
        shell(&format!("ip -n {} -d link show q1", lab.b())).unwrap().contains("xdp")
    });
    use_queues(&lab, 4).unwrap();
    wait_for("it learns of the queues", &mut |child| child.try_wait().unwrap().is_some());
    let told = std::io::read_to_string(&mut stderr).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(1), "{args:?}: {told}");
    assert!(told.contains("more than when it was opened"), "{args:?}: {told}");
}

#[test]
fn a_capture_learns_of_queues_that_come_later() {
    let args = ["capture", "-i", "afxdp:q1", "-g", GROUP, "--loop", "low-latency"];
    learns_of_queues_that_come_later(&args);
}

#[test]
fn a_sink_learns_of_queues_that_come_later() {
    learns_of_queues_that_come_later(&["sink", "afxdp:q1", "-g", GROUP, "--loop", "low-latency"]);
}

#[test]
fn a_pong_learns_of_queues_that_come_later() {
    learns_of_queues_that_come_later(&["pong", "afxdp:q1", "--loop", "low-latency"]);
}

#[test]
fn a_forward_learns_of_queues_that_come_later() {
    let args = ["forward", "afxdp:q1", "afpacket:v1", "--one-way", "--loop", "low-latency"];
    learns_of_queues_that_come_later(&args);
}
