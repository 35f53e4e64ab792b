//! From one pair of interfaces into another.

use std::collections::BTreeMap;
use std::time::Duration;

use super::receive::generate;
use crate::compare::lab::{MEASURED_CPU, Side, VB, VC, VD};
use crate::compare::peers;
use crate::compare::program::{Program, pause};
use crate::compare::xdp::Counter;
use crate::compare::{
    Case, Class, Column, Contender, Ground, Load, Rule, Sample, Target, frame_loads,
};

const TEXT: &str = "The generator on CPU 0 offers frames at `vb`, the forwarder on CPU 1 sends them out \
at `vc`, and an XDP program behind the other end of that pair counts and drops them, on the \
forwarder's CPU. `lost` is the share of offered frames that the forwarder could not take.";

pub(super) fn cases() -> Vec<Case> {
    vec![forward()]
}

fn counted(
    name: &'static str,
    class: Class,
    run: impl Fn(&Ground<'_>, &Load) -> Result<BTreeMap<String, f64>, String> + 'static,
) -> Contender {
    Contender::new(name, class, move |ground, load| {
        let counter = ground.lab.inside(Side::C, || Counter::attach(VD.interface))?;
        let sent = run(ground, load)?;
        let got = counter.read().map_err(|e| e.to_string())?.0 as f64;
        if got == 0.0 {
            return Err("no frame was passed on".into());
        }
        Ok(Sample::from([
            ("mpps", got / sent["seconds"] / 1e6),
            ("lost", (1.0 - got / sent["frames"]).max(0.0) * 100.0),
        ]))
    })
}

fn program(
    name: &'static str,
    class: Class,
    words: impl Fn() -> Result<Vec<String>, String> + 'static,
) -> Contender {
    counted(name, class, move |ground, load| {
        let forwarder = Program::new(Side::B, MEASURED_CPU, words()?).start(ground.lab)?;
        let sent = generate(ground, load, "other")?;
        pause(Duration::from_millis(30))?;
        forwarder.stop()?;
        Ok(sent)
    })
}

fn ours(name: &'static str, uris: [&'static str; 2]) -> Contender {
    program(name, Class::Ours, move || {
        Ok(vec![peers::ours("loops")?, "forward".into(), uris[0].into(), uris[1].into()])
    })
}

fn twin(name: &'static str, twin: &'static str) -> Contender {
    program(name, Class::Twin, move || {
        let [from, to] = [VB.interface, VC.interface];
        Ok(vec![peers::twin(twin)?, "forward".into(), from.into(), to.into()])
    })
}

fn testpmd(name: &'static str, devices: [&'static str; 2]) -> Contender {
    counted(name, Class::Peer, move |ground, load| {
        let mut forwarder = super::testpmd(&devices, "io")?.start(ground.lab)?;
        forwarder.tell("start")?;
        pause(Duration::from_millis(100))?;
        let sent = generate(ground, load, "other")?;
        pause(Duration::from_millis(30))?;
        forwarder.stop()?;
        Ok(sent)
    })
}

fn forward() -> Case {
    const TEXT_OF: &str = "rate at or above the best peer's";
    Case {
        name: "forward",
        title: "Forwarding between two pairs",
        text: TEXT,
        columns: vec![Column::new("mpps", "Mpps", 3), Column::new("lost", "lost %", 0)],
        loads: frame_loads(),
        contenders: vec![
            ours("linerate afxdp", ["afxdp:vb?mode=native&stamps=off", "afxdp:vc"]),
            twin("C loop, AF_XDP", "afxdp"),
            testpmd("testpmd net_af_xdp", ["net_af_xdp0,iface=vb", "net_af_xdp1,iface=vc"]),
            ours("linerate afpacket", ["afpacket:vb", "afpacket:vc"]),
            twin("C loop, recvmmsg and sendmmsg", "afpacket"),
            testpmd("testpmd net_af_packet", [super::AF_PACKET_VB, super::AF_PACKET_VC]),
        ],
        targets: vec![
            Target::new(
                TEXT_OF,
                "linerate afxdp",
                &["C loop, AF_XDP", "testpmd net_af_xdp"],
                "mpps",
                Rule::AtLeast(1.0),
            ),
            Target::new(
                TEXT_OF,
                "linerate afpacket",
                &["C loop, recvmmsg and sendmmsg", "testpmd net_af_packet"],
                "mpps",
                Rule::AtLeast(1.0),
            ),
        ],
    }
}
