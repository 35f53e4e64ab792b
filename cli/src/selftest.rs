//! `linerate selftest`: does this card keep the rules?
//!
//! The backend's own checks and the rules of the traits run against the real thing: from the peer
//! to the port and back, or, with one port, as far as one port goes. What is sent belongs to an
//! experimental ethertype or one test group, is said before, and goes nowhere else.

mod bench;
mod checks;
mod facts;
mod report;

use std::fs::File;
use std::path::PathBuf;

use linerate::conformance::rules;
use linerate::{Backend, Direction, FlowKind, FlowSpec, OpenError, Port};

use crate::args::SelftestArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::signals::Interrupt;

use bench::{Bench, ETHERTYPE, End, GROUP, PORT};
use checks::CHECKS;
use report::{Report, Row};

/// Runs the command.
pub(crate) fn run(args: &SelftestArgs, out: &Output) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let (port, by_group) = open(&args.port, args.peer.as_deref())?;
    let path = args.write.clone().unwrap_or_else(|| default_path(&args.port));
    // Before the test, which takes a while: a disk that is full shows now.
    File::create(&path).map_err(|e| report::cannot_write(&path, &e))?;

    let end = End::of(&port);
    let facts = facts::gather(&port, end.interface.as_ref());
    let backend = port.backend().name();
    for notice in port.notices() {
        out.notice(notice);
    }
    drop(port);
    let peer = match &args.peer {
        Some(peer) => Some(End::of(&open_one(peer, by_group)?)),
        None => None,
    };
    let mut report = Report {
        r#final: true,
        port: end.uri.clone(),
        peer: peer.as_ref().map(|end| end.uri.clone()),
        backend,
        facts,
        rows: Vec::new(),
        not_tried: Vec::new(),
        interrupted: false,
    };
    let mut test = Test { out, interrupt, report: &mut report };
    match peer {
        Some(peer) => {
            test.announce(&Bench::new(peer.clone(), end.clone(), by_group), &[&peer, &end]);
            let to_port = Bench::new(peer.clone(), end.clone(), by_group);
            test.wire("the port receives", to_port);
            test.wire("the port sends", Bench::new(end, peer, by_group));
        }
        None => {
            let bench = Bench::new(end.clone(), end.clone(), by_group);
            test.announce(&bench, &[&end]);
            test.wire("the port alone", bench);
        }
    }
    report.write(&path)?;
    out.json(&report);
    out.text(&format!("\n{}", report.summary(out.paint())));
    out.text(&format!("the report to send back: {}", path.display()));
    if report.passed() {
        return Ok(());
    }
    let (_, failed, _) = report.tally();
    let why = if report.interrupted { "interrupted".into() } else { format!("{failed} failed") };
    Err(Failure::new(format!("selftest of {}: {why}", report.port)).told(out.is_json()))
}

/// A run and where its words go.
struct Test<'a> {
    out: &'a Output,
    interrupt: Interrupt,
    report: &'a mut Report,
}

impl Test<'_> {
    fn announce(&self, bench: &Bench, ends: &[&End]) {
        let from: Vec<&str> = ends.iter().map(|end| end.uri.as_str()).collect();
        let what = format!("sending {} from {}", bench.frames.describe(), from.join(" and "));
        self.out.notice(&format!("{what}, and nothing else"));
    }

    fn add(&mut self, row: Row) {
        self.out.text(&row.render(self.out.paint()));
        self.report.rows.push(row);
    }

    fn interrupted(&mut self) -> bool {
        self.report.interrupted |= self.interrupt.asked() || self.out.closed();
        self.report.interrupted
    }

    /// One direction of a wire: the checks, and then the rules.
    fn wire(&mut self, part: &'static str, mut bench: Bench) {
        let title = format!("\n{part}: {} to {}", bench.sender.uri, bench.receiver.uri);
        self.out.text(&self.out.paint().bold(&title));
        for check in CHECKS.iter().filter(|check| !check.needs_wire) {
            if self.interrupted() {
                return;
            }
            self.add(check.run(part, &mut bench));
        }
        if self.interrupted() || !self.is_connected(part, &mut bench) {
            return;
        }
        for check in CHECKS.iter().filter(|check| check.needs_wire) {
            if self.interrupted() {
                return;
            }
            self.add(check.run(part, &mut bench));
        }
        for rule in rules::<Bench>() {
            if self.interrupted() {
                return;
            }
            let outcome = rule.run(&mut bench);
            bench.close();
            self.add(Row::new(part, rule.name, rule.says, outcome));
        }
    }

    /// Do frames arrive at all? Without it nothing else makes sense.
    fn is_connected(&mut self, part: &'static str, bench: &mut Bench) -> bool {
        use linerate::conformance::Outcome;
        const NAME: &str = "frames_arrive";
        const SAYS: &str = "a frame sent at one end arrives at the other";
        let row = |outcome| Row::new(part, NAME, SAYS, outcome);
        match checks::arrives(bench) {
            Ok(true) => self.add(row(Outcome::Pass)),
            Ok(false) if bench.single => {
                self.add(row(Outcome::NotSupported("the port does not hear itself".into())));
                let on_wire = CHECKS.iter().filter(|check| check.needs_wire).count();
                let rest = rules::<Bench>().len() + on_wire;
                self.report.not_tried.push(format!(
                    "{rest} rules about frames that arrive; connect a second port and name it \
                     with --peer, or put in a loopback cable"
                ));
                return false;
            }
            Ok(false) => {
                let (from, to) = (&bench.sender.uri, &bench.receiver.uri);
                let what =
                    format!("nothing that {from} sends arrives at {to}; are they connected?");
                self.add(row(Outcome::Fail(what)));
                return false;
            }
            Err(e) => {
                self.add(row(Outcome::Fail(e)));
                return false;
            }
        }
        true
    }
}

/// Opens the port for the test's frames: of an ethertype where it can select one, and where the
/// peer can, otherwise of a multicast group.
fn open(port: &str, peer: Option<&str>) -> Result<(Port, bool), Failure> {
    let knows_udp_only = |uri: &str| uri.starts_with("udp:");
    let by_group = knows_udp_only(port) || peer.is_some_and(knows_udp_only);
    if !by_group {
        let at_peer = peer.map(|peer| open_one(peer, false));
        if let (Ok(port), None | Some(Ok(_))) = (open_one(port, false), at_peer) {
            return Ok((port, false));
        }
    }
    Ok((open_one(port, true)?, true))
}

fn open_one(uri: &str, by_group: bool) -> Result<Port, Failure> {
    let flow = if by_group {
        FlowSpec::group(GROUP.into(), PORT)
    } else {
        FlowSpec::of(FlowKind::EtherType(ETHERTYPE))
    };
    let port = linerate::port(uri).flow(flow).direction(Direction::Both).open();
    let port = port.map_err(|e: OpenError| Failure::new(e))?;
    if port.backend() == Backend::Pcap {
        return Err(Failure::usage(format!("{uri} is a file")).remedy("test a card's port"));
    }
    if port.rx.len() > 1 {
        let queues = port.rx.len();
        return Err(Failure::usage(format!("{} has {queues} queues", port.uri()))
            .remedy("test one at a time, as afxdp:eth2?queue=0"));
    }
    Ok(port)
}

/// `afpacket:eth2?ring_mb=4` as `linerate-selftest-afpacket-eth2.txt`.
fn default_path(port: &str) -> PathBuf {
    let name = port.split('?').next().unwrap_or(port);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    PathBuf::from(format!("linerate-selftest-{name}.txt"))
}
