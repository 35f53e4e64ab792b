//! `linerate doctor`: what stands between this machine and zero loss.
//!
//! Reads, and changes nothing. Each check gives one finding; what cannot be seen is "unknown".

mod args;
mod card;
mod cpu;
mod finding;
mod jitter;
mod kernel;
mod machine;
mod phc;
mod vendor;
mod watch;

use std::fmt::Write as _;

use linerate::PortInfo;
use serde::Serialize;

use crate::failure::Failure;
use crate::link;
use crate::output::Output;

pub(crate) use args::DoctorArgs;
use finding::{Finding, Verdict};
use machine::Machine;

/// Runs the command.
pub(crate) fn run(args: &DoctorArgs, out: &Output) -> Result<(), Failure> {
    let ports = ports(args)?;
    if let Some(seconds) = args.watch {
        return watch::run(&ports, seconds, &args.metrics, out);
    }
    let findings = findings(args, &ports);
    let worst = findings.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Ok);
    if args.fix_script {
        out.text(script(&findings).trim_end());
    } else {
        report(&findings, out);
    }
    match worst {
        Verdict::Ok | Verdict::Unknown => Ok(()),
        Verdict::Warn => Err(Failure::new("warnings").told(true)),
        Verdict::Fail => Err(Failure::usage("failures").told(true)),
    }
}

/// The interfaces to look at: the port's, or all cards that are up.
fn ports(args: &DoctorArgs) -> Result<Vec<PortInfo>, Failure> {
    let all = linerate::ports();
    let Some(uri) = &args.port else {
        return Ok(all.into_iter().filter(|p| p.interface.up && !p.interface.loopback).collect());
    };
    let Some(interface) = link::behind(uri) else {
        return Err(Failure::usage(format!("{uri}: no interface behind it"))
            .remedy("list them: linerate ports"));
    };
    Ok(all.into_iter().filter(|p| p.interface.index == interface.index).collect())
}

fn findings(args: &DoctorArgs, ports: &[PortInfo]) -> Vec<Finding> {
    let machine = Machine::here();
    let mut all = kernel::look(&machine, args.profile);
    all.extend(card::clock(&machine));
    all.extend(vendor::look(&machine));
    for port in ports {
        all.extend(card::look(&machine, port, args.profile));
    }
    let cards: Vec<_> = ports.iter().map(|port| port.interface.clone()).collect();
    let chosen = args.cpus.as_ref().map_or(&[][..], |cpus| &cpus.0);
    for cpu in chosen {
        let of_cpu = cpu::look(&machine, *cpu, chosen, args.profile, &cards);
        let usable = of_cpu.len() > 1;
        all.extend(of_cpu);
        if usable && args.jitter > 0.0 {
            all.push(jitter::probe(*cpu, args.jitter, args.profile));
        }
    }
    all
}

#[derive(Serialize)]
struct Tally {
    r#final: bool,
    ok: usize,
    unknown: usize,
    warn: usize,
    fail: usize,
}

fn report(findings: &[Finding], out: &Output) {
    for finding in findings {
        out.json(finding);
        out.text(&finding.render(out.is_verbose(), out.paint()));
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let tally = Tally {
        r#final: true,
        ok: count(Verdict::Ok),
        unknown: count(Verdict::Unknown),
        warn: count(Verdict::Warn),
        fail: count(Verdict::Fail),
    };
    out.json(&tally);
    let Tally { ok, unknown, warn, fail, .. } = tally;
    out.text(&format!("\n{ok} ok, {unknown} unknown, {warn} warnings, {fail} failures"));
}

/// Every remedy, to be read before it is run.
fn script(findings: &[Finding]) -> String {
    let mut text = String::from(
        "#!/bin/sh\n# Remedies of `linerate doctor`. Read before running: each line changes this machine.\nset -x\n",
    );
    let mut done: Vec<&str> = Vec::new();
    for finding in findings {
        let Some(command) = finding.command() else { continue };
        if !done.contains(&command) {
            let _ = writeln!(text, "\n# {}\n{command}", finding.title());
            done.push(command);
        }
    }
    text
}
