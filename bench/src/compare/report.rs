//! The tables, and their place in the page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::results::{CaseResult, HEADROOM, Results, Row};
use super::stats::COVERAGE;
use super::verdict::{Finding, RESOLUTION, State, Verdict};
use super::{Class, Rule, Target};

const BEGIN: &str = "<!-- compared: begin -->\n";
const END: &str = "<!-- compared: end -->";

/// Everything that was measured, as Markdown.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    text.push_str("### Targets\n\n| case | target | state | ratios |\n|---|---|---|---|\n");
    let mut states = Vec::new();
    for case in &results.cases {
        for target in &case.targets {
            let verdict = case.verdict(target);
            let _ = writeln!(text, "{}", target_line(case, target, verdict.as_ref()));
            states.push(verdict.map(|verdict| verdict.state));
        }
    }
    let of = |wanted| states.iter().filter(|state| **state == wanted).count();
    let _ = writeln!(
        text,
        "\n{} met, {} within noise, {} not met, {} not measured.",
        of(Some(State::Met)),
        of(Some(State::WithinNoise)),
        of(Some(State::NotMet)),
        of(None)
    );
    let _ = writeln!(text, "\n{}", rule());
    let mut facts: &[(String, String)] = &[];
    for case in &results.cases {
        if case.facts != facts {
            facts = &case.facts;
            let lines: Vec<String> =
                facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let _ = writeln!(text, "\nMeasured with {}.", lines.join("; "));
        }
        let _ = writeln!(text, "\n{}", case_table(case));
    }
    text
}

/// How the states come about.
fn rule() -> String {
    format!(
        "**The rule.** A ratio is ours to one rival's of the same round. Of the ratios of all rounds the \
         table has the median, and in brackets the interval from the k-th smallest to the k-th largest in \
         which the true median lies with at least {:.0} % (5 to 7 rounds: all of them; 8 to 10: without \
         the outermost; 3 rounds are sure to 75 % only, and fewer decide nothing), never taken as narrower than {:.0} % to either \
         side, as that is what one program differs by from run to run. **met**: all of the interval \
         reaches the target; **not met**: none of it does; **within noise**: the target lies inside, \
         and another run may come out on either side. \"At or above\" is reached from {:.2} on. Shown is \
         the rival against whom ours does worst; a target holds with every load and against every rival \
         that ran. `bench/run --compare OLD.json` lists what came out differently in another run.",
        COVERAGE * 100.0,
        RESOLUTION * 100.0,
        1.0 - RESOLUTION
    )
}

fn target_line(case: &CaseResult, target: &Target, verdict: Option<&Verdict>) -> String {
    let finding = |finding: &Finding| {
        let Finding { load, interval, rival, .. } = finding;
        let (median, low, high) = (interval.median, interval.low, interval.high);
        let to = if rival.is_empty() { String::new() } else { format!(" to {rival}") };
        format!("{load}: {median:.2} [{low:.2}..{high:.2}]{to}")
    };
    let (state, ratios) = match verdict {
        None => ("could not be measured".to_owned(), String::new()),
        Some(Verdict { state, findings }) => {
            let mark = if *state == State::NotMet { "**" } else { "" };
            let all: Vec<String> = findings.iter().map(finding).collect();
            (format!("{mark}{state}{mark}"), all.join("; "))
        }
    };
    format!("| {} | {}: {} | {state} | {ratios} |", case.name, target.ours, target.text)
}

fn case_table(case: &CaseResult) -> String {
    let mut text = format!("### {}\n\n{}\n\n{}.\n\n|", case.title, case.text.trim(), case.how);
    let _ = write!(text, " {} |", case.name);
    for load in &case.loads {
        for column in &case.columns {
            let _ = write!(text, " {load}: {} |", column.heading);
        }
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(case.loads.len() * case.columns.len()));
    let mut bound = false;
    for row in &case.rows {
        let name = match row.class {
            Class::Ours => format!("**{}**", row.name),
            Class::Bound => format!("*{}*", row.name),
            Class::Twin | Class::Peer => row.name.clone(),
        };
        let _ = write!(text, "| {name} |");
        if let Some(why) = failure(row) {
            let why = plain(why);
            let columns = case.loads.len() * case.columns.len();
            let _ = writeln!(text, " could not run: {why} |{}", " |".repeat(columns - 1));
            continue;
        }
        for load in 0..case.loads.len() {
            let mark = if case.is_generator_bound(row, load) { " †" } else { "" };
            bound |= !mark.is_empty();
            for (at, column) in case.columns.iter().enumerate() {
                let mark = if at == 0 { mark } else { "" };
                match row.spread(load, &column.key) {
                    Some(s) => {
                        let d = column.digits;
                        let _ =
                            write!(text, " {:.d$} [{:.d$}..{:.d$}]{mark} |", s.median, s.q1, s.q3);
                    }
                    None => text.push_str(" – |"),
                }
            }
        }
        text.push('\n');
    }
    if bound {
        let _ = writeln!(
            text,
            "\n† generator-bound: the generator alone reaches less than {HEADROOM} times this."
        );
    }
    for line in gaps(case).into_iter().chain(behind(case)) {
        let _ = writeln!(text, "\n{line}");
    }
    text.trim_end().to_owned()
}

/// Why a row has no number at all.
fn failure(row: &Row) -> Option<&str> {
    if row.values.iter().any(|values| !values.is_empty()) {
        return None;
    }
    Some(row.failures.iter().flatten().next().map_or("it gave nothing", String::as_str))
}

/// Why a row has no number with some of the loads.
fn gaps(case: &CaseResult) -> Vec<String> {
    let mut lines = Vec::new();
    for row in case.rows.iter().filter(|row| failure(row).is_none()) {
        for (load, label) in case.loads.iter().enumerate() {
            let reason = row.failures[load].as_deref().filter(|_| row.values[load].is_empty());
            lines.extend(reason.map(|why| format!("{}, {label}: {}.", row.name, plain(why))));
        }
    }
    lines
}

/// A reason, as a part of a line.
fn plain(why: &str) -> String {
    why.replace('|', "/").replace('\n', " ").trim_end_matches('.').to_owned()
}

/// Says it where a rival is ahead in what a target compares, beyond noise.
fn behind(case: &CaseResult) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for target in &case.targets {
        let Some(verdict) = case.verdict(target) else { continue };
        for Finding { load, interval, rival, .. } in verdict.findings {
            let (ahead, what) = match target.rule {
                Rule::AtLeast(_) => (interval.high < 1.0, "ahead of"),
                Rule::AtMost(_) => (interval.low > 1.0, "cheaper than"),
                Rule::Below(_) => continue,
            };
            let column = case.columns.iter().find(|column| column.key == target.column);
            let column = column.map_or(target.column.as_str(), |column| &column.heading);
            let percent = (1.0 / interval.median - 1.0).abs() * 100.0;
            let ours = &target.ours;
            let line = format!("{load}: {rival} is {what} {ours} by {percent:.0} % ({column}).");
            if ahead && !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

/// Puts the tables between their marks.
///
/// # Errors
///
/// The page has no marks, or cannot be written.
pub fn write(results: &Results, page: &Path) -> Result<(), String> {
    let at = |e: std::io::Error| format!("{}: {e}", page.display());
    let text = fs::read_to_string(page).map_err(at)?;
    let marks = || format!("{} has lost the marks of the comparison", page.display());
    let (head, rest) = text.split_once(BEGIN).ok_or_else(marks)?;
    let (_, tail) = rest.split_once(END).ok_or_else(marks)?;
    fs::write(page, format!("{head}{BEGIN}{}{END}{tail}", markdown(results))).map_err(at)
}
