//! Progress, once a second.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::receive::Desk;
use super::table::GroupLine;
use crate::format::{bps, count, per_second, pps, wire_bits};
use crate::groups::GroupCount;
use crate::json::{Identity, Line, Volume};
use crate::metrics::{self, Exporter};
use crate::output::Output;
use crate::writer::Progress;

/// Shows how far a capture is.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    identity: &'a Identity,
    exporter: Option<Exporter>,
    begun: Instant,
    next: Instant,
    asked: bool,
    last: (Instant, u64, u64),
}

const SECOND: Duration = Duration::from_secs(1);
/// The receive loop is asked this long before the numbers are shown.
const NOTICE: Duration = Duration::from_millis(120);

impl<'a> Live<'a> {
    /// The first JSON line comes at once: it says that frames are being received from here on.
    pub(crate) fn new(identity: &'a Identity, exporter: Option<Exporter>, out: &Output) -> Self {
        let begun = Instant::now();
        let next = if out.is_json() { begun } else { begun + SECOND };
        Self { identity, exporter, begun, next, asked: false, last: (begun, 0, 0) }
    }

    /// To be called often.
    pub(crate) fn tick(
        &mut self,
        desk: &Desk,
        writer: Option<&Progress>,
        groups: &dyn Fn(&[GroupCount]) -> Vec<GroupLine>,
        out: &Output,
    ) {
        let now = Instant::now();
        if !out.is_json() && !out.shows_live() && self.exporter.is_none() {
            // Nobody looks, and the queues are asked all the same: one that is polled and never
            // asked does not learn that it is not whole any more.
            if now >= self.next {
                desk.ask();
                self.next = now + SECOND;
            }
            return;
        }
        if !self.asked && now + NOTICE >= self.next {
            desk.ask();
            self.asked = true;
        }
        if now < self.next {
            return;
        }
        self.next += SECOND;
        self.asked = false;
        let (counts, queue, lines) = desk.read(|sheet| {
            let wanted = out.is_json() || self.exporter.is_some();
            let lines = if wanted { groups(&sheet.groups) } else { Vec::new() };
            if let Some(exporter) = &self.exporter {
                exporter.put(&[metrics::Sheet {
                    rx: &sheet.queues,
                    dropped: &[("writer_queue_full", sheet.counts.refused)],
                    groups: &lines,
                    ..metrics::Sheet::default()
                }]);
            }
            (sheet.counts, sheet.queue, lines)
        });
        let (then, frames, size) =
            std::mem::replace(&mut self.last, (now, counts.frames, counts.bytes));
        let span = (now - then).as_secs_f64();
        let frame_rate = per_second((counts.frames - frames) as f64, span);
        let bit_rate = per_second(wire_bits(counts.frames - frames, counts.bytes - size), span);
        let written = writer.map(|progress| progress.frames.load(Ordering::Relaxed));
        let lost = queue.lost() + counts.refused;
        if out.is_json() {
            let mut dropped: BTreeMap<_, _> = queue.losses().filter(|(_, n)| *n > 0).collect();
            if counts.refused > 0 {
                dropped.insert("writer_queue_full", counts.refused);
            }
            let volume = Volume {
                seconds: self.begun.elapsed().as_secs_f64(),
                frames: counts.frames,
                bytes: counts.bytes,
                pps: frame_rate,
            };
            let second = Second { bps: bit_rate, written, dropped, groups: lines };
            out.json(&Line::running(self.identity, volume, second));
        } else {
            let written = written.map_or(String::new(), |n| format!("  written {}", count(n)));
            out.live(&format!(
                "{:>4} s  {} frames  {}  {}{written}  lost {}",
                self.begun.elapsed().as_secs(),
                count(counts.frames),
                pps(frame_rate),
                bps(bit_rate),
                count(lost)
            ));
        }
    }
}

#[derive(Serialize)]
struct Second {
    bps: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<u64>,
    dropped: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupLine>,
}
