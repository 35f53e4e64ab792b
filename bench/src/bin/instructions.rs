//! Counts the instructions of every loop over every simulated card, under callgrind.
//!
//! ```text
//! instructions            prints the table
//! instructions --check    compares with bench/instructions.txt; fails when a loop got dearer
//! instructions --write    writes bench/instructions.txt
//! instructions --table    writes the table between the marks in docs/performance.md
//! instructions --count CARD LOOP   counts one loop
//! ```
//!
//! Only this program's words choose what it does; add `--functions CARD LOOP` to see which
//! functions a loop spends its instructions in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use linerate_bench::callgrind::{self, Profile};
use linerate_bench::{CARDS, LOOPS, twins};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");
const BEGIN: &str = "<!-- instructions: begin -->\n";
const END: &str = "<!-- instructions: end -->";

/// How much dearer than the baseline a loop may be: whichever is more.
const TOLERANCE: f64 = 0.02;
const TOLERANCE_INSTRUCTIONS: f64 = 1.0;

/// Bytes of the frames, without check sequence.
const FRAME_BYTES: usize = 60;

/// Instructions of a frame, by card and loop.
type Counts = BTreeMap<(String, String), f64>;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    let dir = scratch()?;
    twins::build(&dir)?;
    if let [option, card, way] = words
        && option == "--functions"
    {
        let (profile, frames) = measure(&dir, card, way)?.ok_or("there is no such case")?;
        for (name, cost) in profile.functions.iter().take(20) {
            println!("{:8.1}  {name}", *cost as f64 / frames as f64);
        }
        return Ok(());
    }
    if let [option, card, way] = words
        && option == "--count"
    {
        let (profile, frames) = measure(&dir, card, way)?.ok_or("there is no such case")?;
        println!("instructions={:.2}", profile.ours as f64 / frames as f64);
        return Ok(());
    }
    let mut counts = Counts::new();
    let mut faults = Vec::new();
    let panics = panicking_functions()?;
    for card in CARDS {
        let mut sums = BTreeMap::new();
        for way in LOOPS {
            let Some((profile, frames)) = measure(&dir, card, way)? else { continue };
            counts.insert((card.into(), way.into()), profile.ours as f64 / frames as f64);
            if profile.allocations > 0 {
                faults.push(format!("{card} {way}: {} allocations", profile.allocations));
            }
            let places: usize =
                profile.functions.iter().filter_map(|(name, _)| panics.get(name)).sum();
            counts.insert((card.into(), format!("{way}-checks")), places as f64);
            sums.insert(way, fs::read_to_string(dir.join("seen")).unwrap_or_default());
        }
        // The loops of a card have seen the same frames, the one in C too.
        let first = sums.get("poll").cloned().unwrap_or_default();
        for way in ["burst", "any", "dyn", "c-receive", "c-receive-same"] {
            if sums.get(way).is_some_and(|sum| *sum != first) {
                faults.push(format!("{card} {way} has not seen what poll has"));
            }
        }
    }
    let table = table(&counts);
    println!("{table}");
    match words.first().map(String::as_str) {
        Some("--write") => {
            fs::write(BASELINE, baseline(&counts)?).map_err(|e| format!("{BASELINE}: {e}"))?
        }
        Some("--table") => write_table(&table)?,
        Some("--check") => faults.extend(compare(&counts)?),
        Some(other) => return Err(format!("{other} is no option")),
        None => {}
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Beside the program itself, in the build's directory.
fn scratch() -> Result<PathBuf, String> {
    let me = env::current_exe().map_err(|e| e.to_string())?;
    let dir = me.parent().unwrap_or(Path::new(".")).join("callgrind-out");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

fn hot() -> Result<PathBuf, String> {
    let path = env::current_exe().map_err(|e| e.to_string())?.with_file_name("hot");
    if path.exists() { Ok(path) } else { Err(format!("{}: not built", path.display())) }
}

/// Runs a case. `None`: the card has no such loop.
fn measure(dir: &Path, card: &str, way: &str) -> Result<Option<(Profile, u64)>, String> {
    let file = dir.join(format!("{card}.{way}.callgrind"));
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--demangle=no", "--dump-line=no"])
        .arg("--toggle-collect=linerate_bench_measured")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(hot()?)
        .args([card, way, &FRAME_BYTES.to_string()])
        // No binding of symbols in the middle of a loop.
        .env("LD_BIND_NOW", "1")
        .output()
        .map_err(|e| format!("valgrind: {e}"))?;
    if out.status.code() == Some(3) {
        // Why a whole card is missing, which is more than a loop that it does not have.
        print!("{}", String::from_utf8_lossy(&out.stdout));
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let frames: u64 = text
        .lines()
        .find_map(|l| l.strip_prefix("frames ")?.parse().ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("{card} {way}: {}", String::from_utf8_lossy(&out.stderr)))?;
    let seen = text.lines().find(|l| l.starts_with("seen ")).unwrap_or_default();
    fs::write(dir.join("seen"), seen).map_err(|e| e.to_string())?;
    let profile = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(Some((callgrind::sum(&profile), frames)))
}

/// How often each of our functions in the measured program can panic over an index, by their
/// linker names.
///
/// A position-independent program calls what panics through its table of addresses, so the calls
/// are found by the slots that hold those addresses.
fn panicking_functions() -> Result<BTreeMap<String, usize>, String> {
    let hot = hot()?;
    let run = |tool: &str, option: &str| -> Result<String, String> {
        let out = Command::new(tool).arg(option).arg(&hot).output();
        let out = out.map_err(|e| format!("{tool}: {e}"))?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let panics = |name: &str| {
        name.contains("panic_bounds_check")
            || name.contains("slice") && name.contains("index") && name.ends_with("_fail")
    };
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let symbols = run("nm", "--no-demangle")?;
    let targets: Vec<u64> = symbols
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, name)| panics(name))
        .filter_map(|(address, _)| hex(address))
        .collect();
    let relocations = run("objdump", "-R")?;
    let slots: Vec<u64> = relocations
        .lines()
        .filter_map(|line| line.split_once(" R_X86_64_RELATIVE "))
        .filter(|(_, to)| {
            let to = to.rsplit('+').next().and_then(|to| hex(to.trim()));
            to.is_some_and(|to| targets.contains(&to))
        })
        .filter_map(|(slot, _)| hex(slot))
        .collect();
    if slots.is_empty() {
        return Err("no function that panics over an index was found: look at the program".into());
    }
    let mut found = BTreeMap::new();
    let mut function = String::new();
    for line in run("objdump", "-d")?.lines() {
        if let Some((_, name)) = line.split_once(" <")
            && let Some(name) = name.strip_suffix(">:")
        {
            name.clone_into(&mut function);
        } else if let Some((_, slot)) = line.split_once("(%rip)        # ")
            && slot.split(' ').next().and_then(hex).is_some_and(|s| slots.contains(&s))
        {
            *found.entry(function.clone()).or_default() += 1;
        }
    }
    Ok(found)
}

fn table(counts: &Counts) -> String {
    let get = |card: &str, way: &str| counts.get(&(card.to_owned(), way.to_owned())).copied();
    // To C, and to C with the same duties where there is such a loop.
    let cell = |value: Option<f64>, base: Option<f64>, same: Option<f64>| {
        let ratio = |base: &f64| value.map(|v| format!("{:.2}", v / base));
        let ratios: Vec<_> = [base, same].iter().flatten().filter_map(ratio).collect();
        match value {
            Some(v) if ratios.is_empty() => format!("{v:.1}"),
            Some(v) => format!("{v:.1} ({})", ratios.join("; ")),
            None => "–".into(),
        }
    };
    let c = |base: Option<f64>, same: Option<f64>| match (base, same) {
        (Some(base), Some(same)) => format!("{base:.1}; {same:.1}"),
        _ => cell(base, None, None),
    };
    let mut text = String::from(
        "| card (simulated) | receive in C | `poll` | `AnyRx` | `burst` | `dyn` | empty `poll` | \
         send in C | `send` | checks: `poll`, `send` |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for card in CARDS {
        let (receive, send) = (get(card, "c-receive"), get(card, "c-send"));
        let receive_same = get(card, "c-receive-same");
        let send_same = get(card, "c-send-same");
        let row = [
            c(receive, receive_same),
            cell(get(card, "poll"), receive, receive_same),
            cell(get(card, "any"), receive, receive_same),
            cell(get(card, "burst"), receive, receive_same),
            cell(get(card, "dyn"), receive, receive_same),
            cell(get(card, "idle"), None, None),
            c(send, send_same),
            cell(get(card, "send"), send, send_same),
            format!(
                "{}, {}",
                get(card, "poll-checks").unwrap_or(0.0),
                get(card, "send-checks").unwrap_or(0.0)
            ),
        ];
        let _ = writeln!(text, "| {card} | {} |", row.join(" | "));
    }
    text
}

fn write_table(table: &str) -> Result<(), String> {
    let page = fs::read_to_string(PAGE).map_err(|e| format!("{PAGE}: {e}"))?;
    let parts = page.split_once(BEGIN).zip(page.split_once(END));
    let Some(((head, _), (_, tail))) = parts else {
        return Err(format!("{PAGE} has no marks for the table"));
    };
    fs::write(PAGE, format!("{head}{BEGIN}{table}{END}{tail}")).map_err(|e| e.to_string())
}

/// What the counts depend on beside our code.
fn compiler() -> Result<String, String> {
    let out = Command::new("rustc").arg("--version").output().map_err(|e| format!("rustc: {e}"))?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn baseline(counts: &Counts) -> Result<String, String> {
    let mut text = format!("compiler {}\n", compiler()?);
    for ((card, way), count) in counts {
        let _ = writeln!(text, "{card} {way} {count:.2}");
    }
    Ok(text)
}

/// Loops that have become dearer than the baseline allows.
fn compare(counts: &Counts) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(BASELINE).map_err(|e| format!("{BASELINE}: {e}"))?;
    let made_by = text.lines().find_map(|l| l.strip_prefix("compiler ")).unwrap_or_default();
    let here = compiler()?;
    if made_by != here {
        println!("SKIPPED instructions: the baseline is of {made_by}, this is {here}");
        return Ok(Vec::new());
    }
    let mut dearer = Vec::new();
    for line in text.lines().skip(1) {
        let mut words = line.split(' ');
        let (Some(card), Some(way), Some(was)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let was: f64 = was.parse().map_err(|e| format!("{BASELINE}: {line}: {e}"))?;
        let allowed = was + (was * TOLERANCE).max(TOLERANCE_INSTRUCTIONS);
        match counts.get(&(card.to_owned(), way.to_owned())) {
            // The C loops depend on another compiler.
            _ if way.starts_with("c-") => {}
            // Said above, with the reason.
            None if !counts.keys().any(|(c, _)| c == card) => {}
            Some(now) if way.ends_with("-checks") => {
                if *now > was {
                    dearer.push(format!("{card} {way}: {now} checks of an index, was {was}"));
                }
            }
            Some(now) if *now > allowed => {
                dearer.push(format!("{card} {way}: {now:.1} instructions a frame, was {was:.1}"));
            }
            Some(_) => {}
            None => dearer.push(format!("{card} {way}: not measured any more")),
        }
    }
    Ok(dearer)
}
