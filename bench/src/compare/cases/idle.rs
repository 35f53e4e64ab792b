//! Looking when there is nothing.

use crate::compare::lab::{MEASURED_CPU, Side, VB, ip_text};
use crate::compare::peers;
use crate::compare::program::{Program, words};
use crate::compare::xdp::Bytes;
use crate::compare::{Case, Class, Column, Contender, Load, Rule, Sample, Target};

const NAMES: [(&str, &str, bool); 4] = [
    ("linerate afxdp", "afxdp:vb?mode=native", false),
    ("linerate afpacket", "afpacket:vb", false),
    ("linerate afpacket, ring=frames", "afpacket:vb?ring=frames", false),
    ("linerate udp", "udp:vb", true),
];

pub(super) fn cases() -> Vec<Case> {
    let contender = |(name, uri, needs_flow): (&'static str, &'static str, bool)| {
        Contender::new(name, Class::Ours, move |ground, _| {
            let mut all = vec![peers::ours("loops")?, "idle".into(), uri.into()];
            if needs_flow {
                all.push(format!("udp:{}:{}", ip_text(VB.ip), super::receive::PORT));
            }
            let program = Program::new(Side::B, MEASURED_CPU, all).says_nothing();
            let said = program.start(ground.lab)?.wait()?;
            let ns = words(&said).get("idle_ns").copied().ok_or(said.clone())?;
            Ok(Sample::from([("ns", ns)]))
        })
    };
    let target = |(name, ..): (&'static str, &str, bool)| {
        Target::new("an idle poll below 5 ns", name, &[], "ns", Rule::Below(5.0))
    };
    vec![Case {
        name: "idle",
        title: "Polling when there is nothing",
        text: "`AnyRx::poll` on a queue to which nothing comes: the best of 10 times 1,000,000 calls \
               (200,000 for sockets), in one process. A socket has to ask the kernel: that is a \
               system call, and no loop around it makes it shorter.",
        columns: vec![Column::new("ns", "ns", 2)],
        loads: vec![Load { label: "idle", bytes: Bytes::Each(60), number: 0, quick: true }],
        contenders: NAMES.map(contender).into(),
        targets: NAMES.map(target).into(),
    }]
}
