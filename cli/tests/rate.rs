//! `rate` over a cable: its numbers add up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Ended, Scratch, json, run};
use linerate_lab::lab_or_skip;

fn assert_sums(ended: &Ended, sizes: &[u64]) {
    let last = &ended.last;
    let what = format!("{ended:?}");
    assert_eq!((ended.code, &last["final"]), (Some(0), &true.into()), "{what}");
    let rows = last["sizes"].as_array().unwrap();
    let listed: Vec<u64> = rows.iter().map(|row| row["size"].as_u64().unwrap()).collect();
    assert_eq!(listed, sizes, "{what}");
    let mut sum = [0; 3];
    for row in rows {
        let cells = ["sent", "received", "lost"].map(|name| row[name].as_u64().unwrap());
        assert_eq!(cells[0], cells[1] + cells[2], "{what}");
        assert!(row["trials"].as_u64() > Some(0), "{what}");
        for (sum, cell) in sum.iter_mut().zip(cells) {
            *sum += cell;
        }
    }
    let totals = ["frames", "received", "lost"].map(|name| last[name].as_u64().unwrap());
    assert_eq!(totals, sum, "{what}");
}

#[test]
fn a_cable_is_searched_and_the_table_sums() {
    let lab = lab_or_skip!();
    let dir = Scratch::new("rate");
    let plot = dir.path("rate.png");
    lab.ip_a(&["link", "add", "r0", "type", "veth", "peer", "r1"]).unwrap();
    for (dev, address) in [("r0", "10.97.0.1/24"), ("r1", "10.97.1.1/24")] {
        lab.ip_a(&["link", "set", dev, "up"]).unwrap();
        lab.ip_a(&["addr", "add", address, "dev", dev]).unwrap();
    }
    let args = ["rate", "afpacket:r0", "afpacket:r1", "-d", "0.1", "--resolution", "30"];
    let args = [&args[..], &["--max-pps", "20000", "--size", "60,1514", "--plot", &plot]].concat();
    let ended = lab.in_a(|| json(&args));
    assert_sums(&ended, &[60, 1514]);
    let picture = std::fs::read(plot).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n") && picture.len() > 10_000);
}

/// With any loss tolerated, full speed passes at once.
#[test]
fn simulated_cards_are_searched() {
    for card in ["exanic", "efvi", "verbs"] {
        let port = format!("sim:{card}?cable=rate");
        let ended = json(&["rate", &port, &port, "-d", "0.05", "--size", "60", "--loss", "100"]);
        assert_sums(&ended, &[60]);
        let row = &ended.last["sizes"][0];
        assert_eq!((&row["trials"], &row["limited_by_sender"]), (&1.into(), &true.into()));
        assert!(row["best_pps"].as_f64() > Some(0.0), "{ended:?}");
    }
}

#[test]
fn wrong_arguments_get_one_line() {
    for (args, word) in [
        (&["rate", "udp:lo"][..], "<TO>"),
        (&["rate", "udp:lo", "udp:lo", "--resolution", "0"], "--resolution"),
        (&["rate", "udp:lo", "udp:lo", "--loss", "101"], "--loss"),
        (&["rate", "udp:lo", "udp:lo", "--cpus", "0,0,0"], "--cpus"),
        (&["rate", "udp:lo", "udp:lo", "--plot", "x"], ".svg or FILE.png"),
    ] {
        let out = run(args);
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(word), "{args:?}: {stderr}");
    }
}
