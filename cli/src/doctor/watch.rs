//! `doctor --watch`: every loss counter from the wire to the application, held against itself.

mod layer;
mod sources;

use std::thread;
use std::time::{Duration, Instant};

use linerate::PortInfo;
use serde::Serialize;

use crate::failure::Failure;
use crate::format::{count, plural};
use crate::output::Output;
use crate::signals::Interrupt;

use layer::{Layer, Loss};

/// What was lost where.
#[derive(Debug, Serialize)]
struct Watched<'a> {
    r#final: bool,
    seconds: f64,
    /// Frames that the interfaces took in.
    received: u64,
    /// The layer that lost most; null when nothing was lost.
    layer: Option<Layer>,
    losses: &'a [Loss],
    /// What grew although it is no loss by itself.
    signs: &'a [Loss],
    not_seen: &'a [String],
}

/// The first line: from here on losses are seen.
#[derive(Debug, Serialize)]
struct Watching {
    r#final: bool,
    counters: usize,
}

/// Reads everything, waits, reads again.
pub(super) fn run(
    ports: &[PortInfo],
    seconds: f64,
    metrics: &[String],
    out: &Output,
) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let before = sources::read(ports, metrics, true)?;
    let begun = Instant::now();
    out.json(&Watching { r#final: false, counters: before.counters() });
    out.notice(&format!(
        "watching {} for {seconds} s",
        plural(before.counters() as u64, "counter")
    ));
    while begun.elapsed().as_secs_f64() < seconds && !interrupt.asked() && !out.closed() {
        thread::sleep(Duration::from_millis(50));
    }
    let after = sources::read(ports, metrics, false)?;
    let (mut losses, signs): (Vec<_>, Vec<_>) =
        after.since(&before).into_iter().partition(Loss::is_loss);
    losses.sort_by_key(|loss| (loss.layer, std::cmp::Reverse(loss.frames)));
    let watched = Watched {
        r#final: true,
        seconds: begun.elapsed().as_secs_f64(),
        received: after.received.saturating_sub(before.received),
        layer: layer::worst(&losses),
        losses: &losses,
        signs: &signs,
        not_seen: &after.not_seen,
    };
    out.json(&watched);
    out.text(&text(&watched, out));
    match watched.layer {
        Some(_) => Err(Failure::new("frames were lost").told(true)),
        None => Ok(()),
    }
}

fn text(watched: &Watched<'_>, out: &Output) -> String {
    let paint = out.paint();
    let mut lines = vec![format!(
        "in {:.1} s: {} received",
        watched.seconds,
        plural(watched.received, "frame")
    )];
    let row = |loss: &Loss| {
        format!(
            "  {:<12} {:>12}  {} ({})",
            loss.layer.name(),
            count(loss.frames),
            loss.counter,
            loss.place
        )
    };
    lines.extend(watched.losses.iter().map(|loss| paint.bad(&row(loss))));
    lines.extend(watched.signs.iter().map(|loss| paint.dim(&row(loss))));
    lines.push(match watched.layer {
        Some(layer) => paint.bold(&format!("lost at: {} — {}", layer.name(), layer.advice())),
        None => paint.good("no loss at any layer that can be seen"),
    });
    lines.extend(watched.not_seen.iter().map(|what| format!("not seen: {what}")));
    lines.join("\n")
}
