//! Ours and other programs, in one run: started by `bench/run`, as root.
//!
//! ```text
//! compare [--quick] [--only NAME,..] [--rounds N] [--minutes N] [--list] [--no-write]
//! compare --compare OLD.json [NEW.json]
//! compare --page
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use linerate_bench::compare::lab::Lab;
use linerate_bench::compare::results::Results;
use linerate_bench::compare::run::{Plan, run};
use linerate_bench::compare::{Case, cases, interrupt, machine, peers, report, verdict};

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results.json");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");

const USAGE: &str =
    "compare [--quick] [--only NAME,..] [--rounds N] [--minutes N] [--list] [--no-write]";

struct Options {
    quick: bool,
    only: Vec<String>,
    rounds: Option<usize>,
    minutes: Option<u64>,
    list: bool,
    /// Only installs what is compared with.
    install: bool,
    write: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--compare", old] => differences(old, RESULTS),
        ["--compare", old, new] => differences(old, new),
        ["--page"] => {
            Results::read(Path::new(RESULTS)).and_then(|all| report::write(&all, Path::new(PAGE)))
        }
        _ => options(words).and_then(|options| compare(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench/run: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Lists the targets that came out differently in two runs.
fn differences(old: &str, new: &str) -> Result<(), String> {
    let read = |path: &str| match Path::new(path).exists() {
        true => Results::read(Path::new(path)),
        false => Err(format!("there is no {path}")),
    };
    let (targets, found) = verdict::differences(&read(old)?, &read(new)?);
    for difference in &found {
        println!("{difference}");
    }
    let contradictions = found.iter().filter(|difference| difference.is_contradiction()).count();
    println!("{targets} targets in both, {} differ, {contradictions} contradict", found.len());
    if contradictions == 0 { Ok(()) } else { Err("met in one run, not met in the other".into()) }
}

fn options(words: Vec<String>) -> Result<Options, String> {
    let mut options = Options {
        quick: false,
        only: Vec::new(),
        rounds: None,
        minutes: None,
        list: false,
        install: false,
        write: true,
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => options.quick = true,
            "--list" => options.list = true,
            "--install" => options.install = true,
            "--no-write" => options.write = false,
            "--only" => {
                let names = words.next().ok_or("--only NAME,..")?;
                options.only.extend(names.split(',').map(String::from));
            }
            "--rounds" => {
                let rounds = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                options.rounds = Some(rounds.ok_or("--rounds N")?);
            }
            "--minutes" => {
                let minutes = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                options.minutes = Some(minutes.ok_or("--minutes N")?);
            }
            _ => return Err(format!("{word}: {USAGE}")),
        }
    }
    Ok(options)
}

fn compare(options: &Options) -> Result<(), String> {
    let all = cases::all();
    let order: Vec<&str> = all.iter().map(|case| case.name).collect();
    let wanted = |case: &Case| {
        options.only.is_empty() || options.only.iter().any(|name| case.name.starts_with(name))
    };
    let chosen: Vec<Case> = all.into_iter().filter(wanted).collect();
    if options.list {
        for case in &chosen {
            println!("{:24} {}", case.name, case.title);
        }
        return Ok(());
    }
    if chosen.is_empty() {
        return Err(format!("no such case; there are {}", order.join(", ")));
    }
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("needs two CPUs".into());
    }
    interrupt::install().map_err(|e| e.to_string())?;
    let mut notices = Vec::new();
    peers::install(&mut notices);
    if options.install {
        return if notices.is_empty() { Ok(()) } else { Err(notices.join("; ")) };
    }
    let mut plan = Plan::new(options.quick);
    if let Some(rounds) = options.rounds {
        plan.rounds = rounds;
        plan.other_rounds = rounds;
        plan.budget = Duration::from_secs(24 * 3600);
    }
    if let Some(minutes) = options.minutes {
        plan.budget = Duration::from_secs(minutes * 60);
    }

    let lab = Lab::new()?;
    notices.extend(lab.notices.iter().cloned());
    let mut facts = machine::facts();
    facts.push(("others".into(), peers::versions()));
    facts.extend(notices.into_iter().map(|notice| ("note".into(), notice)));
    let outcome = run(&lab, chosen, &plan, &facts);
    drop(lab);
    let measured = Results { cases: outcome? };
    println!("{}", report::markdown(&measured));
    if options.write {
        let mut results = Results::read(Path::new(RESULTS))?;
        for case in measured.cases {
            results.put(case, &order);
        }
        results.write(Path::new(RESULTS))?;
        report::write(&results, Path::new(PAGE))?;
    }
    Ok(())
}
