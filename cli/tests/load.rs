//! `blast` into `sink`: every number is accounted for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Running, json, run};
use linerate_lab::{Lab, lab_or_skip};

const GROUPS: &str = "239.1.1.1:5000+7";

/// So many frames to each of seven groups, of three sizes in turn.
fn exchange(lab: &Lab, from: &str, to: &str, each: u64) {
    let all = 7 * each;
    let count = all.to_string();
    // The sink ends by itself when it has them all.
    let mut sink = lab.in_b(|| Running::start(&["sink", to, "-g", GROUPS, "-c", &count]));
    let args = ["blast", from, "-g", GROUPS, "-c", &count, "--pps", "2000", "--size", "60,90,150"];
    let blast = lab.in_a(|| json(&args));
    let what = format!("{from} to {to}: {blast:?}");
    assert_eq!(blast.code, Some(0), "{what}");
    assert_eq!((&blast.last["frames"], &blast.last["unexplained"]), (&all.into(), &0.into()));
    assert_eq!(blast.last["delivered"], all, "{what}");
    let sink = sink.finish();
    let what = format!("{what} {sink:?}");
    assert_eq!(sink.code, Some(0), "{what}");
    for (name, expected) in
        [("frames", all), ("missing", 0), ("duplicates", 0), ("damaged", 0), ("reordered", 0)]
    {
        assert_eq!(sink.last[name], expected, "{name}: {what}");
    }
    let groups = sink.last["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 7, "{what}");
    for group in groups {
        assert_eq!(
            (&group["frames"], &group["bytes"]),
            (&each.into(), &(100 * each).into()),
            "{what}"
        );
    }
}

#[test]
fn kernel_backends_carry_a_load() {
    let lab = lab_or_skip!();
    exchange(&lab, "afpacket:v0", "afpacket:v1", 300);
    exchange(&lab, "afxdp:v0", "afxdp:v1", 150);
    exchange(&lab, "udp:v0", "udp:v1", 300);
}

/// No more frames than the socket behind a simulated card holds while the machine is busy.
#[test]
fn simulated_cards_carry_a_load() {
    let lab = lab_or_skip!();
    for card in ["exanic", "efvi", "verbs"] {
        exchange(&lab, &format!("sim:{card}?peer=v0"), "afpacket:v1", 300);
        exchange(&lab, "afpacket:v0", &format!("sim:{card}?peer=v1"), 30);
    }
}

/// While the sink stands still its socket overflows: what it does not get the queue has counted.
#[test]
fn what_is_lost_is_counted_to_the_frame() {
    let lab = lab_or_skip!();
    let mut sink =
        lab.in_b(|| Running::start(&["sink", "udp:v1?rcvbuf=65536", "--loop", "blocking"]));
    sink.signal("-STOP");
    let blast = lab.in_a(|| json(&["blast", "afpacket:v0", "--top", "-c", "5000"]));
    assert_eq!(blast.last["delivered"], 5000, "{blast:?}");
    sink.signal("-CONT");
    // The last number shows what is missing before it.
    let after = lab.in_a(|| json(&["blast", "afpacket:v0", "--pps", "100", "-c", "10"]));
    assert_eq!(after.code, Some(0));
    sink.wait_until(|line| line["frames"].as_u64() > Some(10));
    let sink = sink.interrupt();
    let frames = sink.last["frames"].as_u64().unwrap();
    let dropped = sink.last["dropped"]["kernel_drop"].as_u64().unwrap();
    assert!(dropped > 0, "{sink:?}");
    assert_eq!(frames + dropped, 5010, "{sink:?}");
}

#[test]
fn a_schedule_ends_in_time_and_ctrl_c_prints_a_summary() {
    let ended = json(&["blast", "udp:lo", "--pps", "1000", "-d", "0.2"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let frames = ended.last["frames"].as_u64().unwrap();
    assert!((1..=200).contains(&frames), "{ended:?}");
    let mut endless = Running::start(&["blast", "udp:lo", "--gbps", "0.001"]);
    let ended = endless.interrupt();
    assert_eq!((ended.code, &ended.last["interrupted"]), (Some(0), &true.into()), "{ended:?}");
}

#[test]
fn wrong_arguments_get_one_line() {
    for (args, word) in [
        (&["blast", "udp:lo", "-g", "239.1.1.1"][..], "port"),
        (&["blast", "udp:lo", "--top", "--pps", "5"], "--pps"),
        (&["blast", "udp:lo", "--burst", "0"], "--burst"),
        (&["blast", "udp:lo", "--size", "imixx"], "imix"),
        (&["blast", "udp:lo", "-g", "[ff15::1]:5000", "--size", "60"], "80"),
        (&["sink", "udp:lo", "-g", "nonsense"], "nonsense"),
        (&["sink", "udp:lo", "-c", "0"], "--count"),
    ] {
        let out = run(args);
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(word), "{args:?}: {stderr}");
    }
}
