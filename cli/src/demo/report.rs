//! What the demo shows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use linerate::{Candidate, Verdict};
use serde::Serialize;

use super::Inspector;
use super::feed::of_group;
use super::publish::Published;
use crate::capture::{Counts, Desk, GroupLine, group_table};
use crate::choice;
use crate::failure::Failure;
use crate::format::{bps, bytes, count, per_second, plural, pps, wire_bits};
use crate::histogram;
use crate::json::{Identity, Line, Volume};
use crate::ledger::{Ledger, LedgerFields};
use crate::output::{Output, Paint};

const BAR_COLUMNS: usize = 24;

/// Progress: a bar on a terminal, a JSON line a second.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    identity: &'a Identity,
    begun: Instant,
    length: f64,
    next_bar: Instant,
    next_line: Instant,
}

#[derive(Serialize)]
struct Second {
    dropped: BTreeMap<&'static str, u64>,
}

impl<'a> Live<'a> {
    pub(crate) fn new(identity: &'a Identity, length: f64) -> Self {
        let begun = Instant::now();
        let next_line = begun + Duration::from_secs(1);
        Self { identity, begun, length, next_bar: begun, next_line }
    }

    /// To be called often.
    pub(crate) fn tick(&mut self, desk: &Desk, out: &Output) {
        let now = Instant::now();
        if now >= self.next_bar {
            self.next_bar = now + Duration::from_millis(100);
            desk.ask();
            let (frames, lost) =
                desk.read(|sheet| (sheet.counts.frames, sheet.queue.lost() + sheet.counts.refused));
            let seconds = self.begun.elapsed().as_secs_f64();
            let done = (seconds / self.length).min(1.0);
            let full = (done * BAR_COLUMNS as f64) as usize;
            out.live(&format!(
                "{}{}  {seconds:>4.1} s  {} frames  {}  lost {}",
                "█".repeat(full),
                "░".repeat(BAR_COLUMNS - full),
                count(frames),
                pps(per_second(frames as f64, seconds)),
                count(lost),
            ));
        }
        if now >= self.next_line {
            self.next_line += Duration::from_secs(1);
            let seconds = self.begun.elapsed().as_secs_f64();
            let (volume, second) = desk.read(|sheet| {
                let frames = sheet.counts.frames;
                let pps = per_second(frames as f64, seconds);
                let volume = Volume { seconds, frames, bytes: sheet.counts.bytes, pps };
                (volume, Second { dropped: sheet.queue.losses().filter(|(_, n)| *n > 0).collect() })
            });
            out.json(&Line::running(self.identity, volume, second));
        }
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) choice: &'a [Candidate],
    pub(crate) published: &'a Published,
    pub(crate) counts: &'a Counts,
    pub(crate) ledger: &'a Ledger,
    pub(crate) groups: Vec<GroupLine>,
    pub(crate) inspector: &'a Inspector,
    /// Name and bytes.
    pub(crate) file: Option<(&'a str, u64)>,
    pub(crate) failure: Option<&'a Failure>,
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Chosen => "chosen",
        Verdict::Works => "works",
        Verdict::Failed => "failed",
        Verdict::Spare => "spare",
        _ => "unfit",
    }
}

/// Both lines of all channels together.
#[derive(Debug, Clone, Copy, Serialize)]
struct Arbitration {
    unique: u64,
    duplicates: u64,
    wins_a: u64,
    wins_b: u64,
    withheld_a: u64,
    withheld_b: u64,
    missing: u64,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    p9999: u64,
    max: u64,
}

#[derive(Serialize)]
struct Considered<'a> {
    backend: &'static str,
    verdict: String,
    reason: &'a str,
}

#[derive(Serialize)]
struct Final<'a> {
    choice: Vec<Considered<'a>>,
    #[serde(flatten)]
    ledger: LedgerFields<'a>,
    groups: &'a [GroupLine],
    arbitration: Arbitration,
    latency_ns: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Report<'_> {
    /// In the voice asked for.
    pub(crate) fn print(&self, out: &Output) {
        if !out.is_json() {
            out.text(&self.text(out.paint()));
            return;
        }
        let at = |p: f64| self.inspector.latency.value_at_percentile(p);
        let volume = Volume {
            seconds: self.published.seconds,
            frames: self.counts.frames,
            bytes: self.counts.bytes,
            pps: self.rate(),
        };
        let last = Final {
            choice: self
                .choice
                .iter()
                .map(|c| Considered {
                    backend: c.backend.name(),
                    verdict: c.verdict.to_string(),
                    reason: &c.reason,
                })
                .collect(),
            ledger: self.ledger.fields(),
            groups: &self.groups,
            arbitration: self.arbitration(),
            latency_ns: Latency {
                p50: at(50.0),
                p90: at(90.0),
                p99: at(99.0),
                p999: at(99.9),
                p9999: at(99.99),
                max: self.inspector.latency.max(),
            },
            file: self.file.map(|(name, _)| name),
            error: self.failure.map(ToString::to_string),
        };
        out.json(&Line::last(self.identity, volume, last));
    }

    fn rate(&self) -> f64 {
        per_second(self.counts.frames as f64, self.published.seconds)
    }

    fn arbitration(&self) -> Arbitration {
        let channels = &self.inspector.channels;
        let last = self.published.last_seq;
        let [withheld_a, withheld_b] = self.published.withheld;
        Arbitration {
            unique: channels.iter().map(|c| c.unique).sum(),
            duplicates: channels.iter().map(|c| c.duplicates).sum(),
            wins_a: channels.iter().map(|c| c.wins[0]).sum(),
            wins_b: channels.iter().map(|c| c.wins[1]).sum(),
            withheld_a,
            withheld_b,
            missing: channels.iter().zip(last).map(|(c, last)| c.missing(last)).sum(),
        }
    }

    fn text(&self, paint: Paint) -> String {
        let Counts { frames, bytes: size, .. } = *self.counts;
        let seconds = self.published.seconds;
        let mut parts = vec![
            String::new(),
            paint.bold(&format!(
                "{} of a generated A/B market-data feed in {seconds:.1} s",
                plural(frames, "frame")
            )),
            format!(
                "{} mean, {} frames in the busiest 10 ms, {} on the wire",
                pps(self.rate()),
                count(self.inspector.busiest),
                bps(per_second(wire_bits(frames, size), seconds)),
            ),
            String::new(),
            format!("{}  captured on {}", paint.bold("backend"), paint.good(&self.identity.port)),
            choice::lines(self.choice, word, paint).join("\n"),
            String::new(),
            self.group_table(paint),
            String::new(),
            self.arbitration_text(paint),
            String::new(),
            format!("{}  publisher to handler", paint.bold("latency")),
            histogram::draw(&self.inspector.latency, paint),
            histogram::percentiles(&self.inspector.latency, paint),
            String::new(),
            paint.bold("where every frame went"),
            self.ledger.render(paint),
        ];
        if let Some((name, size)) = self.file {
            parts.push(String::new());
            parts.push(format!("{}  {name} ({})", paint.bold("written"), bytes(size)));
            parts.push(paint.dim(&format!("         read it: tshark -r {name} | head")));
        }
        parts.join("\n")
    }

    fn group_table(&self, paint: Paint) -> String {
        let named = self.groups.iter().enumerate().map(|(i, line)| {
            let (side, channel) = of_group(i);
            let side = if side == 0 { 'A' } else { 'B' };
            GroupLine { group: format!("{side}{}  {}", channel + 1, line.group), ..line.clone() }
        });
        group_table(&named.collect::<Vec<_>>(), paint)
    }

    fn arbitration_text(&self, paint: Paint) -> String {
        let a = self.arbitration();
        let share = |n: u64| 100.0 * n as f64 / (a.unique.max(1)) as f64;
        let missing = format!("  {:>9}  missing on both lines", count(a.missing));
        [
            format!("{}  the first copy to reach the handler wins", paint.bold("A/B arbitration")),
            format!("  {:>9}  messages, and {} duplicates", count(a.unique), count(a.duplicates)),
            format!("  {:>9}  first on line A ({:.1} %)", count(a.wins_a), share(a.wins_a)),
            format!("  {:>9}  first on line B ({:.1} %)", count(a.wins_b), share(a.wins_b)),
            format!(
                "  {:>9}  withheld by the feed on purpose ({} on A, {} on B): the gaps above",
                count(a.withheld_a + a.withheld_b),
                a.withheld_a,
                a.withheld_b
            ),
            if a.missing == 0 { paint.good(&missing) } else { paint.bad(&missing) },
        ]
        .join("\n")
    }
}
