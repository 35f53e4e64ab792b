//! What a sink says while it runs and when it has ended.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use linerate::{FlowSpec, RxStats};
use serde::Serialize;

use super::Sheet;
use crate::failure::Failure;
use crate::format::{bps, bytes, count, per_second, plural, pps, wire_bits};
use crate::groups;
use crate::histogram::{Spread, spread_header, spread_row};
use crate::json::{Identity, Line, Volume};
use crate::load::{Tally, Totals};
use crate::output::{Output, Paint};
use crate::setting::Setting;

/// Rows of the table; the others are summed up.
const ROWS: usize = 40;

/// Progress, once a second.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    identity: &'a Identity,
    begun: Instant,
    next: Instant,
    last: (Instant, Totals),
}

#[derive(Serialize)]
struct Second {
    bps: f64,
    missing: u64,
    reordered: u64,
    duplicates: u64,
    damaged: u64,
}

impl<'a> Live<'a> {
    /// The first JSON line comes at once: it says that frames are being received from here on.
    pub(crate) fn new(identity: &'a Identity, out: &Output) -> Self {
        let begun = Instant::now();
        let next = if out.is_json() { begun } else { begun + Duration::from_secs(1) };
        Self { identity, begun, next, last: (begun, Totals::default()) }
    }

    /// To be called often. `true`: a second is over.
    pub(crate) fn tick(&mut self, sheet: &Mutex<Sheet>, out: &Output) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next += Duration::from_secs(1);
        let (totals, damaged) = super::read(sheet);
        let (then, before) = std::mem::replace(&mut self.last, (now, totals));
        let span = (now - then).as_secs_f64();
        let frames = totals.frames - before.frames;
        let rate = per_second(frames as f64, span);
        let bit_rate = per_second(wire_bits(frames, totals.bytes - before.bytes), span);
        let seconds = self.begun.elapsed().as_secs_f64();
        let volume = Volume { seconds, frames: totals.frames, bytes: totals.bytes, pps: rate };
        let Totals { missing, reordered, duplicates, .. } = totals;
        let second = Second { bps: bit_rate, missing, reordered, duplicates, damaged };
        out.json(&Line::running(self.identity, volume, second));
        out.live(&format!(
            "{seconds:>4.0} s  {} frames  {}  {}  missing {}  late {}",
            count(totals.frames),
            pps(rate),
            bps(bit_rate),
            count(missing),
            count(reordered)
        ));
        true
    }
}

/// How it ended.
pub(crate) struct Summary<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) setting: &'a Setting,
    pub(crate) flows: &'a [FlowSpec],
    pub(crate) seconds: f64,
    pub(crate) tally: &'a Tally,
    pub(crate) queue: &'a RxStats,
    pub(crate) failure: Option<&'a Failure>,
}

#[derive(Serialize)]
struct Group {
    group: String,
    frames: u64,
    bytes: u64,
    missing: u64,
    gaps: u64,
    reordered: u64,
    duplicates: u64,
}

#[derive(Serialize)]
struct Final<'a> {
    setting: &'a Setting,
    missing: u64,
    gaps: u64,
    reordered: u64,
    duplicates: u64,
    damaged: u64,
    foreign: u64,
    /// What the queue knows of the missing.
    dropped: BTreeMap<&'static str, u64>,
    /// From when a frame was due to when it was handled.
    handled_ns: Option<Spread>,
    /// From when a frame was due to the port's own stamp.
    stamped_ns: Option<Spread>,
    /// Frames that came before they were due by the sender's clock.
    early: u64,
    groups: Vec<Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Summary<'_> {
    /// In the voice asked for.
    pub(crate) fn print(&self, out: &Output) {
        let totals = self.tally.totals();
        let groups: Vec<Group> = self.flows.iter().zip(self.tally.groups()).map(group).collect();
        let last = Final {
            setting: self.setting,
            missing: totals.missing,
            gaps: totals.gaps,
            reordered: totals.reordered,
            duplicates: totals.duplicates,
            damaged: self.tally.damaged,
            foreign: self.tally.foreign,
            dropped: self.queue.losses().filter(|(_, n)| *n > 0).collect(),
            handled_ns: Spread::of(&self.tally.handled),
            stamped_ns: Spread::of(&self.tally.stamped),
            early: self.tally.early,
            groups,
            error: self.failure.map(ToString::to_string),
        };
        let rate = per_second(totals.frames as f64, self.seconds);
        let Totals { frames, bytes, .. } = totals;
        if out.is_json() {
            let volume = Volume { seconds: self.seconds, frames, bytes, pps: rate };
            out.json(&Line::last(self.identity, volume, last));
        } else {
            out.text(&self.text(&totals, &last, out.paint()));
        }
    }

    fn text(&self, totals: &Totals, last: &Final<'_>, paint: Paint) -> String {
        let mut lines = vec![format!(
            "{} in {:.1} s, {} of {}",
            plural(totals.frames, "frame"),
            self.seconds,
            bytes(totals.bytes),
            plural(self.flows.len() as u64, "group")
        )];
        lines.push(table(&last.groups, paint));
        let spreads = [("taken", &last.handled_ns), ("stamp", &last.stamped_ns)];
        if spreads.iter().any(|(_, spread)| spread.is_some()) {
            lines.push(String::new());
            lines.push(paint.bold(&spread_header("late", "µs")));
            for (name, spread) in spreads {
                if let Some(spread) = spread {
                    lines.push(spread_row("", name, spread, 1.0));
                }
            }
            lines.push(paint.dim(
                "  from due to taken, and to the port's stamp: true if both ends share a clock",
            ));
        }
        let mut note = |n: u64, text: &str| {
            if n > 0 {
                lines.push(paint.bad(&format!("  {:>13}  {text}", count(n))));
            }
        };
        note(last.early, "came before they were sent: the clocks differ");
        note(last.damaged, "damaged: not as they were sent");
        for (name, n) in &last.dropped {
            note(*n, &format!("lost by this queue: {name}"));
        }
        if last.foreign > 0 {
            lines.push(format!("  {:>13}  other frames, left alone", count(last.foreign)));
        }
        lines.join("\n")
    }
}

fn group((flow, totals): (&FlowSpec, Totals)) -> Group {
    let Totals { frames, bytes, missing, gaps, reordered, duplicates } = totals;
    Group { group: groups::name(flow), frames, bytes, missing, gaps, reordered, duplicates }
}

/// Groups as a table of at most 80 columns, with their sum.
fn table(groups: &[Group], paint: Paint) -> String {
    let row = |name: &str, cells: [String; 5]| {
        let [frames, size, missing, late, twice] = cells;
        format!("  {name:<28} {frames:>13} {size:>9} {missing:>9} {late:>6} {twice:>6}")
    };
    let head = ["frames", "size", "missing", "late", "twice"].map(str::to_owned);
    let mut text = vec![paint.bold(&row("group", head))];
    let cells = |of: &[Group]| {
        let sum = |field: fn(&Group) -> u64| of.iter().map(field).sum::<u64>();
        [
            count(sum(|g| g.frames)),
            bytes(sum(|g| g.bytes)),
            count(sum(|g| g.missing)),
            count(sum(|g| g.reordered)),
            count(sum(|g| g.duplicates)),
        ]
    };
    for one in groups.iter().take(ROWS) {
        let line = row(&one.group, cells(std::slice::from_ref(one)));
        text.push(if one.missing > 0 { paint.bad(&line) } else { line });
    }
    if let Some(rest) = groups.get(ROWS..).filter(|rest| !rest.is_empty()) {
        text.push(row(&format!("({} more; all with --json)", rest.len()), cells(rest)));
    }
    if groups.len() > 1 {
        text.push(paint.bold(&row("all", cells(groups))));
    }
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_and_sums() {
        let one = |n: u64| Group {
            group: format!("239.255.255.255:{n}"),
            frames: 1_000_000_000 + n,
            bytes: 1 << 40,
            missing: n,
            gaps: 1,
            reordered: 2,
            duplicates: 0,
        };
        let groups: Vec<Group> = (0..60).map(one).collect();
        let text = table(&groups, Paint::PLAIN);
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        assert_eq!(text.lines().count(), ROWS + 3);
        let all = text.lines().last().unwrap();
        assert!(all.contains("60,000,001,770") && all.contains("1,770"), "{all}");
    }
}
