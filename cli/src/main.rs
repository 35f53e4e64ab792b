//! The `linerate` command: multicast capture, replay, and a demo that needs nothing.

#![forbid(unsafe_code)]

mod args;
mod blast;
mod capture;
mod choice;
mod demo;
mod doctor;
mod events;
mod failure;
mod format;
mod forward;
mod groups;
mod histogram;
#[cfg(test)]
mod hostile;
mod interface;
mod json;
mod lane;
mod ledger;
mod link;
mod load;
mod meeting;
mod metrics;
mod output;
mod pacer;
mod ping;
mod plot;
mod pong;
mod ports;
mod privilege;
mod probe;
mod rate;
mod recorder;
mod replay;
mod selftest;
mod sequence;
mod setting;
mod signals;
mod sink;
mod sizes;
mod threads;
mod top;
mod values;
mod writer;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use output::{Level, Output};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return refuse(&e),
    };
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    };
    let mut out = Output::new(cli.json, level);
    let done = match &cli.command {
        Command::Demo(args) => demo::run(args, &out),
        Command::Ports(_) => {
            ports::run(&out);
            Ok(())
        }
        Command::Capture(args) => capture::run(args, &mut out),
        Command::Replay(args) => replay::run(args, &mut out),
        Command::Ping(args) => ping::run(args, &out),
        Command::Pong(args) => pong::run(args, &out),
        Command::Top(args) => top::run(args, &out),
        Command::Doctor(args) => doctor::run(args, &out),
        Command::Selftest(args) => selftest::run(args, &out),
        Command::Blast(args) => blast::run(args, &out),
        Command::Sink(args) => sink::run(args, &out),
        Command::Rate(args) => rate::run(args, &out),
        Command::Forward(args) => forward::run(args, &out),
    };
    out.end_live();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.told {
                out.failure(&failure);
            }
            failure.status.into()
        }
    }
}

/// Help and version go out as clap words them; its errors become one line.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A pager that is closed early is no error.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            let json = std::env::args_os().any(|arg| arg == "--json");
            let failure = args::one_line(error);
            Output::new(json, Level::Normal).failure(&failure);
            failure.status.into()
        }
    }
}
