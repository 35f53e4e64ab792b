//! What our own settings buy, for `docs/tuning.md`.

use super::{receive, transmit};
use crate::compare::{Case, Column, Load};

pub(super) fn cases() -> Vec<Case> {
    vec![receiving(), sending()]
}

/// Not part of `--quick`.
fn loads() -> Vec<Load> {
    vec![Load::frames("64 B", 60, false), Load::frames("1400 B", 1396, false)]
}

fn receiving() -> Case {
    let uris = [
        "afxdp:vb?mode=native&stamps=off",
        "afxdp:vb?mode=native",
        "afxdp:vb?mode=native&stamps=off&marks=on",
        "afxdp:vb?mode=native&stamps=off&ring_slots=512",
        "afxdp:vb?mode=native&stamps=off&ring_slots=8192",
        "afxdp:vb?mode=native&stamps=off&need_wakeup=off",
        "afxdp:vb?mode=native&stamps=off&busy_poll=20",
        "afxdp:vb?mode=generic&stamps=off",
        "afpacket:vb",
        "afpacket:vb?ring=frames",
        "afpacket:vb?retire_ms=10",
    ];
    Case {
        name: "knobs-receive",
        title: "Settings for receiving",
        text: "As above, linerate alone: one port's name a row.",
        columns: receive::columns(),
        loads: loads(),
        contenders: uris.map(|uri| receive::ours(uri, "other", uri)).into(),
        targets: Vec::new(),
    }
}

fn sending() -> Case {
    let uris = [
        "afxdp:va",
        "afxdp:va?ring_slots=512",
        "afxdp:va?tx_stamps=on",
        "afpacket:va",
        "afpacket:va?qdisc_bypass=off",
        "udp:va?gso=on",
        "udp:va?gso=off",
    ];
    Case {
        name: "knobs-transmit",
        title: "Settings for sending",
        text: "As above, linerate alone: one port's name a row.",
        columns: vec![Column::new("mpps", "Mpps", 3)],
        loads: loads(),
        contenders: uris.map(|uri| transmit::ours(uri, uri)).into(),
        targets: Vec::new(),
    }
}
