//! The tables, and their place in the page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::results::{CaseResult, HEADROOM, RESOLUTION, Results, Row};
use super::{Class, Rule, Target};

const BEGIN: &str = "<!-- compared: begin -->\n";
const END: &str = "<!-- compared: end -->";

/// Everything that was measured, as Markdown.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    text.push_str("### Targets\n\n| case | target | state | ratios |\n|---|---|---|---|\n");
    for case in &results.cases {
        for target in &case.targets {
            let _ = writeln!(text, "{}", target_line(case, target));
        }
    }
    let _ = writeln!(
        text,
        "\n\"At or above\" is met from {:.2} on: runs of one program differ by as much. All ratios \
         are ours to the best of the others that ran: the median of the ratios within each round.",
        1.0 - RESOLUTION
    );
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

fn target_line(case: &CaseResult, target: &Target) -> String {
    let (state, ratios) = match case.verdict(target) {
        None => ("could not be measured".to_owned(), String::new()),
        Some(verdict) => {
            let parts: Vec<String> = verdict
                .ratios
                .iter()
                .map(|(load, ratio, name)| match target.rule {
                    Rule::Below(_) => format!("{load}: {ratio:.2}"),
                    _ => format!("{load}: {ratio:.2} to {name}"),
                })
                .collect();
            let state = if verdict.met { "met" } else { "**not met**" };
            (state.to_owned(), parts.join("; "))
        }
    };
    format!("| {} | {} | {state} | {ratios} |", case.name, target.text)
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
            let why = why.replace('|', "/").replace('\n', " ");
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
    for line in behind(case) {
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

/// Says it where a peer is ahead in what a target compares.
fn behind(case: &CaseResult) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for target in &case.targets {
        let Some(verdict) = case.verdict(target) else { continue };
        for (load, ratio, name) in verdict.ratios {
            let (ahead, what) = match target.rule {
                Rule::AtLeast(_) => (ratio < 1.0 - RESOLUTION, "ahead"),
                Rule::AtMost(_) => (ratio > 1.0 + RESOLUTION, "cheaper"),
                Rule::Below(_) => continue,
            };
            let column = case.columns.iter().find(|column| column.key == target.column);
            let column = column.map_or(target.column.as_str(), |column| &column.heading);
            let percent = (1.0 / ratio - 1.0).abs() * 100.0;
            let line = format!(
                "{load}: {name} is {what} of {} by {percent:.0} % ({column}).",
                target.ours
            );
            let line = line.replace("cheaper of", "cheaper than");
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
